"""Fitting: from data to a run folder, and on from where a run stopped."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import Splits, TextOptions, open_source, prepare
from ..data.labels import LabelUse
from ..data.sources import DataLike
from ..errors import DataError, OptionError, RunError, memory_told
from ..files import at_home, write_json, write_tensors
from ..fitted import Fitted
from ..hardware import can_compile, find_device
from ..initialise import start_at_marginal
from ..recipe import FitOptions, Plan, choose, parameters_of, parse_options
from ..roles import Objective
from ..saving import describe_model, load, read_config, rebuild
from ..spec import describe
from ..train import Checkpoints, Pace, Profile, TrainOptions, measure_pace
from ..train import fit as train
from ..zoo import usual
from .draw import draw_inputs, draw_results
from .folder import (
    Journal,
    environment,
    new_folder,
    owned,
    read_options,
    refuse_existing,
    remember_place,
    reopen,
    write_data,
    write_files,
)
from .observe import Log, Observer
from .results import measure

__all__ = ["Run", "fit", "fit_again", "resume"]

_MARGINAL_ROWS = 20_000


@dataclass(frozen=True)
class Run:
    """A run folder.

    Arguments:
        path: The folder.
        result: What the fit found, as in ``result.json``; empty while it is unfinished.
        finished: Whether all steps were taken and the test rows were scored.
        step: The number of steps taken.
    """

    path: Path
    result: dict[str, Any]
    finished: bool
    step: int

    @property
    def model(self) -> Fitted:
        """The fitted model; a user's own modules are given to :func:`jensen.load` instead."""
        return load(self.path)


@dataclass(frozen=True)
class _Job:
    """A training that is set up: what, on what, how, and who is told."""

    folder: Path
    splits: Splits
    vae: Any
    objective: Objective
    training: TrainOptions
    checkpoint_every: int
    options: FitOptions
    observer: Observer
    profile: Profile

    def run(self, *, resuming: bool, stop_after: int | None, should_stop: Callable[[], bool] | None) -> Run:
        """Trains, and when all steps are taken measures, draws and saves."""
        journal = Journal(self.folder, self.observer.report)
        history = train(
            self.vae,
            self.objective,
            self.splits.train,
            valid=self.splits.frozen("valid"),
            valid_given=self.splits.given("valid"),
            **self.training.model_dump(),
            checkpoints=Checkpoints(self.folder / "checkpoints", self.checkpoint_every),
            resume=resuming,
            stop_after=stop_after,
            should_stop=should_stop,
            journal=journal,
            profile=self.profile,
        )
        if self.profile.on:
            write_json(self.folder / "profile.json", self.profile.to_json())
            self.observer.profiled(self.profile)
        if not history.finished:
            return Run(self.folder, {}, finished=False, step=history.step)
        fitted = Fitted(self.vae, self.splits.schema, self.splits.protocol, self.splits.label_names)
        write_tensors(self.folder / "model.safetensors", self.vae.state_dict())
        result = measure(self.folder, fitted, self.splits, history, self.options, self.observer)
        draw_results(self.folder, fitted, self.splits, journal.lines(), history)
        return Run(self.folder, result, finished=True, step=history.step)


@memory_told()
def fit(
    data: DataLike,
    *,
    out: str | os.PathLike[str] | None = None,
    model: Any = None,
    download: bool = False,
    stop_after: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    observer: Observer | None = None,
    profile: bool = False,
    **options: Any,
) -> Run:
    r"""Does everything: opens and describes the data, splits them, chooses, trains, measures, draws and saves.

    Arguments:
        data: A name such as ``"digits"`` or ``"mnist"``, a path to a folder of images or to a .npy, .npz or idx file,
            or rows as an array or tensor, shape (N, \*X).
        out: The run folder, which must not exist; by default ``runs/NAME``, then ``runs/NAME-2`` and so on.
        model: The name of a model, as ``jensen models`` lists them, or a model of your own, of declared parts. It sees
            rows as :meth:`jensen.data.Schema.model_values` gives them.
        download: Whether a named data set may be fetched.
        stop_after: Stop, resumable, after this many steps.
        should_stop: Asked after each step; the fit stops, resumable, when it says so.
        observer: Who is told what happens; by default the logger ``jensen``.
        profile: Whether to measure where the time of the training goes; ``profile.json`` then says.
        options: The options of ``jensen fit`` for that model.

    Returns:
        The run. ``run.result`` holds the numbers, ``run.model`` the fitted model.

    Raises:
        JensenError: If the data, the options or the folder cannot be used; there is no new folder then.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = fit("digits", out=f"{folder}/digits", steps=5, samples=2, hidden=[8])
        ...     run.finished, run.model.sample(3).shape
        (True, (3, 8, 8))
    """
    if isinstance(model, str):
        options["model"], model = model, None
    if model is None:
        options = {"model": usual(data), **options}
    chosen = parse_options(options)
    observer = observer or Log()
    _check_stop(stop_after)
    if out is not None:
        refuse_existing(at_home(out))
    splits = _open(data, model, chosen, observer, download=download)
    return _begin(splits, model, chosen, out, observer, stop_after=stop_after, should_stop=should_stop, profile=profile)


