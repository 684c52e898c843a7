"""Distributions on the points of a unit grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

from .categorical import Categorical

__all__ = ["BinnedCategorical", "DiscretizedLogistic", "UnitGrid"]


class UnitGrid(constraints.Constraint):
    r"""The grid :math:`\{0, \frac{1}{L-1}, \dots, 1\}` on which binned data lie.

    Arguments:
        levels: The number of grid points :math:`L \ge 2`.

    Example:
        >>> UnitGrid(3).check(torch.tensor([0.0, 0.5, 0.6]))
        tensor([ True,  True, False])
    """

    is_discrete = True

    def __init__(self, levels: int) -> None:
        self.levels = levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        level = value * (self.levels - 1)
        on_grid = (level - level.round()).abs() < 1e-3
        return on_grid & (value >= 0) & (value <= 1)

    def values(self) -> Tensor:
        """All grid points, shape (levels,)."""
        return torch.arange(self.levels) / (self.levels - 1)

    def __repr__(self) -> str:
        return f"UnitGrid({self.levels})"


class DiscretizedLogistic(Distribution):
    r"""A logistic distribution integrated over the bins of a unit grid; the end bins take the tails.

    .. math:: P(x) = \sigma\Bigl(\frac{x + h - \mu}{s}\Bigr) - \sigma\Bigl(\frac{x - h - \mu}{s}\Bigr),
              \quad h = \frac{1}{2 (L - 1)}

    References:
        Salimans, Karpathy, Chen, Kingma (2017), PixelCNN++.

    Arguments:
        loc: The location :math:`\mu`, any shape.
        scale: The scale :math:`s > 0`, broadcastable to ``loc``.
        levels: The number of grid points :math:`L`.

    Example:
        >>> d = DiscretizedLogistic(torch.tensor(0.4), torch.tensor(0.1), levels=16)
        >>> round(float(d.log_prob(UnitGrid(16).values()).exp().sum()), 6)
        1.0
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Tensor, scale: Tensor, levels: int, *, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> UnitGrid:
        return UnitGrid(self.levels)

    def expand(self, batch_shape: _size, _instance: None = None) -> DiscretizedLogistic:
        return DiscretizedLogistic(
            self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.levels, validate_args=False
        )

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        half = 0.5 / (self.levels - 1)
        upper = (value + half - self.loc) / self.scale
        lower = (value - half - self.loc) / self.scale
        # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)): no difference of nearly equal numbers.
        # The width is taken from h itself, since far from the location upper and lower round to the same number.
        below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
        inside = below + above + torch.log(-torch.expm1(-2 * half / self.scale))
        return torch.where(value < half, below, torch.where(value > 1 - half, above, inside))

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        with torch.no_grad():
            tiny = torch.finfo(self.loc.dtype).eps
            u = torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
            x = self.loc + self.scale * torch.logit(u.clamp(tiny, 1 - tiny))
            level: Tensor = (x.clamp(0, 1) * (self.levels - 1)).round()
            return level / (self.levels - 1)

    @property
    def mean(self) -> Tensor:
        # E[level] = sum over thresholds of P(level >= threshold).
        total = torch.zeros_like(self.loc)
        for level in range(1, self.levels):
            total = total + torch.sigmoid((self.loc - (level - 0.5) / (self.levels - 1)) / self.scale)
        return total / (self.levels - 1)

    @property
    def variance(self) -> Tensor:
        # Around the level c next to the mean, where no large numbers cancel: E[(level - c)²] is the sum over thresholds
        # t above c of (2 (t - c) - 1) P(level >= t), and over the others of (2 (c - t) + 1) P(level < t).
        mean = self.mean * (self.levels - 1)
        centre = mean.round()
        total = torch.zeros_like(self.loc)
        for level in range(1, self.levels):
            above = (self.loc - (level - 0.5) / (self.levels - 1)) / self.scale
            steps = 2 * (level - centre) - 1
            total = total + steps.abs() * torch.sigmoid(torch.where(steps > 0, above, -above))
        variance: Tensor = (total - (mean - centre).square()).clamp(min=0)
        return variance / (self.levels - 1) ** 2


class BinnedCategorical(Distribution):
    r"""A free probability for each point of a unit grid: :math:`P(x = \frac{l}{L-1}) = \mathrm{softmax}(a)_l`.

    Arguments:
        logits: The unnormalised log-probabilities :math:`a`, shape (\*, L).

    Example:
        >>> d = BinnedCategorical(torch.tensor([0.0, 0.0, 0.0, 0.0]))
        >>> d.log_prob(torch.tensor(1 / 3)).exp()
        tensor(0.2500)
    """

    arg_constraints = {"logits": constraints.real_vector}

    def __init__(self, logits: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits = logits
        self.levels = logits.shape[-1]
        super().__init__(logits.shape[:-1], validate_args=validate_args)

    @property
    def support(self) -> UnitGrid:
        return UnitGrid(self.levels)

    def expand(self, batch_shape: _size, _instance: None = None) -> BinnedCategorical:
        return BinnedCategorical(self.logits.expand((*batch_shape, self.levels)), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        level = (value * (self.levels - 1)).round().long()
        shape = torch.broadcast_shapes(level.shape, self.batch_shape)
        logits = self.logits.log_softmax(-1).expand((*shape, self.levels))
        return logits.gather(-1, level.expand(shape)[..., None])[..., 0]

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        level = Categorical(logits=self.logits, validate_args=False).sample(sample_shape)
        return level.to(self.logits.dtype) / (self.levels - 1)

    @property
    def mean(self) -> Tensor:
        grid = self.support.values().to(self.logits)
        return (self.logits.softmax(-1) * grid).sum(-1)

    @property
    def variance(self) -> Tensor:
        grid = self.support.values().to(self.logits)
        return (self.logits.softmax(-1) * (grid - self.mean[..., None]).square()).sum(-1)
