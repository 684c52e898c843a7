"""Schedules: functions from the step (0, 1, 2, …) to a number."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from .errors import OptionError
from .spec import declared

__all__ = ["Constant", "Cosine", "Linear", "Schedule", "as_schedule"]


@runtime_checkable
class Schedule(Protocol):
    """A number that depends on the step alone; ``period`` is the step from which on it has shown all its values."""

    period: int

    def __call__(self, step: int) -> float: ...


@declared("schedules.Constant")
class Constant:
    """The same value at every step.

    Arguments:
        value: The value.

    Example:
        >>> Constant(0.5)(1000)
        0.5
    """

    def __init__(self, value: float) -> None:
        self.value = float(value)
        self.period = 1

    def __call__(self, step: int) -> float:
        return self.value


@declared("schedules.Linear")
class Linear:
    r"""A straight line, then flat: :math:`s + (e - s) \min(1, t / T)`, the KL warm-up of Sønderby et al. (2016).

    Arguments:
        start: The value :math:`s` at step 0.
        end: The value :math:`e` from step :math:`T` on.
        steps: The length :math:`T` of the ramp in steps.

    Raises:
        OptionError: If ``steps`` is not positive.

    Example:
        >>> ramp = Linear(0.0, 1.0, steps=10)
        >>> ramp(0), ramp(5), ramp(50)
        (0.0, 0.5, 1.0)
    """

    def __init__(self, start: float, end: float, steps: int) -> None:
        if steps < 1:
            raise OptionError(f"a linear schedule needs at least 1 step; got steps={steps}.")
        self.start, self.end, self.steps = float(start), float(end), int(steps)
        self.period = self.steps + 1

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(1.0, step / self.steps)


@declared("schedules.Cosine")
class Cosine:
    r"""A linear warm-up, then half a cosine from the peak to the floor (Loshchilov & Hutter, 2017).

    Arguments:
        peak: The highest value.
        steps: The step at which the floor is reached.
        warmup: The number of steps that rise linearly to the peak.
        floor: The value from ``steps`` on.

    Raises:
        OptionError: If ``warmup`` is not below ``steps``.

    Example:
        >>> rate = Cosine(1.0, steps=100, warmup=10)
        >>> rate(0), rate(9), round(rate(55), 3), rate(100)
        (0.1, 1.0, 0.5, 0.0)
    """

    def __init__(self, peak: float, steps: int, warmup: int = 0, floor: float = 0.0) -> None:
        if not 0 <= warmup < steps:
            raise OptionError(f"a cosine schedule needs 0 <= warmup < steps; got warmup={warmup}, steps={steps}.")
        self.peak, self.floor = float(peak), float(floor)
        self.steps, self.warmup = int(steps), int(warmup)
        self.period = self.steps

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / (self.steps - self.warmup))
        return self.floor + (self.peak - self.floor) * 0.5 * (1.0 + math.cos(math.pi * done))


def as_schedule(value: float | Schedule) -> Schedule:
    """A number as a constant schedule; a schedule as it is."""
    return value if isinstance(value, Schedule) else Constant(value)
