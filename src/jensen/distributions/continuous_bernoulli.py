"""A density on the unit interval that is the binary cross-entropy, normalised."""

from __future__ import annotations

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

__all__ = ["ContinuousBernoulli"]

_SERIES = 0.15
"""Below this |logit| a power series is closer than the formula, in float64 as in float32."""


class ContinuousBernoulli(Distribution):
    r"""The density proportional to :math:`e^{a x}` on the unit interval, its normaliser right at every logit.

    .. math:: p(x) = \frac{a}{e^a - 1} e^{a x}

    References:
        Loaiza-Ganem, Cunningham (2019), The continuous Bernoulli: fixing a pervasive error in variational autoencoders.

    Arguments:
        logits: The logits :math:`a`, any shape.

    Example:
        >>> d = ContinuousBernoulli(torch.tensor([0.0, 20.0]))
        >>> x = torch.linspace(0, 1, 2001)[:, None].expand(-1, 2)
        >>> torch.trapezoid(d.log_prob(x).exp(), x, dim=0)
        tensor([1.0000, 1.0000])
    """

    arg_constraints = {"logits": constraints.real}
    support = constraints.unit_interval

    def __init__(self, logits: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: None = None) -> ContinuousBernoulli:
        return ContinuousBernoulli(self.logits.expand(batch_shape), validate_args=False)

    def _large(self) -> tuple[Tensor, Tensor]:
        """|a|, replaced by 1 where the series is used, and where that is."""
        small = self.logits.abs() < _SERIES
        return torch.where(small, torch.ones_like(self.logits), self.logits).abs(), small

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        size, small = self._large()
        # Measured from the end where the density is highest, so that nothing large is subtracted from anything large.
        distance = torch.where(self.logits > 0, 1 - value, value)
        formula = size.log() - size * distance - torch.log(-torch.expm1(-size))
        a = torch.where(small, self.logits, torch.zeros_like(self.logits))
        square = a.square()
        log_sinhc = square * (1 / 24 - square * (1 / 2880 - square * (1 / 181440 - square / 9676800)))
        return torch.where(small, a * (value - 0.5) - log_sinhc, formula)

    @property
    def mean(self) -> Tensor:
        size, small = self._large()
        below = 1 / size + torch.exp(-size) / torch.expm1(-size)
        a = torch.where(small, self.logits, torch.zeros_like(self.logits))
        square = a.square()
        series = 0.5 + a * (1 / 12 - square * (1 / 720 - square * (1 / 30240 - square / 1209600)))
        return torch.where(small, series, torch.where(self.logits > 0, 1 - below, below))

    @property
    def variance(self) -> Tensor:
        size, small = self._large()
        formula = size.pow(-2) - torch.exp(-size) / torch.expm1(-size).square()
        square = torch.where(small, self.logits, torch.zeros_like(self.logits)).square()
        series = 1 / 12 - square * (1 / 240 - square * (1 / 6048 - square / 172800))
        return torch.where(small, series, formula)

    def icdf(self, value: Tensor) -> Tensor:
        """The value below which the given share of the mass lies."""
        size = self.logits.abs().clamp(min=torch.finfo(self.logits.dtype).eps)
        share = torch.where(self.logits > 0, 1 - value, value)
        from_end = (-torch.log1p(share * torch.expm1(-size)) / size).clamp(0, 1)
        return torch.where(self.logits > 0, 1 - from_end, from_end)

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            return self.icdf(torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device))
