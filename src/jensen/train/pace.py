"""How long a step takes, measured before the first one, so that no clock has a say once training runs."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import Rows, batch_index
from ..roles import Given, Objective
from .options import TrainOptions
from .profile import Profile
from .step import Stepper
from .validation import Validation

__all__ = ["Pace", "measure_pace"]

_SHARE = 0.95  # of the budget; a machine that others use too is not always as fast as it was for a moment
_MEASURED = 0.02  # of the budget, spent on its pace before; what else starts at the same time is then over
_WARM, _LEAST_STEPS = 4, 8


@dataclass(frozen=True)
class Pace:
    """The median seconds of one step, and those of one validation."""

    step: float
    validation: float

    def steps(self, budget: float, validate_every: Callable[[int], int]) -> int:
        """The number of steps that fit into a budget of seconds with validations, so often for so many steps.

        Example:
            >>> Pace(step=0.01, validation=0.0).steps(100.0, lambda steps: 10)
            9500
        """
        every = validate_every(math.ceil(_SHARE * budget / self.step))
        return max(1, int(_SHARE * budget / (self.step + self.validation / every)))


def measure_pace(
    model: Any,
    objective: Objective,
    rows: Rows,
    valid: Tensor,
    options: TrainOptions,
    device: torch.device,
    budget: float,
    valid_given: Given | None = None,
) -> Pace:
    """Takes some steps on a copy of a model, and one validation, and reads the clock, for a budget of seconds."""
    trial = copy.deepcopy(model).to(device).train()
    rows = rows.to(device)
    stepper = Stepper(trial, objective, rows, options, device, Profile(on=False))
    times: list[float] = []

    def one(number: int) -> float:
        start = time.perf_counter()
        index = batch_index(len(rows), options.batch_size, options.seed, number).to(device)
        stepper.take(index, number, options.learning_rate)
        stepper.guard.read()
        return time.perf_counter() - start

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for number in range(_WARM):  # compilation and first allocations
            one(number)
        until = time.perf_counter() + _MEASURED * budget
        while len(times) < _LEAST_STEPS or time.perf_counter() < until:
            times.append(one(_WARM + len(times)))
    start = time.perf_counter()
    validation = Validation(trial, objective, valid, valid_given, options.seed)
    validation.summary(validation.scores(), 0.0)
    return Pace(sorted(times)[len(times) // 2], time.perf_counter() - start)
