"""The evenly spaced grid on which the values of a data set lie, if there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_LEVELS", "PIXELS", "grid_of", "points_of"]

Array = NDArray[Any]

MAX_LEVELS = 1024
PIXELS = (0.0, 1.0, 256)  # offset, step and levels of 8-bit images


def grid_of(values: Array, low: float, high: float, *, pixels: bool) -> tuple[float, float, int] | None:
    """The evenly spaced grid of at most 1024 levels on which all values lie: offset, step and levels."""
    if values.dtype == np.bool_:
        return 0.0, 1.0, 2
    sample = np.unique(values.ravel()[:: max(1, values.size // 200_000)])
    if len(sample) > MAX_LEVELS:
        return None
    eight_bits = values.dtype == np.uint8 and (pixels or high > 127)
    if eight_bits and len(sample) > 2:
        return PIXELS  # an 8-bit image, whether or not each of its levels occurs
    points = np.unique(np.unique(values).astype(np.float64))
    if eight_bits and len(points) > 2:
        return PIXELS
    step = float(np.diff(points).min(initial=np.inf))
    if len(points) > MAX_LEVELS or not high - low < MAX_LEVELS * step:
        return None
    levels = round((high - low) / step) + 1
    if levels > MAX_LEVELS or len(points) * 20 < levels or len(points) == values.size:
        return None
    steps = (points - low) / step
    return (low, step, levels) if np.abs(steps - np.rint(steps)).max() < 1e-3 else None


def points_of(values: Array, offset: float, step: float, levels: int) -> list[float]:
    """The points of a grid, where the formula does not give the values that were found to the last bit."""
    found = np.unique(values).astype(np.float64)
    points = offset + step * np.arange(levels)
    where = np.rint((found - offset) / step).astype(np.int64)
    if np.array_equal(points[where].astype(values.dtype).astype(np.float64), found):
        return []
    points[where] = found
    return [float(point) for point in points]
