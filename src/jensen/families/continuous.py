"""Families of real, positive and fractional values beside the normal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Independent, constraints
from torch.distributions import LogNormal as TorchLogNormal

from .. import distributions
from ..distributions import bounded_scale, unbounded_scale
from ..errors import OptionError
from ..spec import declared
from .base import Measure, event_shape_of
from .location_scale import LocationScale
from .scales import Scale

__all__ = ["ContinuousBernoulli", "LogNormal", "StudentT"]


@declared("families.ContinuousBernoulli")
class ContinuousBernoulli(nn.Module):
    r"""Values between 0 and 1: the binary cross-entropy with the constant that makes it a density.

    .. math:: p(x) = \prod_d \frac{a_d}{e^{a_d} - 1} e^{a_d x_d}

    References:
        Loaiza-Ganem, Cunningham (2019), The continuous Bernoulli: fixing a pervasive error in variational autoencoders.

    Arguments:
        shape: The event shape; an integer D means (D,).

    Example:
        >>> ContinuousBernoulli(2)(torch.zeros(2)).log_prob(torch.tensor([0.1, 0.9]))
        tensor(0.)
    """

    support: ClassVar[constraints.Constraint] = constraints.unit_interval
    measure: Measure = "density"

    def __init__(self, shape: int | Sequence[int]) -> None:
        super().__init__()
        self.event_shape = event_shape_of(shape)
        self.parameter_shapes: tuple[tuple[int, ...], ...] = (self.event_shape,)

    def forward(self, logits: Tensor) -> Independent[distributions.ContinuousBernoulli]:
        values = distributions.ContinuousBernoulli(logits, validate_args=False)
        return Independent(values, len(self.event_shape), validate_args=False)

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logits at which the mean of each dimension is that of the data, no further than 0.005 from the ends."""
        target = x.mean(0).double().clamp(0.005, 0.995)
        low, high = torch.full_like(target, -250.0), torch.full_like(target, 250.0)
        for _ in range(60):
            middle = (low + high) / 2
            above = distributions.ContinuousBernoulli(middle, validate_args=False).mean > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (((low + high) / 2).to(x.dtype),)


@declared("families.StudentT")
class StudentT(LocationScale):
    r"""Independent Student's t: like a normal, but far-out values cost only the logarithm of their distance.

    Arguments:
        shape: The event shape; an integer D means (D,).
        scale: Where :math:`\sigma` comes from; by default one learned number.
        degrees: The degrees of freedom :math:`\nu > 1`, so that there is a mean.
        learned: Whether :math:`\nu` is learned, from the given value on.

    Raises:
        OptionError: If ``degrees`` is not above 1.

    Example:
        >>> far = torch.tensor([30.0])
        >>> StudentT(1, degrees=3.0)(torch.zeros(1)).log_prob(far) > -15
        tensor(True)
    """

    support: ClassVar[constraints.Constraint] = constraints.real
    raw: Tensor

    def __init__(
        self,
        shape: int | Sequence[int],
        scale: Scale | None = None,
        degrees: float = 5.0,
        *,
        learned: bool = True,
    ) -> None:
        super().__init__(shape, scale)
        if not 1.001 <= degrees <= 5000:
            raise OptionError(f"the degrees of freedom lie between 1.001 and 5000; got degrees={degrees}.")
        raw = unbounded_scale(torch.tensor(float(degrees) - 1, dtype=torch.float64)).float()
        if learned:
            self.raw = nn.Parameter(raw)
        else:
            self.register_buffer("raw", raw)

    def forward(self, loc: Tensor, raw_scale: Tensor | None = None) -> Independent[distributions.StudentT]:
        df = 1 + bounded_scale(self.raw)
        values = distributions.StudentT(df, loc, self.scale(raw_scale).expand_as(loc), validate_args=False)
        return Independent(values, len(self.event_shape), validate_args=False)

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """The median of each dimension and, where the network predicts the scale, the spread around it."""
        median = x.median(0).values
        spread = 1.4826 * (x - median).abs().median(0).values
        return self.start(median, torch.where(spread > 0, spread, x.std(0, correction=0)))


@declared("families.LogNormal")
class LogNormal(LocationScale):
    r"""Independent positive values whose logarithms are normal, :math:`\log x_d \sim N(\mu_d, \sigma_d^2)`.

    Arguments:
        shape: The event shape; an integer D means (D,).
        scale: Where :math:`\sigma`, the standard deviation of the logarithm, comes from; by default one learned number.

    Example:
        >>> from jensen.families import FixedScale
        >>> LogNormal(1, FixedScale(1.0))(torch.zeros(1)).log_prob(torch.ones(1))
        tensor(-0.9189)
    """

    support: ClassVar[constraints.Constraint] = constraints.positive

    def forward(self, loc: Tensor, raw_scale: Tensor | None = None) -> Independent[TorchLogNormal]:
        values = TorchLogNormal(loc, self.scale(raw_scale).expand_as(loc), validate_args=False)
        return Independent(values, len(self.event_shape), validate_args=False)

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """The mean of the logarithm of each dimension and, where the network predicts it, its spread."""
        logarithm = x.log()
        return self.start(logarithm.mean(0), logarithm.std(0, correction=0))
