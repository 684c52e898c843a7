"""The loop: batches and noise are functions of seed and step, so a run stopped and resumed is the run not stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..data import Rows, batch_index
from ..errors import DataError, NonFiniteError, OptionError, RunError
from ..evaluation import bounds, check_data, device_of, latents
from ..noise import mix
from ..numbers import mean_and_se
from ..roles import Objective
from ..schedules import Cosine
from .checkpoint import Checkpoint, Checkpoints
from .guards import LiveTerms
from .step import step as take_step

__all__ = ["History", "Report", "TrainOptions", "fit"]


class TrainOptions(BaseModel):
    """What decides the numbers of a training, beside model, objective and data.

    Arguments:
        steps: The number of steps.
        batch_size: The largest number of rows in a batch; batches of an epoch differ in size by at most one.
        learning_rate: The peak of the learning rate of Adam; it falls along half a cosine to zero.
        warmup: The number of steps in which the learning rate rises to its peak.
        validate_every: How many steps lie between two validations.
        seed: The seed of order and noise.
        select: Whether the weights with the best validation bound are kept, rather than the last ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(ge=1, le=10**9)
    batch_size: int = Field(default=128, ge=1, le=10**7)
    learning_rate: float = Field(default=1e-3, gt=0, le=10, allow_inf_nan=False)
    warmup: int = Field(default=0, ge=0)
    validate_every: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    select: bool = True


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
        finished: Whether all steps were taken.
        best_step: The step whose weights the model holds now, if the training finished.
        best_bound: The validation bound at that step, nats per example as it is reported; None without validation rows.
        seconds: The time spent in this call, without validation and saving.
        examples: The number of examples seen in this call.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    finished: bool = False
    best_step: int = 0
    best_bound: float | None = None
    seconds: float = 0.0
    examples: int = 0


