"""The loop: it takes steps, looks after them, reports, saves, and goes on from where it was."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..data import Rows, batch_index
from ..errors import NonFiniteError, OptionError, RunError
from ..evaluation import device_of
from ..noise import mix, seed_device
from ..numbers import finite
from ..roles import Objective
from ..schedules import Constant, Cosine, Linear, Schedule
from .average import WeightAverage
from .checkpoint import Checkpoint, Checkpoints
from .fallback import Fallback
from .guards import LiveTerms
from .history import History, Journal, Report
from .options import TrainOptions
from .profile import Profile
from .selection import Selection
from .step import Stepper
from .sums import Sums
from .tensors import copied, on
from .validation import Validation

__all__ = ["Loop"]

_logger = logging.getLogger(__name__)
_LOOK_EVERY = 20
_WINDOW = 160


class Loop:
    """A training that is set up: all that it holds is saved, and found again by :meth:`restore`."""

    def __init__(
        self,
        model: Any,
        objective: Objective,
        rows: Rows,
        validation: Validation | None,
        options: TrainOptions,
        checkpoints: Checkpoints | None,
        journal: Journal | None,
        profile: Profile,
    ) -> None:
        self.model, self.objective, self.validation = model, objective, validation
        self.options, self.checkpoints, self.journal, self.profile = options, checkpoints, journal, profile
        self.device = device_of(model)
        self.rows = rows.to(self.device)
        self.rate = _rate(options)
        self.stepper = Stepper(model, objective, self.rows, options, self.device, profile)
        self.average = WeightAverage(model, options.average)
        self.selection = Selection(options.patience, keep=options.select)
        self.live = LiveTerms(objective.period, options.steps, decodes=getattr(objective, "decodes", True))
        self.sums = Sums()
        self.recent: Tensor | None = None
        self.fallback = Fallback(model)
        self.step, self.saved_step = 0, -1
        self.skipped, self.told = 0, 0
        self.warnings: list[str] = []

    def run(self, stop_after: int | None, should_stop: Callable[[], bool]) -> History:
        """Takes steps until all are taken, or it is told to stop."""
        history = History()
        last = self.options.steps if stop_after is None else min(stop_after, self.options.steps)
        self.model.train()
        self._save(at_start=True)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            while self.step < last and not self._exhausted:
                started = time.perf_counter()
                history.examples += self._one_step()
                history.seconds += time.perf_counter() - started
                if self._due():
                    self._report(history)
                stopping = should_stop()
                if self.journal is not None and (stopping or self.step == last):
                    self.journal.clock(self.step, self._timing(history))
                if stopping or (self.checkpoints and self.checkpoints.due(self.step)):
                    self._save()
                if stopping:
                    break
        self._save()
        return self._finish(history)

    @property
    def _exhausted(self) -> bool:
        return self.selection.exhausted and self.step > 0

    def _finish(self, history: History) -> History:
        best = self.selection
        history.step, history.finished = self.step, self.step >= self.options.steps or self._exhausted
        history.best_step = best.step if best.weights is not None else self.step
        bounded = best.weights is not None and self.validation is not None and self.validation.by_bound
        history.best_bound = best.bound + self.rows.log_jacobian if bounded else None
        history.skipped, history.warnings = self.skipped, list(self.warnings)
        if history.finished:
            if best.weights is None:
                with self.average.applied():
                    best.weights = copied(self.model)
            self.model.load_state_dict(best.weights)
        self.model.eval()
        return history

    def _one_step(self) -> int:
        options = self.options
        with self.profile("feed"):
            index = batch_index(len(self.rows), options.batch_size, options.seed, self.step).to(self.device)
        if self.live.due(self.step):
            seed_device(self.device, mix(options.seed, "step", self.step))
            self._warn(self.live.watch(self.stepper.look(index, self.step), self.model, self.step))
        seed_device(self.device, mix(options.seed, "step", self.step))
        rate = self.rate(self.step) * self.fallback.factor
        loss, names, sums, good = self.stepper.take(index, self.step, rate)
        loss = loss.float()  # as it is read back from a checkpoint
        self.average.update(self.step)
        self.sums.add(names, sums)
        if self.step < _WINDOW:
            before = loss if self.recent is None else self.recent
            self.recent = torch.where(good, torch.where(before.isfinite(), before.lerp(loss, 0.05), loss), before)
        self.step += 1
        if self.step % _LOOK_EVERY == 0 or self._due():
            with self.profile("sync"):
                self._look()
        return len(index)

    def _look(self) -> None:
        """Reads what the guard counted, and goes back to older weights if need be."""
        skipped, lost = self.stepper.guard.read()
        if skipped > self.skipped and self.skipped == 0:
            self._warn([f"skipped a step before step {self.step}: {self._reason()}"])
        self.skipped = skipped
        if lost:
            self._retreat(f"ten steps in a row were skipped before step {self.step}: {self._reason()}")
        first = self.stepper.guard.first
        if self.step == _WINDOW and self.recent is not None and float(self.recent) > float(first):
            self._warn(
                [
                    f"after {self.step} steps the loss, {float(self.recent):.4g}, is above the first one, "
                    f"{float(first):.4g}: the learning rate {self.options.learning_rate:g} may be too high"
                ]
            )

    def _reason(self) -> str:
        bad = [name for name in self.sums.not_finite() if name != "bound"]
        parts = [name for name in bad if name != "objective"] or bad
        if parts:
            return f"not finite: {', '.join(parts)}"
        return "the loss was ten times worse than the first one, or its gradient not finite"

    def _retreat(self, reason: str) -> None:
        """Goes back to the weights of the last validation, and forgets what the optimiser and the average held."""
        self.fallback.retreat(reason, self.rate(self.step - 1))
        self.average.restart()
        self.stepper.adam.restart()
        self.stepper.guard.forgive()
        self._warn([f"{reason}; went back to the weights of the last validation, at half the learning rate"])

    def _warn(self, sentences: list[str]) -> None:
        self.warnings += sentences
        if self.journal is None:
            for sentence in sentences:
                _logger.warning("%s", sentence)

    def _due(self) -> bool:
        return self.step % self.options.validate_every == 0 or self.step == self.options.steps

    def _report(self, history: History) -> None:
        epoch = self.step / -(-len(self.rows) // self.options.batch_size)
        line: dict[str, Any] = {"step": self.step, "epoch": round(epoch, 4), **self.sums.means()}
        if "bound" in line:
            line["bound"] += self.rows.log_jacobian
        line["learning_rate"] = self.rate(self.step - 1) * self.fallback.factor
        if self.validation is not None:
            with self.profile("evaluation"), self.average.applied():
                validated = self._validate(self.validation)
            if validated is not None:
                line["valid"] = validated
        if self.skipped:
            line["skipped"] = self.skipped
        if self.told < len(self.warnings):
            line["warnings"] = self.warnings[self.told :]
            self.told = len(self.warnings)
        self.fallback.keep(self.skipped)
        self.sums = Sums()
        history.lines.append(line)
        if self.journal is not None:
            self.journal.write(Report(line, self._timing(history), self.options.steps))

    @staticmethod
    def _timing(history: History) -> dict[str, float]:
        return {"seconds": history.seconds, "examples_per_second": history.examples / max(history.seconds, 1e-9)}

    def _validate(self, validation: Validation) -> dict[str, Any] | None:
        try:
            scores = validation.scores()
        except NonFiniteError as error:
            self._warn([f"no validation at step {self.step}: {error}"])
            return None
        worth, line = validation.summary(scores, self.rows.log_jacobian)
        eligible = self.step >= self.objective.period or self.step == self.options.steps
        if eligible:
            self.selection.consider(self.model, self.step, worth)
        return line

    def _save(self, *, at_start: bool = False) -> None:
        if self.checkpoints is None or self.step == self.saved_step or (at_start and self.step > 0):
            return
        tensors = {
            "model": self.model.state_dict(),
            "optimizer": self.stepper.adam.state(),
            "anchor": self.fallback.weights,
            **({"average": self.average.mean} if self.average.mean else {}),
            **({"best": self.selection.weights} if self.selection.weights is not None else {}),
        }
        state = {
            "selection": self.selection.state(),
            "sums": self.sums.state(),
            "live": self.live.state(),
            "guard": self.stepper.guard.state(),
            "recent": None if self.recent is None else finite(float(self.recent)),
            **self.fallback.state(),
            "skipped": self.skipped,
            "warnings": self.warnings,
            "told": self.told,
            "journal": self.journal.position() if self.journal else {},
        }
        with self.profile("saving"):
            self.checkpoints.save(Checkpoint(self.step, tensors, state))
        self.saved_step = self.step

    def restore(self) -> None:
        """Goes back to the newest checkpoint."""
        if self.checkpoints is None:
            raise OptionError("resume needs checkpoints to resume from.")
        found = self.checkpoints.load()
        state, parts = found.state, {n: on(self.device, part) for n, part in found.tensors.items()}
        try:
            self._restore(found.step, state, parts)
        except (RuntimeError, LookupError, TypeError, AttributeError, ValueError) as error:
            raise RunError(
                f"the checkpoint at step {found.step} is not of this model, or damaged: {type(error).__name__} "
                f"{error}. Start the fit anew."
            ) from error

    def _restore(self, step: int, state: Any, parts: dict[str, Any]) -> None:
        self.model.load_state_dict(parts["model"])
        self.stepper.adam.restore(parts["optimizer"])
        self.average.restore(parts.get("average", {}))
        self.step = self.saved_step = step
        self.fallback.restore(state, parts["anchor"])
        self.selection.restore(state["selection"], parts.get("best"))
        self.sums = Sums.of(state["sums"], self.device)
        self.live.restore(state["live"])
        self.stepper.guard.restore(state["guard"])
        recent = state["recent"]
        self.recent = None if recent is None else torch.tensor(recent, device=self.device)
        self.skipped, self.told, self.warnings = int(state["skipped"]), int(state["told"]), list(state["warnings"])
        if self.journal is not None:
            self.journal.rewind(state["journal"])


def _rate(options: TrainOptions) -> Schedule:
    if options.decay:
        return Cosine(options.learning_rate, options.steps, options.warmup)
    if options.warmup:
        return Linear(options.learning_rate / options.warmup, options.learning_rate, steps=options.warmup)
    return Constant(options.learning_rate)
