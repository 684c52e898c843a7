"""Schedules: functions from the step (0, 1, 2, …) to a number."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from .errors import OptionError
from .spec import declared

__all__ = ["Constant", "Cosine", "Cyclical", "Linear", "Schedule", "Sigmoid", "as_schedule", "as_weight"]


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


@declared("schedules.Sigmoid")
class Sigmoid:
    r"""An S-shaped ramp, then flat: a logistic curve from start to end, as in Bowman et al. (2016).

    .. math:: s + (e - s)\, \frac{\sigma(a (2 t / T - 1)) - \sigma(-a)}{\sigma(a) - \sigma(-a)}, \quad t \le T

    Arguments:
        start: The value :math:`s` at step 0.
        end: The value :math:`e` from step :math:`T` on.
        steps: The length :math:`T` of the ramp in steps.
        steepness: The number :math:`a`; the larger, the more sudden the rise in the middle.

    Raises:
        OptionError: If ``steps`` or ``steepness`` is not positive.

    Example:
        >>> ramp = Sigmoid(0.0, 1.0, steps=10)
        >>> ramp(0), round(ramp(5), 6), ramp(10), ramp(50)
        (0.0, 0.5, 1.0, 1.0)
    """

    def __init__(self, start: float, end: float, steps: int, steepness: float = 6.0) -> None:
        if steps < 1 or not 0 < steepness < 500:
            raise OptionError(
                f"a sigmoid schedule needs at least 1 step and a steepness between 0 and 500; got steps={steps}, "
                f"steepness={steepness}."
            )
        self.start, self.end, self.steps = float(start), float(end), int(steps)
        self.steepness = float(steepness)
        self.period = self.steps + 1

    def __call__(self, step: int) -> float:
        # (sigma(u) - sigma(-a)) / (sigma(a) - sigma(-a)) by the odd function tanh.
        position = min(1.0, step / self.steps)
        share = 0.5 * (1 + math.tanh(0.5 * self.steepness * (2 * position - 1)) / math.tanh(0.5 * self.steepness))
        return self.start + (self.end - self.start) * share


@declared("schedules.Cyclical")
class Cyclical:
    r"""Repeated ramps: in each cycle a straight line over a share of it, then flat (Fu et al., 2019).

    Arguments:
        start: The value at the beginning of each cycle.
        end: The value at the end of each ramp, kept after the last cycle.
        steps: The number of steps of all cycles together.
        cycles: The number of cycles.
        rising: The share of a cycle in which the value rises.

    Raises:
        OptionError: If there is less than a step in a cycle, or the share lies outside (0, 1].

    Example:
        >>> waves = Cyclical(0.0, 1.0, steps=40, cycles=4)
        >>> [round(waves(step), 2) for step in (0, 2, 5, 9, 10, 12, 40)]
        [0.0, 0.4, 1.0, 1.0, 0.0, 0.4, 1.0]
    """

    def __init__(self, start: float, end: float, steps: int, cycles: int = 4, rising: float = 0.5) -> None:
        if cycles < 1 or steps < cycles or not 0 < rising <= 1:
            raise OptionError(
                f"a cyclical schedule needs steps >= cycles >= 1 and 0 < rising <= 1; got steps={steps}, "
                f"cycles={cycles}, rising={rising}."
            )
        self.start, self.end, self.steps = float(start), float(end), int(steps)
        self.cycles, self.rising = int(cycles), float(rising)
        self.period = self.steps + 1

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.end
        position = (step * self.cycles % self.steps) / self.steps  # of whole numbers, so that cycles begin exactly
        return self.start + (self.end - self.start) * min(1.0, position / self.rising)


def as_schedule(value: float | Schedule) -> Schedule:
    """A number as a constant schedule; a schedule as it is."""
    return value if isinstance(value, Schedule) else Constant(value)


def as_weight(beta: float | Schedule) -> Schedule:
    """The weight β of a KL in a loss, as a schedule.

    Raises:
        OptionError: If it is a number that is not positive and finite.
    """
    if isinstance(beta, int | float) and not 0 < beta < math.inf:
        raise OptionError(f"beta must be positive, or the prior would never reach the encoder; got beta={beta}.")
    return as_schedule(beta)
