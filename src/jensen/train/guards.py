"""Guards: what must be true of a training, checked while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DeadTermError
from ..roles import Estimate

__all__ = ["LiveTerms"]

_PATIENCE = 1024


class LiveTerms:
    """Checks that each term of an objective has a gradient, at least once within one period of its schedules.

    A term whose weight is still zero, or whose floor hides it, is looked at again after 1, 2, 4, 8, … steps.

    Arguments:
        period: The step from which on all schedules have shown their values.
        steps: The number of steps of the training.
        alive: The terms that have been seen to have a gradient.
    """

    def __init__(self, period: int, steps: int, alive: Sequence[str] = ()) -> None:
        self.deadline = min(max(period, _PATIENCE), steps - 1)
        self.alive = set(alive)

    def watch(self, estimate: Estimate, model: nn.Module, number: int) -> None:
        """Looks at the terms of one step.

        Raises:
            DeadTermError: If the deadline has passed and a term never had a gradient.
        """
        waiting = [name for name in estimate.terms if name not in self.alive]
        if not waiting or (number & (number - 1) and number != self.deadline):
            return
        parameters = [p for p in model.parameters() if p.requires_grad]
        for name in waiting:
            if _has_gradient(estimate.terms[name], parameters):
                self.alive.add(name)
            elif number >= self.deadline:
                raise DeadTermError(
                    f"the term {name!r} of the objective has had no gradient with respect to any parameter in "
                    f"{number + 1} steps: it is clamped, detached or weighted with zero. Remove it, or mend what "
                    "hides it."
                )

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"alive": sorted(self.alive)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to what a checkpoint kept."""
        self.alive = set(state["alive"])


def _has_gradient(term: Tensor, parameters: list[nn.Parameter]) -> bool:
    if not term.requires_grad:
        return False
    gradients = torch.autograd.grad(term.mean(), parameters, retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.count_nonzero()) for gradient in gradients)
