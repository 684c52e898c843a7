"""A measured quantity with its standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..numbers import finite, mean_and_se

__all__ = ["Measured", "mean_of"]


@dataclass(frozen=True)
class Measured:
    """A value, its standard error and its unit.

    Arguments:
        value: The value.
        se: Its standard error; 0 for an exact value, not a number where it is unknown.
        unit: The unit.

    Example:
        >>> gap = Measured(1.5, 0.25)
        >>> print(gap, gap.beyond(0.5), gap.beyond(1.5))
        1.50 ± 0.25 nats/example 4.0 0.0
    """

    value: float
    se: float
    unit: str = "nats/example"

    def beyond(self, margin: float) -> float:
        """How many standard errors the value lies above a margin; infinite for an exact value that is not at it."""
        distance = self.value - margin
        if self.se == 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / self.se

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data; what is not finite is None."""
        return {"value": finite(self.value), "se": finite(self.se), "unit": self.unit}

    def __str__(self) -> str:
        error = f" ± {self.se:.2f}" if math.isfinite(self.se) and self.se > 0 else ""
        return f"{self.value:.2f}{error} {self.unit}".rstrip()


def mean_of(values: Tensor, unit: str = "nats/example") -> Measured:
    """The mean of values, shape (N,), with its standard error over them.

    Example:
        >>> import torch
        >>> mean_of(torch.tensor([1.0, 3.0]))
        Measured(value=2.0, se=1.0, unit='nats/example')
    """
    return Measured(*mean_and_se(values), unit=unit)
