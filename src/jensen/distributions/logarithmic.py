"""Quantities by their logarithm or log-odds, where the quantity itself would be rounded to a border of its support."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch import distributions as D
from torch.distributions import Distribution, constraints
from torch.types import _size

from .beta import log_beta

__all__ = ["LogGamma", "LogitBeta", "unconstrained_of"]


class LogGamma(Distribution):
    r"""The logarithm z of a gamma variable, :math:`\log p(z) = a \log b - \log \Gamma(a) + a z - b e^z`.

    Arguments:
        concentration: The concentration a > 0, any shape.
        rate: The rate b > 0, of the same shape.

    Example:
        >>> LogGamma(torch.tensor(1.0), torch.tensor(1.0)).log_prob(torch.tensor(0.0))
        tensor(-1.)
    """

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.real

    def __init__(self, concentration: Tensor, rate: Tensor, *, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = concentration, rate
        super().__init__(concentration.shape, validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        a, b, z = self.concentration.double(), self.rate.double(), value.double()
        return (a * b.log() - torch.lgamma(a) + a * z - b * z.exp()).to(value.dtype)

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        a = self.concentration.expand(self._extended_shape(sample_shape))
        # Gamma(a) is Gamma(a + 1) times u^(1 / a), whose logarithm no small a pushes out of what floats can hold.
        log_u = torch.rand(a.shape, dtype=a.dtype, device=a.device).clamp(min=torch.finfo(a.dtype).tiny).log()
        return torch._standard_gamma(a + 1).log() + log_u / a - self.rate.log()


class LogitBeta(Distribution):
    r"""The log-odds z of a beta variable, :math:`\log p(z) = a \log \sigma(z) + b \log \sigma(-z) - \log B(a, b)`.

    Arguments:
        concentration1: The first concentration a > 0, any shape.
        concentration0: The second concentration b > 0, of the same shape.

    Example:
        >>> LogitBeta(torch.tensor(1.0), torch.tensor(1.0)).log_prob(torch.tensor(0.0)).exp()
        tensor(0.2500)
    """

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.real

    def __init__(self, concentration1: Tensor, concentration0: Tensor, *, validate_args: bool | None = None) -> None:
        self.concentration1, self.concentration0 = concentration1, concentration0
        super().__init__(concentration1.shape, validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        a, b, z = self.concentration1.double(), self.concentration0.double(), value.double()
        return (a * F.logsigmoid(z) + b * F.logsigmoid(-z) - log_beta(a, b)).to(value.dtype)

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        one = torch.ones_like(self.concentration1)
        first = LogGamma(self.concentration1, one, validate_args=False).sample(sample_shape)
        return first - LogGamma(self.concentration0, one, validate_args=False).sample(sample_shape)


def unconstrained_of(distribution: Distribution) -> Distribution | None:
    """The distribution of a quantity's log, log-odds or, where values add up to 1, stick-breaking log-odds.

    These are what torch's bijections onto the support take; None where the distribution is not known.

    Example:
        >>> unconstrained_of(D.Gamma(1.0, 1.0)).log_prob(torch.tensor(0.0))
        tensor(-1.)
    """
    if isinstance(distribution, D.LogNormal):
        return distribution.base_dist
    if isinstance(distribution, D.Gamma):
        return LogGamma(distribution.concentration, distribution.rate, validate_args=False)
    if isinstance(distribution, D.InverseGamma):
        log_gamma = LogGamma(distribution.concentration, distribution.rate, validate_args=False)
        return D.TransformedDistribution(log_gamma, D.AffineTransform(0.0, -1.0), validate_args=False)
    if isinstance(distribution, D.Weibull):
        one = torch.ones_like(distribution.scale)
        onto = D.AffineTransform(distribution.scale.log(), 1 / distribution.concentration)
        return D.TransformedDistribution(LogGamma(one, one, validate_args=False), onto, validate_args=False)
    if isinstance(distribution, D.Beta):
        return LogitBeta(distribution.concentration1, distribution.concentration0, validate_args=False)
    if isinstance(distribution, D.Dirichlet):  # each value's share of what the values before it leave is a beta
        a = distribution.concentration
        rest = a.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        equal = torch.arange(a.shape[-1] - 1, 0, -1, dtype=a.dtype, device=a.device).log()
        shares = LogitBeta(a[..., :-1], rest, validate_args=False)
        return D.TransformedDistribution(shares, D.AffineTransform(equal, 1.0), validate_args=False)
    return None