def fit(
    model: Any,
    objective: Objective,
    rows: Rows | Tensor,
    *,
    steps: int,
    valid: Tensor | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    warmup: int = 0,
    validate_every: int = 100,
    seed: int = 0,
    select: bool = True,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    stop_after: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    journal: Journal | None = None,
) -> History:
    r"""Trains a model in place with Adam on an objective.

    Order and noise are functions of the seed and the step. Test rows have no way in. When all steps are taken and
    there are validation rows, the model holds the weights with the best validation bound (β = 1, a fixed number of
    samples, common noise), never one from before all schedules of the objective have run.

    References:
        Kingma, Ba (2015), Adam.

    Arguments:
        model: A model; its parameters are changed in place.
        objective: What is minimised.
        rows: The training rows, as :class:`jensen.data.Rows` or as the floats that the model sees, shape (N, \*X).
        steps: The number of steps; the learning rate has fallen to zero after them.
        valid: Validation rows as the model sees them.
        batch_size: The largest number of rows in a batch.
        learning_rate: The peak of the learning rate.
        warmup: The number of steps in which the learning rate rises to its peak.
        validate_every: How many steps lie between two validations.
        seed: The seed of order and noise.
        select: Whether to keep the weights with the best validation bound.
        checkpoints: Where to save; a checkpoint is written when due and whenever training stops.
        resume: Whether to go on from the newest checkpoint.
        stop_after: Stop once this many steps are taken in all; schedules do not change.
        should_stop: Asked after each step; training stops with a checkpoint when it says so.
        journal: Where reports go.

    Raises:
        OptionError: If an option is out of range.
        DataError: If the rows cannot be modelled.
        DeadTermError: If a term of the objective never reaches any parameter.
        NonFiniteError: If the loss becomes infinite or not a number.

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
            warmup=warmup,
            validate_every=validate_every,
            seed=seed,
            select=select,
        )
    except ValueError as error:
        raise OptionError(str(error)) from error
    rows = rows if isinstance(rows, Rows) else Rows(rows)
    loop = _Loop(model, objective, rows, valid, options, checkpoints, journal)
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
        options: TrainOptions,
        checkpoints: Checkpoints | None,
        journal: Journal | None,
    ) -> None:
        self.model, self.objective, self.rows, self.valid = model, objective, rows, valid
        self.options, self.checkpoints, self.journal = options, checkpoints, journal
        if not options.warmup < options.steps:
            raise OptionError(f"warmup={options.warmup} must be below steps={options.steps}.")
        self._check_rows()
        self.device = device_of(model)
        self.rate = Cosine(options.learning_rate, options.steps, options.warmup)
        parameters = [p for p in model.parameters() if p.requires_grad]
        if not parameters:
            raise OptionError("the model has no parameters to train.")
        self.optimizer = torch.optim.Adam(parameters, lr=options.learning_rate, fused=True)
        self.live = LiveTerms(objective.period, options.steps)
        self.sums = _Sums()
        self.step, self.saved_step = 0, -1
        self.best: dict[str, Tensor] | None = None
        self.best_step, self.best_bound = 0, -float("inf")

    def _check_rows(self) -> None:
        index = torch.arange(min(len(self.rows), 256))
        with torch.random.fork_rng(devices=[]):
            check_data(self.model, self.rows.batch(index)[0])
        if self.valid is not None:
            check_data(self.model, self.valid)
            if tuple(self.valid.shape[1:]) != tuple(self.rows.batch(index[:1])[0].shape[1:]):
                raise DataError(f"training rows and validation rows differ in shape: {tuple(self.valid.shape[1:])}.")

    def run(self, stop_after: int | None, should_stop: Callable[[], bool]) -> History:
        history = History()
        last = self.options.steps if stop_after is None else min(stop_after, self.options.steps)
        self.model.train()
        if self.checkpoints and self.step == 0:
            self._save()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            while self.step < last:
                started = time.perf_counter()
                history.examples += self._one_step()
                history.seconds += time.perf_counter() - started
                if self._due():
                    self._report(history)
                stopping = should_stop()
                if self.checkpoints and (self.checkpoints.due(self.step) or stopping):
                    self._save()
                if stopping:
                    break
        if self.checkpoints:
            self._save()
        history.step, history.finished = self.step, self.step >= self.options.steps
        history.best_step = self.best_step if self.best is not None else self.step
        history.best_bound = self.best_bound + self.rows.log_jacobian if self.best is not None else None
        if history.finished and self.best is not None:
            self.model.load_state_dict(self.best)
        self.model.eval()
        return history

    def _one_step(self) -> int:
        index = batch_index(len(self.rows), self.options.batch_size, self.options.seed, self.step)
        torch.manual_seed(mix(self.options.seed, "step", self.step))
        x, given = self.rows.batch(index)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        estimate = take_step(self.model, self.objective, self.optimizer, x.to(self.device), given, self.step, self.live)
        loss = float(estimate.loss.detach())
        if not loss - loss == 0.0:
            raise NonFiniteError(self._non_finite(estimate.terms, loss))
        self.sums.add(len(x), estimate)
        self.step += 1
        return len(x)

    def _non_finite(self, terms: Mapping[str, Tensor], loss: float) -> str:
        bad = [name for name, term in terms.items() if not term.detach().isfinite().all()]
        parameters = [n for n, p in self.model.named_parameters() if not p.detach().isfinite().all()]
        named = f"not finite: {', '.join(bad) or 'their sum'}" + (
            f"; parameters: {parameters[0]}" if parameters else ""
        )
        return (
            f"the loss became {loss} at step {self.step} ({named}). The model has not been changed by this step; try a "
            f"learning rate below {self.rate(self.step):.2g}, or look for extreme values in the data."
        )

    def _due(self) -> bool:
        return self.step % self.options.validate_every == 0 or self.step == self.options.steps

    def _report(self, history: History) -> None:
        epoch = self.step / -(-len(self.rows) // self.options.batch_size)
        line: dict[str, Any] = {"step": self.step, "epoch": round(epoch, 4), **self.sums.means()}
        if "bound" in line:
            line["bound"] += self.rows.log_jacobian
        line["learning_rate"] = self.rate(self.step - 1)
        if self.valid is not None:
            line["valid"] = self._validate(self.valid)
        self.sums = _Sums()
        history.lines.append(line)
        timing = {"seconds": history.seconds, "examples_per_second": history.examples / max(history.seconds, 1e-9)}
        if self.journal is not None:
            self.journal.write(Report(line, timing, self.options.steps))

    def _validate(self, valid: Tensor) -> dict[str, Any]:
        scores = bounds(
            self.model,
            valid,
            k=self.objective.k if self.objective.kind == "estimate" else 1,
            seed=mix(self.options.seed, "validation"),
        )
        mean, se = mean_and_se(scores.elbo)
        use = latents(self.model, valid)
        eligible = self.step >= self.objective.period or self.step == self.options.steps
        if self.options.select and eligible and mean > self.best_bound:
            self.best_bound, self.best_step = mean, self.step
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        return {
            "elbo": mean + self.rows.log_jacobian,
            "se": se if se == se else None,
            "n": len(scores.elbo),
            "kl": use.kl,
            "active_latents": use.active,
        }

    def _save(self) -> None:
        tensors = {
            "model": self.model.state_dict(),
            "optimizer": _flat(self.optimizer),
            **({"best": self.best} if self.best is not None else {}),
        }
        state = {
            "best_step": self.best_step,
            "best_bound": self.best_bound if self.best is not None else None,
            "sums": self.sums.state(),
            "live": self.live.state(),
            "journal": self.journal.position() if self.journal else {},
        }
        if self.checkpoints is not None and self.step != self.saved_step:
            self.checkpoints.save(Checkpoint(self.step, tensors, state))
            self.saved_step = self.step

    def restore(self) -> None:
        """Goes back to the newest checkpoint."""
        if self.checkpoints is None:
            raise OptionError("resume needs checkpoints to resume from.")
        found = self.checkpoints.load()
        try:
            self.model.load_state_dict(found.tensors["model"])
            _unflat(self.optimizer, found.tensors["optimizer"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise RunError(f"the checkpoint at step {found.step} is not of this model: {error}") from error
        self.step = self.saved_step = found.step
        self.best = (
            {k: v.to(self.device) for k, v in found.tensors["best"].items()} if "best" in found.tensors else None
        )
        self.best_step = int(found.state["best_step"])
        self.best_bound = -float("inf") if self.best is None else float(found.state["best_bound"])
        self.sums = _Sums.of(found.state["sums"])
        self.live.restore(found.state["live"])
        if self.journal is not None:
            self.journal.rewind(found.state["journal"])


class _Sums:
    """Sums over examples since the last report, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.totals: dict[str, float] = {}

    def add(self, count: int, estimate: Any) -> None:
        self.count += count
        values = {"objective": -estimate.loss.detach().double() * count}
        if estimate.bound is not None:
            values["bound"] = estimate.bound.detach().double().sum()
        values |= {name: term.detach().double().sum() for name, term in estimate.terms.items()}
        for name, value in values.items():
            self.totals[name] = self.totals.get(name, 0.0) + float(value)

    def means(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self.totals.items()}

    def state(self) -> dict[str, Any]:
        return {"count": self.count, "totals": self.totals}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> _Sums:
        sums = cls()
        sums.count, sums.totals = int(state["count"]), dict(state["totals"])
        return sums


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
