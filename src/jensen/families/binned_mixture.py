"""Mixtures of discretised logistics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent, MixtureSameFamily, constraints

from ..distributions import Categorical, DiscretizedLogistic, UnitGrid, bounded_scale, unbounded_scale
from ..errors import OptionError
from ..spec import declared
from .base import Measure, event_shape_of

__all__ = ["DiscretizedLogisticMixture"]

_ROWS = 5000
"""How many rows the quantiles are taken from."""


@declared("families.DiscretizedLogisticMixture")
class DiscretizedLogisticMixture(nn.Module):
    r"""Binned data, each dimension a mixture of logistics integrated over the bins.

    .. math:: P(x) = \prod_d \sum_c \pi_{dc} P_{\mathrm{logistic}}(x_d; \mu_{dc}, s_{dc})

    References:
        Salimans, Karpathy, Chen, Kingma (2017), PixelCNN++.

    Arguments:
        shape: The event shape; an integer D means (D,).
        levels: The number of levels L, 256 for 8-bit images.
        components: The number of logistics in each dimension.

    Raises:
        OptionError: If there are fewer than 2 levels or no component.

    Example:
        >>> family = DiscretizedLogisticMixture(2, levels=256, components=5)
        >>> family.parameter_shapes
        ((2, 5), (2, 5), (2, 5))
        >>> family(*(torch.zeros(2, 5),) * 3).log_prob(torch.tensor([0.0, 1.0])) < 0
        tensor(True)
    """

    measure: Measure = "mass"
    _centres: Tensor

    def __init__(self, shape: int | Sequence[int], levels: int, components: int = 5) -> None:
        super().__init__()
        if levels < 2:
            raise OptionError(f"a grid needs at least 2 levels; got {levels}.")
        if components < 1:
            raise OptionError(f"a mixture needs at least 1 component; got components={components}.")
        self.event_shape = event_shape_of(shape)
        self.levels = levels
        self.components = components
        self.support: constraints.Constraint = UnitGrid(levels)
        self.parameter_shapes: tuple[tuple[int, ...], ...] = ((*self.event_shape, components),) * 3
        self.register_buffer("_centres", (torch.arange(components) + 0.5) / components, persistent=False)

    def forward(self, logits: Tensor, loc: Tensor, raw_scale: Tensor) -> Independent[MixtureSameFamily]:
        # A network at zero spreads broad components evenly over the grid.
        scale = bounded_scale(raw_scale - 2.0)
        bins = DiscretizedLogistic(loc + self._centres, scale, self.levels, validate_args=False)
        mixture = MixtureSameFamily(Categorical(logits=logits, validate_args=False), bins, validate_args=False)
        return Independent(mixture, len(self.event_shape), validate_args=False)

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """Equal weights, locations at quantiles of each dimension, and scales that cover the space between them."""
        ordered = x[:: max(1, len(x) // _ROWS)].sort(0).values
        index = (self._centres * len(ordered)).long().clamp(max=len(ordered) - 1)
        loc = ordered[index].movedim(0, -1)
        spread = x.std(0, correction=0) * math.sqrt(3) / math.pi / self.components
        raw = unbounded_scale(spread.clamp(min=0.5 / (self.levels - 1))) + 2.0
        return torch.zeros_like(loc), loc - self._centres, raw[..., None].expand_as(loc).contiguous()