@memory_told()
def fit_again(
    first: Path,
    data: DataLike | None = None,
    *,
    out: Path,
    should_stop: Callable[[], bool] | None,
    observer: Observer,
    **options: Any,
) -> Run:
    """Fits the data of a run once more, checked to be the same and under the name that they have there.

    Arguments:
        first: The folder of that run.
        data: Its data, needed only where they have moved or came from memory.
        out: The new run folder.
        should_stop: Asked after each step.
        observer: Who is told what happens.
        options: The options of ``jensen fit``.
    """
    observer.phase(f"opening the data of {first}")
    splits = reopen(first, data)
    observer.found(splits)
    return _begin(splits, None, parse_options(options), out, observer, should_stop=should_stop)


def _begin(
    splits: Splits,
    model: Any,
    chosen: FitOptions,
    out: str | os.PathLike[str] | None,
    observer: Observer,
    *,
    stop_after: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    profile: bool = False,
) -> Run:
    """Plans a training on opened data, makes its folder, and trains."""
    plan = _plan(splits, model, chosen)
    chosen = chosen.model_copy(update={"samples": plan.samples})
    splits = _with_labels(splits, plan.model, chosen)
    if model is None:
        start_at_marginal(plan.model.likelihood, _some_rows(splits))
    plan.model.to(plan.device)
    training = _training(plan, chosen)
    describe(plan.model)  # what cannot be written is refused before there is a folder
    observer.chose(plan.choices, parameters_of(plan.model))
    with new_folder(out, splits.schema.name) as folder:
        describe_model(plan.model, folder, extra=training)
        write_data(folder, splits)
        write_files(folder, splits)
        write_json(folder / "environment.json", environment(plan.device))
        draw_inputs(folder, splits)
        measured, every = Profile(on=profile, device=plan.device), plan.checkpoint_every
        job = _Job(folder, splits, plan.model, plan.objective, plan.training, every, chosen, observer, measured)
        return job.run(resuming=False, stop_after=stop_after, should_stop=should_stop)


def _open(data: DataLike, model: Any, options: FitOptions, observer: Observer, *, download: bool) -> Splits:
    """The data, split under the schema that the options and a user's own model ask for."""
    if isinstance(data, str | os.PathLike) and os.path.isdir(data):  # many images take a while
        observer.phase(f"opening {os.fspath(data)}")
    source = open_source(data, key=options.key, download=download, image_size=options.image_size)
    density = getattr(options, "likelihood", "auto") == "normal" if model is None else _is_density(model)
    splits = prepare(
        source, binarisation=options.binarisation, seed=options.data_seed, density=density, text=_text_options(options)
    )
    observer.found(splits)
    return splits


def _plan(splits: Splits, model: Any, options: FitOptions) -> Plan:
    """What to train on the data, and how."""
    return choose(
        splits.schema,
        len(splits.stored["train"]),
        options,
        model,
        scored=len(splits.stored["valid"]) + len(splits.stored["test"]),
        timed=_clock(splits, options),
        classes=len(splits.label_names) if splits.labels else 0,
    )


def _training(plan: Plan, options: FitOptions) -> dict[str, Any]:
    """What ``config.json`` says of a training beside the model."""
    return {
        "objective": describe(plan.objective)[0].model_dump(),
        "training": plan.training.model_dump(),
        "checkpoint_every": plan.checkpoint_every,
        "options": options.model_dump(mode="json"),
    }


