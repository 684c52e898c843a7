"""One step: gather, encode, draw, differentiate, guard, update. The only place that knows there is a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..conditional import LowPrecision
from ..data import Rows
from ..hardware import keep_pages
from ..roles import Estimate, Objective
from .guards import StepGuard
from .options import TrainOptions
from .profile import Profile
from .sums import summed

__all__ = ["Stepper", "conditionals_of", "networks_in"]

_TYPES = {"fp32": None, "bf16": torch.bfloat16}


@contextmanager
def networks_in(conditionals: Sequence[LowPrecision], dtype: torch.dtype | None) -> Iterator[None]:
    """Lets the networks of such modules compute in a type inside the block; None leaves them as they are."""
    before = [conditional.dtype for conditional in conditionals]
    for conditional in conditionals:
        conditional.dtype = dtype
    try:
        yield
    finally:
        for conditional, kept in zip(conditionals, before, strict=True):
            conditional.dtype = kept


def conditionals_of(model: nn.Module) -> list[LowPrecision]:
    """The modules of a model whose networks may compute in lower precision."""
    return [module for module in model.modules() if isinstance(module, LowPrecision)]


class Outcome(NamedTuple):
    """What came of a step: its loss, the names and sums of its numbers, and whether it was taken, as a tensor."""

    loss: Tensor
    names: list[str]
    sums: Tensor
    good: Tensor


class Stepper:
    """Takes steps of Adam on a model.

    Arguments:
        model: A model; its parameters are changed in place.
        objective: What is minimised.
        rows: The training rows, on the model's device.
        options: How.
        profile: Who measures.
    """

    def __init__(
        self,
        model: Any,
        objective: Objective,
        rows: Rows,
        options: TrainOptions,
        device: torch.device,
        profile: Profile,
    ) -> None:
        keep_pages()
        self.model, self.objective, self.rows, self.profile = model, objective, rows, profile
        self.conditionals = conditionals_of(model)
        self.followers: list[Any] = [module for module in model.modules() if hasattr(module, "after_step")]
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        decay = options.weight_decay
        adam = torch.optim.AdamW if decay else torch.optim.Adam
        self.optimizer: torch.optim.Optimizer = adam(
            self.parameters, lr=options.learning_rate, fused=True, weight_decay=decay
        )
        self.guard = StepGuard(options.clip, device)
        self.dtype = _TYPES[options.precision]
        self.forward: Callable[[Tensor, Tensor, Any], tuple[Tensor, list[str], Tensor]] = self._forward
        self.judge = self.guard.judge
        self.compiled = options.compiled
        if options.compiled:
            mode = "reduce-overhead" if device.type == "cuda" else "default"
            self.forward = torch.compile(self._forward, dynamic=False, mode=mode)
            self.judge = torch.compile(self.guard.judge, dynamic=False)

    def _estimate(self, stored: Tensor, index: Tensor, number: Any) -> Estimate:
        x, given = self.rows.encoded(stored, index)
        return self.objective(self.model, x, given, number)

    def _forward(self, stored: Tensor, index: Tensor, number: Any) -> tuple[Tensor, list[str], Tensor]:
        estimate = self._estimate(stored, index, number)
        return estimate.loss, *summed(estimate, len(index))

    def look(self, index: Tensor, number: int) -> Estimate:
        """The estimate of a step as plain torch computes it, for whoever wants to look into its graph."""
        with networks_in(self.conditionals, self.dtype):
            return self._estimate(self.rows.values[index], index, number)

    def take(self, index: Tensor, number: int, rate: float) -> Outcome:
        """Takes a step on the rows with the given numbers."""
        phase = self.profile
        with phase("feed"):
            stored = self.rows.values[index]
        with phase("forward"), networks_in(self.conditionals, self.dtype):
            # A number would be compiled into the graph, anew at each step.
            loss, names, sums = self.forward(stored, index, torch.tensor(float(number)) if self.compiled else number)
        with phase("backward"):
            for parameter in self.parameters:
                parameter.grad = None
            if loss.requires_grad:
                loss.backward()
        with phase("optimiser"):
            good = self._update(loss, rate)
            for module in self.followers:
                module.after_step(good)  # the only place where buffers change
            return Outcome(loss.detach(), names, sums, good)

    def _update(self, loss: Tensor, rate: float) -> Tensor:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        good, divisor = self.judge(loss.detach(), gradients)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # A fused optimiser divides by the one and skips the step at the other, both on the device, as for a GradScaler.
        self.optimizer.grad_scale, self.optimizer.found_inf = divisor, (~good).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        return good
