"""One step: gather, encode, draw, differentiate, guard, update. The only place that knows there is a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
import torch._dynamo
from torch import Tensor

from ..data import Rows
from ..hardware import keep_pages
from ..precision import conditionals_of, networks_in
from ..roles import Estimate, Objective
from .adam import Adam
from .guards import StepGuard
from .options import TrainOptions
from .profile import Profile
from .sums import judged, summed

__all__ = ["Stepper"]


class Outcome(NamedTuple):
    """What came of a step: its loss, the names of its numbers, their judged sums, and whether it was taken."""

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
        self.adam = Adam(self.parameters, options.weight_decay)
        self.guard = StepGuard(options.clip, device)
        self.precision = options.precision
        self.forward: Callable[[Tensor, Tensor, Any], tuple[Tensor, list[str], Tensor]] = self._forward
        self.judge = self.guard.judge
        # A hook that changes gradients on their way, which some estimators set, would have no effect in a graph.
        self.compiled, self.warm = options.compiled and getattr(objective, "compiles", True), False
        self.seen: set[int] = set()  # a graph is compiled for each size of a batch
        self.whole: Callable[[Tensor, Tensor, Tensor], Outcome] | None = None
        # torch compiles a function that takes gradients only where it is asked to.
        self.tracing: AbstractContextManager[None] = torch._dynamo.config.patch(trace_autograd_ops=True)
        if self.compiled:
            mode = "reduce-overhead" if device.type == "cuda" else "default"
            self.forward = torch.compile(self._forward, dynamic=False, mode=mode)
            self.judge = torch.compile(self.guard.judge, dynamic=False)
            if device.type == "cpu":
                self.whole = torch.compile(self._whole, dynamic=False, fullgraph=True)

    def _estimate(self, stored: Tensor, index: Tensor, number: Any) -> Estimate:
        x, given = self.rows.encoded(stored, index)
        return self.objective(self.model, x, given, number)

    def _forward(self, stored: Tensor, index: Tensor, number: Any) -> tuple[Tensor, list[str], Tensor]:
        estimate = self._estimate(stored, index, number)
        return estimate.loss, *summed(estimate, len(index))

    def look(self, index: Tensor, number: int) -> Estimate:
        """The estimate of a step as plain torch computes it, for whoever wants to look into its graph."""
        with networks_in(self.conditionals, self.precision):
            return self._estimate(self.rows.values[index], index, number)

    def take(self, index: Tensor, number: int, rate: float) -> Outcome:
        """Takes a step on the rows with the given numbers."""
        if self.compiled and not self.warm:
            self._warm_up(index, number)
        outcome = self._take_whole(index, number, rate)
        if outcome is None:
            outcome = self._take_in_parts(index, number, rate)
        with self.profile("optimiser"):
            for module in self.followers:
                module.after_step(outcome.good)  # the only place where buffers change
        return outcome

    def _warm_up(self, index: Tensor, number: int) -> None:
        """What torch looks up once and keeps, such as its table of divergences, it cannot look up while it compiles."""
        with torch.random.fork_rng(devices=[index.device] if index.is_cuda else []):
            self.look(index, number)
        self.warm = True

    @contextmanager
    def _timed(self, phase: str, index: Tensor) -> Iterator[None]:
        """The phase of what may be compiled first."""
        compiles = self.compiled and len(index) not in self.seen
        with self.profile("compilation" if compiles else phase):
            yield
        self.seen.add(len(index))

    def _take_whole(self, index: Tensor, number: int, rate: float) -> Outcome | None:
        """Takes a step in one compiled graph; None, and nothing has changed, if this model has none."""
        if self.whole is None:
            return None
        numbers = torch.tensor(float(number)), torch.tensor(rate)  # as numbers they would be compiled in, at each step
        try:
            with self._timed("step", index), networks_in(self.conditionals, self.precision), self.tracing:
                return self.whole(index, *numbers)
        except torch._dynamo.exc.TorchDynamoException:
            self.whole = None
            return None

    def _whole(self, index: Tensor, number: Tensor, rate: Tensor) -> Outcome:
        """A step from the stored rows to the new weights."""
        loss, names, sums = self._forward(self.rows.values[index], index, number)
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        with torch.no_grad():
            squares = [gradient.float().square().sum() for gradient in gradients if gradient is not None]
            good, divisor = self.guard.judge(loss.detach(), torch.stack(squares).sum().sqrt())
            self.adam.trace(gradients, rate, divisor=divisor, good=good)
        return Outcome(loss.detach(), names, judged(sums, good), good)

    def _take_in_parts(self, index: Tensor, number: int, rate: float) -> Outcome:
        phase = self.profile
        with phase("feed"):
            stored = self.rows.values[index]
        with self._timed("forward", index), networks_in(self.conditionals, self.precision):
            loss, names, sums = self.forward(stored, index, torch.tensor(float(number)) if self.compiled else number)
        with phase("backward"):
            for parameter in self.parameters:
                parameter.grad = None
            if loss.requires_grad:
                loss.backward()
        with phase("optimiser"):
            gradients = [parameter.grad for parameter in self.parameters]
            norm = torch.nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])
            good, divisor = self.judge(loss.detach(), norm)
            self.adam.update(gradients, rate, divisor=divisor, good=good)
        return Outcome(loss.detach(), names, judged(sums, good), good)