def _with_labels(splits: Splits, model: Any, options: FitOptions) -> Splits:
    """The data with what their labels are for, as the model wants it.

    Raises:
        DataError: If the model is conditioned on labels and the data have none, or another number of them.
    """
    conditions, count = getattr(model, "conditions", 0), getattr(options, "labelled", 0)
    if not (conditions or count):
        return splits
    if conditions and conditions != len(splits.label_names):
        raise DataError(
            f"the model is conditioned on one of {conditions} labels; {splits.schema.name} has "
            f"{len(splits.label_names)}. Give data with labels, such as folders of images in sub-folders."
        )
    return replace(splits, use=LabelUse(condition=bool(conditions), count=count, seed=options.data_seed))


def _clock(splits: Splits, options: FitOptions) -> Callable[[Plan], Pace] | None:
    """Measures the pace of a plan on the training rows; None where there is no time budget."""
    budget = options.time_budget
    if budget is None:
        return None

    def timed(plan: Plan) -> Pace:
        rows, valid = _with_labels(splits, plan.model, options), splits.frozen("valid")
        given = rows.given("valid")
        return measure_pace(plan.model, plan.objective, rows.train, valid, plan.training, plan.device, budget, given)

    return timed


def _some_rows(splits: Splits) -> Tensor:
    """Training rows from all over, enough to know their marginals, as the model sees them before binarisation."""
    stored = splits.stored["train"]
    stored = stored[:: math.ceil(len(stored) / _MARGINAL_ROWS)]
    return splits.schema.freeze(stored) if splits.schema.binarisation == "threshold" else splits.schema.grey(stored)


def _text_options(options: Any) -> TextOptions | None:
    """How sentences become rows, where the model has such options."""
    level = getattr(options, "level", None)
    return None if level is None else TextOptions(level, options.vocabulary, options.max_length, chunks=options.chunks)


def _is_density(model: Any) -> bool:
    return bool(getattr(getattr(model, "likelihood", None), "measure", "mass") == "density")


def _check_stop(stop_after: int | None) -> None:
    if stop_after is not None and stop_after < 1:
        raise OptionError(f"--stop-after must be at least 1; got {stop_after}.")


@memory_told()
def resume(
    path: str | os.PathLike[str],
    data: DataLike | None = None,
    *,
    modules: Mapping[str, Callable[..., Any]] | None = None,
    stop_after: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    observer: Observer | None = None,
    profile: bool = False,
) -> Run:
    """Goes on with a run from its newest whole checkpoint; the result is that of a run that never stopped.

    Arguments:
        path: The run folder.
        data: The data, needed only where they have moved or came from memory; where they are now is written down.
        modules: The user's own declared classes and builders by name.
        stop_after: Stop, resumable, after this many steps in all.
        should_stop: Asked after each step.
        observer: Who is told what happens.
        profile: Whether to measure where the time of the training goes.

    Raises:
        RunError: If there is nothing to resume, or the data are not the same.
    """
    folder, observer = at_home(path), observer or Log()
    _check_stop(stop_after)
    if not (folder / "config.json").exists():
        raise RunError(f"{folder} is not a run: it has no config.json.")
    with owned(folder):
        config = read_config(folder)
        observer.phase(f"opening the data of {folder}")
        splits = reopen(folder, data)
        remember_place(folder, splits)
        observer.found(splits)
        if config.training is None or config.checkpoint_every is None:
            raise RunError(f"{folder} holds a model but no training to go on with.")
        options = read_options(folder, config)
        device = find_device(options.device)
        if config.training.compiled and not can_compile(device):
            raise RunError(
                f"{folder} was begun with a compiled step, and there is no compiler that works here. Its numbers would "
                "change without one: install a C++ compiler, or start a new fit with --compile off."
            )
        vae = rebuild(folder, config.model, modules).to(device)
        objective = rebuild(folder, config.objective, modules)
        measured = Profile(on=profile, device=device)
        every = config.checkpoint_every
        job = _Job(folder, splits, vae, objective, config.training, every, options, observer, measured)
        return job.run(resuming=True, stop_after=stop_after, should_stop=should_stop)
