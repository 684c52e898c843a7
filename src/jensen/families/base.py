"""What every family is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

from torch import Tensor
from torch.distributions import Distribution, constraints

from ..errors import OptionError

__all__ = ["Family", "Measure", "event_shape_of", "count_of"]

Measure = Literal["mass", "density"]


class Family(Protocol):
    r"""A module that turns unconstrained network outputs into a distribution of one event.

    ``parameter_shapes`` lists the shape of each parameter it takes; ``support`` is where its events may lie;
    ``measure`` says whether its ``log_prob`` is of a mass or of a density. A likelihood's family also has
    ``marginal(x)``: the parameters, one tensor each, with which it describes rows x of shape (N, \*X) independently of
    anything else; training starts there.
    """

    event_shape: tuple[int, ...]
    parameter_shapes: tuple[tuple[int, ...], ...]
    measure: Measure

    @property
    def support(self) -> constraints.Constraint: ...

    def __call__(self, *parameters: Tensor) -> Distribution: ...


def event_shape_of(shape: int | Sequence[int]) -> tuple[int, ...]:
    """An event shape; an integer D means (D,)."""
    event = (shape,) if isinstance(shape, int) else tuple(shape)
    if not event or any(size < 1 for size in event):
        raise OptionError(f"an event shape needs one or more positive sizes; got {shape!r}.")
    return event


def count_of(family: Family) -> int:
    """The number of unconstrained parameters of a family."""
    return sum(math.prod(shape) for shape in family.parameter_shapes)
