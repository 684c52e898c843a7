"""Priors over sticks that are broken, and over features whose probabilities they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from ..distributions import (
    Bernoulli,
    Beta,
    Joint,
    diagonal_normal,
    falling_logits,
    relaxed_coins,
    stick_breaking,
    with_strengths,
)
from ..errors import OptionError
from ..roles import Given
from ..spec import declared

__all__ = ["IndianBuffet", "StickBreaking", "Sticks"]


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise OptionError(f"{name} must be a positive number; got {name}={value}.")


@declared("priors.Sticks")
class Sticks(nn.Module):
    r"""Independent betas, :math:`\prod_t \mathrm{Beta}(v_t; \alpha, \beta)`.

    Arguments:
        size: The number of sticks T.
        alpha: The concentration of ones.
        beta: The concentration of zeros.

    Raises:
        OptionError: If there is no stick, or a concentration is not positive.

    Example:
        >>> Sticks(3, alpha=4.0)().mean
        tensor([0.8000, 0.8000, 0.8000])
    """

    concentrations: Tensor

    def __init__(self, size: int, alpha: float = 1.0, beta: float = 1.0) -> None:
        super().__init__()
        if size < 1:
            raise OptionError(f"there must be at least one stick; got size={size}.")
        _positive(alpha=alpha, beta=beta)
        self.register_buffer("concentrations", torch.tensor([[float(alpha)], [float(beta)]]).expand(2, size).clone())

    def forward(self, given: Given | None = None) -> Independent[Beta]:
        ones, zeros = self.concentrations
        return Independent(Beta(ones, zeros, validate_args=False), 1, validate_args=False)


@declared("priors.StickBreaking")
class StickBreaking(Sticks):
    r"""Shares :math:`v_t \sim \mathrm{Beta}(1, \alpha)` of what is left of a stick; the likelihood sees the pieces.

    They are the weights :math:`\pi_t = v_t \prod_{s < t} (1 - v_s)` of a Dirichlet process, cut off after T sticks: the
    rest is the last of T + 1 weights, which add up to 1.

    References:
        Sethuraman (1994), A constructive definition of Dirichlet priors. Nalisnick, Smyth (2017), Stick-breaking
        variational autoencoders.

    Arguments:
        size: The number of sticks T.
        alpha: The concentration α; the larger, the more pieces matter.

    Raises:
        OptionError: If there is no stick, or the concentration is not positive.

    Example:
        >>> prior = StickBreaking(3, alpha=2.0)
        >>> prior.unpack(prior().mean)
        tensor([0.3333, 0.2222, 0.1481, 0.2963])
    """

    def __init__(self, size: int, alpha: float = 5.0) -> None:
        super().__init__(size, 1.0, alpha)

    def moments(self) -> tuple[Tensor, Tensor]:
        r"""The means and standard deviations of the pieces, each of shape (T + 1,), by

        .. math:: E[v_t^m] = \frac{m!\, \Gamma(\alpha + 1)}{\Gamma(\alpha + 1 + m)}, \quad
                  E[(1 - v_t)^m] = \frac{\alpha}{\alpha + m}
        """
        alpha = self.concentrations[1].double()
        mean = stick_breaking(1 / (alpha + 1))
        rest = (alpha / (alpha + 2)).cumprod(0)
        first = 2 / ((alpha + 1) * (alpha + 2))
        square = torch.cat([first * torch.cat([torch.ones_like(rest[:1]), rest[:-1]]), rest[-1:]])
        spread = (square - mean.square()).clamp(min=0).sqrt()
        return mean.to(self.concentrations), spread.to(self.concentrations)

    def unpack(self, v: Tensor) -> Tensor:
        """The pieces of the stick, shape (K, B, T + 1)."""
        return stick_breaking(v)


@declared("priors.IndianBuffet")
class IndianBuffet(nn.Module):
    r"""Features that are on or off, :math:`z_t \sim \mathrm{Bern}(\pi_t)`, with probabilities from shared sticks.

    .. math:: \pi_t = \prod_{s \le t} v_s, \quad v_t \sim \mathrm{Beta}(\alpha, 1), \quad a_t \sim N(0, 1)

    The sticks are latents of the whole data set, of which :class:`jensen.SharedVAE` draws one set in a step; where none
    are given, they are at their prior mean. The likelihood sees the products :math:`z_t a_t`, so that the strength of a
    feature that is off is no latent (:class:`jensen.distributions.SpikeAndSlab`).

    References:
        Griffiths, Ghahramani (2011), The Indian buffet process. Teh, Görür, Ghahramani (2007), Stick-breaking
        construction for the Indian buffet process. Singh, Ling, Doshi-Velez (2017).

    Arguments:
        features: The number of features T at which the process is cut off.
        alpha: The concentration α, the expected number of features that are on.
        loadings: Whether each feature has a strength :math:`a_t`; otherwise the likelihood sees z.
        temperature: In training, the temperature of relaxed features, of which z then holds the log-odds; None for
            features that are 0 or 1.

    Raises:
        OptionError: If an argument is out of range.

    Example:
        >>> IndianBuffet(3, alpha=1.0)().mean
        tensor([0.5000, 0.2500, 0.1250, 0.0000, 0.0000, 0.0000])
    """

    zero: Tensor

    def __init__(
        self, features: int, alpha: float = 5.0, *, loadings: bool = True, temperature: float | None = None
    ) -> None:
        super().__init__()
        if features < 1:
            raise OptionError(f"there must be at least one feature; got features={features}.")
        _positive(alpha=alpha, temperature=1.0 if temperature is None else temperature)
        self.features, self.alpha = features, float(alpha)
        self.loadings, self.temperature = loadings, temperature
        self.register_buffer("zero", torch.zeros(features), persistent=False)

    def forward(self, given: Given | None = None) -> Distribution:
        known = None if given is None else given.shared
        sticks = self.zero + self.alpha / (self.alpha + 1) if known is None else known
        coins = self._coins(falling_logits(sticks))
        if not self.loadings:
            return Joint([coins], validate_args=False)
        strengths = diagonal_normal(self.zero, torch.ones_like(self.zero), 1)
        return with_strengths(coins, strengths, relaxed=self._relaxed is not None)

    @property
    def _relaxed(self) -> float | None:
        """The temperature of features that are relaxed now."""
        return self.temperature if self.training else None

    def _coins(self, logits: Tensor) -> Distribution:
        if self._relaxed is not None:
            return relaxed_coins(logits, self._relaxed)
        return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)

    def unpack(self, z: Tensor) -> Tensor:
        """What the likelihood takes: features times their strengths, shape (K, B, T)."""
        features = z[..., : self.features].sigmoid() if self._relaxed is not None else z[..., : self.features]
        return features * z[..., self.features :] if self.loadings else features
