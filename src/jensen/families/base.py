"""What every family is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from ..errors import OptionError

__all__ = ["Family", "Measure", "count_of", "event_shape_of", "pooled_marginal"]

Measure = Literal["mass", "density"]
_MOST_POOLED = 100_000


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


def pooled_marginal(family: Family, x: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    r"""The parameters with which a family describes all places of rows alike, each of shape (\*shape, ...).

    Of many values a sample is taken, always the same.

    Arguments:
        family: A family with ``marginal``.
        x: Rows, shape (N, \*places, \*shape).
        shape: What a place holds: () for one number, (C,) for channels.
    """
    places = x.reshape(-1, *shape)
    if len(places) > _MOST_POOLED:
        chosen = torch.randint(len(places), (_MOST_POOLED,), generator=torch.Generator().manual_seed(0))
        places = places[chosen.to(places.device)]
    marginal: Callable[[Tensor], tuple[Tensor, ...]] = getattr(family, "marginal")  # noqa: B009 (not every family's)
    return marginal(places)
