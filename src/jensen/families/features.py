"""Families of numbers between 0 and 1 and of features that are on or off."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.distributions import Distribution, Independent, constraints

from .. import distributions
from ..distributions import Joint, Strengths, bounded_scale, diagonal_normal, unbounded_scale, with_strengths
from ..errors import OptionError
from ..spec import declared
from .base import Measure, event_shape_of

__all__ = ["FeatureLoadings", "Kumaraswamy"]

_LEAST_A, _LEAST_B = 0.1, 0.5
_NEXT_TO_ONE, _SHARE = 2.0**-24, 0.0025
"""Half the distance from 1 to the number below it in single precision, and the share of samples that may be nearer."""


@declared("families.Kumaraswamy")
class Kumaraswamy(nn.Module):
    r"""Independent Kumaraswamy distributions of sticks between 0 and 1, :math:`\prod_t q(v_t; a_t, b_t)`.

    With :func:`jensen.distributions.bounded_scale` s of two outputs, :math:`a = 0.1 + s_1` and
    :math:`b = b_0 + s_2^2`, :math:`b_0 = 0.5` up to a = 100, from where on it rises to 0.8 at a = 10,000: below these
    floors more than 0.25 % of the samples would be rounded to 1 in single precision. The square is what a narrow peak
    away from both ends needs.

    References:
        Nalisnick, Smyth (2017), Stick-breaking variational autoencoders.

    Arguments:
        size: The number of sticks T.
        terms: The number of terms of the series in the KL to a beta distribution, as published 10; None computes it.

    Example:
        >>> import torch
        >>> Kumaraswamy(3)(torch.zeros(5, 3), torch.zeros(5, 3)).rsample((2,)).shape
        torch.Size([2, 5, 3])
    """

    support: constraints.Constraint = constraints.unit_interval
    measure: Measure = "density"

    def __init__(self, size: int, terms: int | None = None) -> None:
        super().__init__()
        if terms is not None and terms < 1:
            raise OptionError(f"a series has at least 1 term; got terms={terms}.")
        self.event_shape = event_shape_of(size)
        self.terms = terms
        self.parameter_shapes: tuple[tuple[int, ...], ...] = (self.event_shape, self.event_shape)

    def forward(self, raw_a: Tensor, raw_b: Tensor) -> Independent[distributions.Kumaraswamy]:
        a = _LEAST_A + bounded_scale(raw_a)
        b = _least_b(a) + bounded_scale(raw_b).square()
        sticks = distributions.Kumaraswamy(a, b, terms=self.terms, validate_args=False)
        return Independent(sticks, 1, validate_args=False)

    @staticmethod
    def raw_of(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs that give concentrations, for initial values."""
        return unbounded_scale(a - _LEAST_A), unbounded_scale((b - _least_b(a)).sqrt())


def _least_b(a: Tensor) -> Tensor:
    r"""Where :math:`P(v > 1 - \epsilon) \approx (a \epsilon)^b` is the share that may be rounded."""
    return (math.log(_SHARE) / (a * _NEXT_TO_ONE).log()).clamp(min=_LEAST_B)


@declared("families.FeatureLoadings")
class FeatureLoadings(nn.Module):
    r"""Features that are on or off, and how strong they are:

    .. math:: \prod_t \mathrm{Bern}(z_t) \, N(a_t; \mu_t, \sigma_t^2)^{z_t}

    The strength of a feature that is off is no latent (:class:`jensen.distributions.SpikeAndSlab`).

    In training the samples of z are 0 or 1 with the gradient of a relaxed sample, or the log-odds of that relaxed
    sample itself; in evaluation mode they are 0 or 1, and their probability is a mass. Relaxed ones are never quite
    off, so that there all strengths count, as published.

    References:
        Singh, Ling, Doshi-Velez (2017), Structured variational autoencoders for the beta-Bernoulli process. Maddison,
        Mnih, Teh (2017), The concrete distribution.

    Arguments:
        features: The number of features T.
        loadings: Whether there are such strengths.
        temperature: The temperature of the relaxation.
        relaxed: Whether training sees the relaxed samples themselves, as log-odds, and their density; its bound is
            then one of another model. The prior must be relaxed as well.

    Raises:
        OptionError: If an argument is out of range.

    Example:
        >>> import torch
        >>> FeatureLoadings(3)(torch.zeros(5, 3), torch.zeros(5, 3), torch.zeros(5, 3)).sample().shape
        torch.Size([5, 6])
    """

    measure: Measure = "density"

    def __init__(
        self, features: int, *, loadings: bool = True, temperature: float = 0.5, relaxed: bool = False
    ) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise OptionError(f"a temperature is a positive number; got temperature={temperature}.")
        self.features, self.loadings, self.relaxed = features, loadings, relaxed
        self.temperature = float(temperature)
        self.event_shape = event_shape_of(2 * features if loadings else features)
        self.parameter_shapes: tuple[tuple[int, ...], ...] = ((features,),) * (3 if loadings else 1)

    @property
    def support(self) -> constraints.Constraint:
        """Zeros and ones, or log-odds, then real numbers."""
        if self.loadings and not self._soft:
            return Strengths(self.features)
        features = constraints.real if self._soft else constraints.boolean
        parts = [features, constraints.real][: 1 + self.loadings]
        joined: constraints.Constraint = constraints.cat(parts, -1, [self.features] * len(parts))
        return joined

    def forward(self, logits: Tensor, loc: Tensor | None = None, raw_scale: Tensor | None = None) -> Distribution:
        coins = self._coins(logits)
        if loc is None or raw_scale is None:
            return Joint([coins], validate_args=False)
        return with_strengths(coins, diagonal_normal(loc, bounded_scale(raw_scale), 1), relaxed=self._soft)

    @property
    def _soft(self) -> bool:
        return self.relaxed and self.training

    def _coins(self, logits: Tensor) -> Distribution:
        if self._soft:
            return distributions.relaxed_coins(logits, self.temperature)
        hard = distributions.StraightThroughBernoulli(
            logits, self.temperature, relaxed=self.training, validate_args=False
        )
        return Independent(hard, 1, validate_args=False)
