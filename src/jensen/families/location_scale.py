"""What the families with a location and a scale share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..distributions import unbounded_scale
from ..errors import ShapeError
from .base import Measure, event_shape_of
from .scales import Scale, SharedScale

__all__ = ["LocationScale"]

_LEAST_SPREAD = 1e-3


class LocationScale(nn.Module):
    """What the families with a location and a scale share."""

    measure: Measure = "density"

    def __init__(self, shape: int | Sequence[int], scale: Scale | None = None) -> None:
        super().__init__()
        self.event_shape = event_shape_of(shape)
        self.scale = SharedScale() if scale is None else scale
        if not self.scale.predicted and tuple(self.scale(None).shape) not in ((), self.event_shape):
            raise ShapeError(
                f"the scale has shape {tuple(self.scale(None).shape)}, the events {self.event_shape}; give both the "
                "same shape, or one scale for all."
            )
        self.parameter_shapes: tuple[tuple[int, ...], ...] = (self.event_shape,) * (2 if self.scale.predicted else 1)

    def start(self, loc: Tensor, spread: Tensor) -> tuple[Tensor, ...]:
        """Where training starts: a location and, where the network predicts the scale, one that covers the spread."""
        if not self.scale.predicted:
            return (loc,)
        return loc, unbounded_scale(spread.clamp(_LEAST_SPREAD, 1 / _LEAST_SPREAD))
