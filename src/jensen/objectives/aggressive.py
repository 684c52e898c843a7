"""Aggressive training of the encoder, against a posterior that lags behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..errors import CompositionError, OptionError
from ..roles import BoundKind, Estimate, Given, Objective
from ..spec import declared

__all__ = ["AggressiveInference"]


@declared("objectives.AggressiveInference")
class AggressiveInference:
    """An objective whose first steps train the posterior alone, but for one in each few.

    A decoder that learns first need not heed z, and the posterior, which then has nothing to say, falls back to the
    prior. Where the posterior is trained to the end before each step of the decoder it does not lag behind. The paper
    decides by the clock of the mutual information when to stop; here the number of steps is given, since what is a
    function of the step alone resumes to the bit.

    References:
        He, Spokoyny, Neubig, Berg-Kirkpatrick (2019), Lagging inference networks and posterior collapse in variational
        autoencoders.

    Arguments:
        objective: What is minimised.
        steps: The number of steps of this kind; afterwards everything is trained at each.
        every: Prior and likelihood are trained at each step that is a multiple of this.

    Raises:
        OptionError: If a number is not positive.
        CompositionError: When used, if the model has no prior and likelihood of its own.

    Example:
        >>> from jensen import objectives
        >>> objective = AggressiveInference(objectives.ELBO(), steps=1000)
        >>> objective.kind, objective.alone(0), objective.alone(7), objective.alone(1007)
        ('lower', False, True, False)
    """

    compiles = False

    def __init__(self, objective: Objective, steps: int, every: int = 10) -> None:
        if steps < 1 or every < 2:
            raise OptionError(
                f"aggressive inference needs at least 1 step, and every >= 2; got steps={steps}, every={every}."
            )
        self.objective, self.steps, self.every = objective, int(steps), int(every)
        self.kind: BoundKind = objective.kind
        self.k = objective.k
        self.period = max(objective.period, self.steps + 1)
        self.least_batch = getattr(objective, "least_batch", 1)
        self.decodes = getattr(objective, "decodes", True)

    def alone(self, step: int) -> bool:
        """Whether the posterior is trained alone at a step."""
        return step < self.steps and step % self.every != 0

    def __call__(self, model: Any, x: Any, given: Given | None = None, step: int = 0) -> Estimate:
        roles = [getattr(model, role, None) for role in ("prior", "likelihood")]
        modules = [role for role in roles if isinstance(role, nn.Module)]
        if len(modules) < len(roles):
            raise CompositionError(
                f"aggressive inference trains the posterior alone, beside one prior and one likelihood; "
                f"{type(model).__name__} makes them of several parts. Use its objective by itself."
            )
        if not self.alone(step):
            return self.objective(model, x, given, step)
        with _at_rest(*modules):
            return self.objective(model, x, given, step)


@contextmanager
def _at_rest(*modules: nn.Module) -> Iterator[None]:
    """Keeps the parameters of modules out of the graphs that are made inside the block."""
    moving = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in moving:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)
