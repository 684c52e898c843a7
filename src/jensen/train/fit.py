"""The loop: batches and noise are functions of seed and step, so a run stopped and resumed is the run not stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..data import Rows, batch_index
from ..errors import DataError, NonFiniteError, OptionError, RunError
from ..evaluation import bounds, check_data, device_of, evidence_of, latents, reconstructions
from ..noise import mix, seed_device
from ..numbers import finite, mean_and_se
from ..roles import Given, Objective
from ..schedules import Constant, Cosine, Linear, Schedule
from .average import WeightAverage
from .checkpoint import Checkpoint, Checkpoints
from .guards import LiveTerms
from .options import Precision, TrainOptions
from .profile import Profile
from .selection import SCORES, Selection
from .step import Stepper
from .sums import Sums

__all__ = ["History", "Report", "fit"]

_logger = logging.getLogger(__name__)
_LOOK_EVERY = 20
_WINDOW = 160
_MOST_RETREATS = 3


@dataclass(frozen=True)
class Report:
    """One line of the journal of a training, and the clock values that are kept apart from it."""

    line: dict[str, Any]
    timing: dict[str, float]
    steps: int


class Journal(Protocol):
    """Where reports go. ``position`` marks how far the journal has come, and ``rewind`` goes back to such a mark."""

    def write(self, report: Report) -> None: ...

    def position(self) -> dict[str, int]: ...

    def rewind(self, position: Mapping[str, int]) -> None: ...


@dataclass
class History:
    """What a training did.

    Arguments:
        lines: The reports since this call began, in order.
        step: The number of steps taken in all.
        finished: Whether training came to its end: all steps were taken, or patience was at its end.
        best_step: The step whose weights the model holds now, if the training finished.
        best_bound: The validation bound at that step, nats per example as it is reported; None without validation rows.
        seconds: The time spent in this call, without validation and saving.
        examples: The number of examples seen in this call.
        skipped: The number of steps that were not taken, since their loss or gradient was not finite or exploded.
        warnings: What was noticed, in sentences.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    finished: bool = False
    best_step: int = 0
    best_bound: float | None = None
    seconds: float = 0.0
    examples: int = 0
    skipped: int = 0
    warnings: list[str] = field(default_factory=list)


def fit(
    model: Any,
    objective: Objective,
    rows: Rows | Tensor,
    *,
    steps: int,
    valid: Tensor | None = None,
    valid_given: Given | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    decay: bool = True,
    warmup: int = 0,
    weight_decay: float = 0.0,
    clip: float = 5.0,
    average: float = 0.0,
    patience: int | None = None,
    validate_every: int = 100,
    seed: int = 0,
    select: bool = True,
    precision: Precision = "fp32",
    compiled: bool = False,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    stop_after: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    journal: Journal | None = None,
    profile: Profile | None = None,
) -> History:
    r"""Trains a model in place with Adam on an objective.

    Order and noise are functions of the seed and the step. Test rows have no way in. When all steps are taken and
    there are validation rows, the model holds the weights with the best validation bound (β = 1, a fixed number of
    samples, common noise), never one from before all schedules of the objective have run.

    A step whose loss or gradient is not finite, or whose loss is ten times worse than the first, is skipped and
    counted. After ten in a row the weights go back to those of the last validation and the rate is halved; after the
    third time training ends with an error, the model holding these weights.

    References:
        Kingma, Ba (2015), Adam. Loshchilov, Hutter (2019), Decoupled weight decay regularization. Polyak, Juditsky
        (1992), Acceleration of stochastic approximation by averaging.

    Arguments:
        model: A model; its parameters are changed in place.
        objective: What is minimised.
        rows: The training rows, as :class:`jensen.data.Rows` or as the floats that the model sees, shape (N, \*X).
        steps: The number of steps; with ``decay`` the rate has fallen to zero after them.
        valid: Validation rows as the model sees them.
        valid_given: What is known beside them.
        batch_size: The largest number of rows in a batch.
        learning_rate: The peak of the learning rate.
        decay: Whether the rate falls along half a cosine to zero; otherwise it stays at its peak.
        warmup: The number of steps in which the learning rate rises to its peak.
        weight_decay: The decoupled weight decay.
        clip: Gradients longer than this multiple of their usual length are shortened to it; 0 never shortens.
        average: The decay of the moving average of the weights, which is what is validated and kept; 0 is none.
        patience: Stop after this many validations in a row without a better bound, once all schedules have run.
        validate_every: How many steps lie between two validations.
        seed: The seed of order and noise.
        select: Whether to keep the weights with the best validation bound.
        precision: What the networks of conditionals compute in; densities and weights are always fp32.
        compiled: Whether draws and objective are compiled by torch.
        checkpoints: Where to save; a checkpoint is written when due and whenever training stops.
        resume: Whether to go on from the newest checkpoint.
        stop_after: Stop once this many steps are taken in all; schedules do not change.
        should_stop: Asked after each step; training stops with a checkpoint when it says so.
        journal: Where reports go.
        profile: Who measures where the time goes.

    Raises:
        OptionError: If an option is out of range.
        DataError: If the rows cannot be modelled.
        DeadTermError: If a term of the objective never reaches any parameter.
        NonFiniteError: If the loss stays infinite, not a number or far beyond the first one.

    Example:
        >>> from jensen import VAE, Conditional, families, nets, objectives, priors
        >>> vae = VAE(
        ...     priors.StandardNormal(2),
        ...     Conditional(nets.mlp(2, 6), families.Bernoulli(6)),
        ...     Conditional(nets.mlp(6, 4), families.Normal(2, scale=families.PredictedScale())),
        ... )
        >>> x = torch.eye(6).repeat(10, 1)
        >>> history = fit(vae, objectives.ELBO(), x, steps=20, valid=x[:6], validate_every=10)
        >>> [line["step"] for line in history.lines], history.finished
        ([10, 20], True)
    """
    try:
        options = TrainOptions(
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            decay=decay,
            warmup=warmup,
            weight_decay=weight_decay,
            clip=clip,
            average=average,
            patience=patience,
            validate_every=validate_every,
            seed=seed,
            select=select,
            precision=precision,
            compiled=compiled,
        )
    except ValueError as error:
        raise OptionError(str(error)) from error
    rows = rows if isinstance(rows, Rows) else Rows(rows)
    loop = _Loop(
        model, objective, rows, valid, valid_given, options, checkpoints, journal, profile or Profile(on=False)
    )
    if resume:
        loop.restore()
    return loop.run(stop_after, should_stop or (lambda: False))


