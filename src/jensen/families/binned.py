"""Families of data on a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent, constraints

from .. import distributions
from ..distributions import BinnedCategorical, UnitGrid, bounded_scale, unbounded_scale
from ..errors import OptionError
from ..spec import declared
from .base import Measure, event_shape_of

__all__ = ["Categorical", "DiscretizedLogistic"]


class _Binned(nn.Module):
    """What the families on a unit grid share."""

    measure: Measure = "mass"

    def __init__(self, shape: int | Sequence[int], levels: int) -> None:
        super().__init__()
        if levels < 2:
            raise OptionError(f"a grid needs at least 2 levels; got {levels}.")
        self.event_shape = event_shape_of(shape)
        self.levels = levels
        self.support: constraints.Constraint = UnitGrid(levels)


@declared("families.Categorical")
class Categorical(_Binned):
    r"""A free probability for each of L levels in each dimension; values lie on the grid :math:`l / (L - 1)`.

    Arguments:
        shape: The event shape; an integer D means (D,).
        levels: The number of levels L.

    Example:
        >>> family = Categorical(2, levels=3)
        >>> family.parameter_shapes
        ((2, 3),)
        >>> float(family(torch.zeros(2, 3)).log_prob(torch.tensor([0.0, 0.5])).exp())  # doctest: +ELLIPSIS
        0.111...
    """

    def __init__(self, shape: int | Sequence[int], levels: int) -> None:
        super().__init__(shape, levels)
        self.parameter_shapes: tuple[tuple[int, ...], ...] = ((*self.event_shape, levels),)

    def forward(self, logits: Tensor) -> Independent[BinnedCategorical]:
        return Independent(BinnedCategorical(logits, validate_args=False), len(self.event_shape), validate_args=False)

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """The log-frequency of each level in each dimension, smoothed by half an observation."""
        level = (x * (self.levels - 1)).round()
        counts = torch.stack([(level == number).sum(0) for number in range(self.levels)], -1)
        return (torch.log((counts + 0.5) / (len(x) + 0.5 * self.levels)),)


@declared("families.DiscretizedLogistic")
class DiscretizedLogistic(_Binned):
    r"""Binned data as logistics integrated over the bins; values lie on the grid :math:`l / (L - 1)`.

    References:
        Salimans, Karpathy, Chen, Kingma (2017), PixelCNN++.

    Arguments:
        shape: The event shape; an integer D means (D,).
        levels: The number of levels L, 256 for 8-bit images.

    Example:
        >>> family = DiscretizedLogistic(2, levels=256)
        >>> family(torch.full((2,), 0.5), torch.full((2,), -4.0)).log_prob(torch.tensor([0.0, 1.0])) < 0
        tensor(True)
    """

    def __init__(self, shape: int | Sequence[int], levels: int) -> None:
        super().__init__(shape, levels)
        self.parameter_shapes: tuple[tuple[int, ...], ...] = (self.event_shape, self.event_shape)

    def forward(self, loc: Tensor, raw_scale: Tensor) -> Independent[distributions.DiscretizedLogistic]:
        # Centred so that a network at zero predicts the middle of the grid with a broad scale.
        scale = bounded_scale(raw_scale - 2.0)
        bins = distributions.DiscretizedLogistic(loc + 0.5, scale, self.levels, validate_args=False)
        return Independent(bins, len(self.event_shape), validate_args=False)

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logistic with the mean and the spread of each dimension, no narrower than a bin."""
        spread = x.std(0, correction=0) * math.sqrt(3) / math.pi
        return x.mean(0) - 0.5, unbounded_scale(spread.clamp(min=0.5 / (self.levels - 1))) + 2.0