class _Loop:
    def __init__(
        self,
        model: Any,
        objective: Objective,
        rows: Rows,
        valid: Tensor | None,
        valid_given: Given | None,
        options: TrainOptions,
        checkpoints: Checkpoints | None,
        journal: Journal | None,
        profile: Profile,
    ) -> None:
        self.model, self.objective, self.valid, self.valid_given = model, objective, valid, valid_given
        self.options, self.checkpoints, self.journal, self.profile = options, checkpoints, journal, profile
        if not options.warmup < options.steps:
            raise OptionError(f"warmup={options.warmup} must be below steps={options.steps}.")
        if not any(p.requires_grad for p in model.parameters()):
            raise OptionError("the model has no parameters to train.")
        _check_rows(model, rows, valid, valid_given)
        self.device = device_of(model)
        self.rows = rows.to(self.device)
        self.rate = _rate(options)
        self.stepper = Stepper(model, objective, self.rows, options, self.device, profile)
        self.average = WeightAverage(model, options.average)
        self.selection = Selection(options.patience)
        self.live = LiveTerms(objective.period, options.steps)
        self.sums = Sums()
        self.recent: Tensor | None = None
        self.anchor = _copy(model)
        self.step, self.saved_step = 0, -1
        self.retreats, self.skipped, self.skipped_before = 0, 0, 0
        self.warnings: list[str] = []
        self.told = 0

    def run(self, stop_after: int | None, should_stop: Callable[[], bool]) -> History:
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
        history.best_bound = best.bound + self.rows.log_jacobian if best.weights is not None else None
        history.skipped, history.warnings = self.skipped, list(self.warnings)
        if history.finished:
            if best.weights is None:
                with self.average.applied():
                    best.weights = _copy(self.model)
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
        rate = self.rate(self.step) * 0.5**self.retreats
        loss, names, sums, good = self.stepper.take(index, self.step, rate)
        self.average.update(self.step)
        self.sums.add(names, sums, good)
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
        """Goes back to the weights of the last validation, or raises if that did not help before."""
        self.model.load_state_dict(self.anchor)
        self.average.restart()
        self.stepper.optimizer.state.clear()
        self.stepper.guard.forgive()
        self.retreats += 1
        if self.retreats > _MOST_RETREATS:
            self.model.eval()
            raise NonFiniteError(
                f"{reason}. The weights went back to older ones {_MOST_RETREATS} times, at half the learning rate each "
                f"time, and now hold those again. Try a learning rate below {self.rate(self.step) / 16:.2g}, or look "
                "for extreme or missing values in the data."
            )
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
        line["learning_rate"] = self.rate(self.step - 1) * 0.5**self.retreats
        if self.valid is not None:
            with self.profile("evaluation"), self.average.applied():
                validated = self._validate(self.valid)
            if validated is not None:
                line["valid"] = validated
        if self.skipped:
            line["skipped"] = self.skipped
        if self.told < len(self.warnings):
            line["warnings"] = self.warnings[self.told :]
            self.told = len(self.warnings)
        if self.skipped == self.skipped_before:  # weights that make steps explode are none to go back to
            self.anchor = _copy(self.model)
        self.skipped_before = self.skipped
        self.sums = Sums()
        history.lines.append(line)
        timing = {"seconds": history.seconds, "examples_per_second": history.examples / max(history.seconds, 1e-9)}
        if self.journal is not None:
            self.journal.write(Report(line, timing, self.options.steps))

    def _validate(self, valid: Tensor) -> dict[str, Any] | None:
        try:
            scores = self._scores(valid)
        except NonFiniteError as error:
            self._warn([f"no validation at step {self.step}: {error}"])
            return None
        mean, se = mean_and_se(scores)
        use = latents(self.model, valid, self.valid_given)
        eligible = self.step >= self.objective.period or self.step == self.options.steps
        if self.options.select and eligible:
            self.selection.consider(self.model, self.step, mean)
        return {
            SCORES[evidence_of(self.model)]: finite(mean + self.rows.log_jacobian),
            "se": finite(se),
            "n": len(scores),
            "kl": None if use.kl is None else finite(use.kl),
            "active_latents": use.active,
            **getattr(getattr(self.model, "posterior", None), "report", dict)(),
        }

    def _scores(self, valid: Tensor) -> Tensor:
        """The bound of each row, or how well it is reconstructed where there is no bound."""
        if evidence_of(self.model) == "none":
            return reconstructions(self.model, valid, self.valid_given)
        k = self.objective.k if self.objective.kind == "estimate" else 1
        return bounds(self.model, valid, k=k, seed=mix(self.options.seed, "validation"), given=self.valid_given).elbo

    def _save(self, *, at_start: bool = False) -> None:
        if self.checkpoints is None or self.step == self.saved_step or (at_start and self.step > 0):
            return
        tensors = {
            "model": self.model.state_dict(),
            "optimizer": _flat(self.stepper.optimizer),
            "anchor": self.anchor,
            **({"average": self.average.mean} if self.average.mean else {}),
            **({"best": self.selection.weights} if self.selection.weights is not None else {}),
        }
        state = {
            "selection": self.selection.state(),
            "sums": self.sums.state(),
            "live": self.live.state(),
            "guard": self.stepper.guard.state(),
            "recent": None if self.recent is None else finite(float(self.recent)),
            "retreats": self.retreats,
            "skipped": self.skipped,
            "skipped_before": self.skipped_before,
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
        state, parts = found.state, {n: _on(self.device, part) for n, part in found.tensors.items()}
        try:
            self.model.load_state_dict(parts["model"])
            _unflat(self.stepper.optimizer, parts["optimizer"])
            self.average.restore(parts.get("average", {}))
        except (RuntimeError, KeyError, ValueError) as error:
            raise RunError(f"the checkpoint at step {found.step} is not of this model: {error}") from error
        self.step = self.saved_step = found.step
        self.anchor = dict(parts["anchor"])
        self.selection.restore(state["selection"], parts.get("best"))
        self.sums = Sums.of(state["sums"], self.device)
        self.live.restore(state["live"])
        self.stepper.guard.restore(state["guard"])
        recent = state["recent"]
        self.recent = None if recent is None else torch.tensor(recent, device=self.device)
        self.retreats, self.skipped = int(state["retreats"]), int(state["skipped"])
        self.skipped_before = int(state["skipped_before"])
        self.warnings, self.told = list(state["warnings"]), int(state["told"])
        if self.journal is not None:
            self.journal.rewind(state["journal"])


def _rate(options: TrainOptions) -> Schedule:
    if options.decay:
        return Cosine(options.learning_rate, options.steps, options.warmup)
    if options.warmup:
        return Linear(options.learning_rate / options.warmup, options.learning_rate, steps=options.warmup)
    return Constant(options.learning_rate)


def _check_rows(model: Any, rows: Rows, valid: Tensor | None, valid_given: Given | None) -> None:
    index = torch.arange(min(len(rows), 256))
    with torch.random.fork_rng(devices=[]):
        first, given = rows.batch(index)
    check_data(model, first, given)
    if valid is not None:
        check_data(model, valid, valid_given)
        if tuple(valid.shape[1:]) != tuple(first.shape[1:]):
            raise DataError(f"training rows and validation rows differ in shape: {tuple(valid.shape[1:])}.")
    if len(rows) > 1 and bool((rows.values == rows.values[:1]).all()):
        raise DataError(
            f"all {len(rows)} training rows are equal: there is nothing to learn. Check how they were read."
        )


def _copy(model: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _on(device: torch.device, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in tensors.items()}


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def _unflat(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    document = optimizer.state_dict()
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**document, "state": entries})
