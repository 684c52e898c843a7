"""A run: data described, split and modelled, a model trained, measured and saved, all in one folder."""

from __future__ import annotations

import json
import logging
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from . import pictures
from .baselines import Baseline, baselines
from .data import Schema, Splits, open_source, prepare
from .data.sources import DataLike
from .errors import FileFormatError, OptionError, RunError
from .evaluation import Number, mean_and_se
from .files import read_json, read_tensors, write_json, write_tensors
from .fitted import Evaluation, Fitted, score
from .noise import mix
from .recipe import Choice, FitOptions, Plan, choose, parameters_of, parse_options
from .saving import FORMAT, Config, load, read_config, rebuild, save
from .spec import describe
from .train import Checkpoints, History, Report, TrainOptions
from .train import fit as train

__all__ = ["Observer", "Run", "compare", "evaluate_run", "fit", "resume"]

SCHEMA_VERSION = 1
_SPLITS = {"train", "valid", "test"}


class Observer(Protocol):
    """Who is told what a fit does; the command line prints it, Python logs it."""

    def found(self, splits: Splits) -> None: ...

    def chose(self, choices: list[Choice], parameters: int) -> None: ...

    def report(self, report: Report) -> None: ...

    def phase(self, text: str) -> None: ...


class Log:
    """An observer that writes to the logger ``jensen``."""

    logger = logging.getLogger("jensen")

    def found(self, splits: Splits) -> None:
        self.logger.info("found %s", describe_data(splits))

    def chose(self, choices: list[Choice], parameters: int) -> None:
        for choice in choices:
            self.logger.info("%s: %s (%s; %s)", choice.what, choice.value, choice.reason, choice.option)

    def report(self, report: Report) -> None:
        self.logger.info("step %d of %d: %s", report.line["step"], report.steps, report.line.get("valid"))

    def phase(self, text: str) -> None:
        self.logger.info("%s", text)


def describe_data(splits: Splits) -> str:
    """What was found in the data, in one line."""
    schema = splits.schema
    shape = "×".join(map(str, schema.event_shape))
    values = f"{schema.dtype}, continuous"
    if schema.kind != "continuous":
        last = schema.offset + schema.step * (schema.levels - 1)
        values = f"{schema.dtype}, {schema.levels} levels from {schema.offset:g} to {last:g}"
    counts = ", ".join(f"{len(splits.stored[s]):,} {s}" for s in ("train", "valid", "test"))
    return f"{schema.name}: {shape} = {schema.size} values per row, {values}; {counts} ({splits.rule})"


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


class _Journal:
    """``metrics.jsonl``, which a seed reproduces to the byte, and ``timing.jsonl``, which holds all clock values."""

    def __init__(self, folder: Path, observer: Observer) -> None:
        self.paths = {"metrics": folder / "metrics.jsonl", "timing": folder / "timing.jsonl"}
        self.observer = observer
        for path in self.paths.values():
            path.touch()

    def write(self, report: Report) -> None:
        timing = {"step": report.line["step"], **report.timing}
        for path, line in ((self.paths["metrics"], report.line), (self.paths["timing"], timing)):
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        self.observer.report(report)

    def position(self) -> dict[str, int]:
        return {name: path.stat().st_size for name, path in self.paths.items()}

    def rewind(self, position: Mapping[str, int]) -> None:
        for name, path in self.paths.items():
            if path.stat().st_size < position[name]:
                raise RunError(f"{path} is shorter than the checkpoint says; it was changed since. Start the fit anew.")
            os.truncate(path, position[name])

    def lines(self) -> list[dict[str, Any]]:
        return _read_lines(self.paths["metrics"])


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{path} is damaged: {error}. Start the fit anew.") from error


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Keeps other fits out of a run folder."""
    lock = FileLock(folder / ".lock")
    owner = folder / ".owner.json"
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        by = _owner(folder)
        raise RunError(
            f"{folder} is in use by process {by.get('pid', '?')} on {by.get('host', 'this machine')}, since "
            f"{by.get('since', 'an unknown time')}. Wait for it, or choose another --out."
        ) from error
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
        owner.unlink(missing_ok=True)
    finally:
        lock.release()


def _owner(folder: Path) -> dict[str, Any]:
    """Who last worked in a run folder; empty where that is not known."""
    try:
        found = read_json(folder / ".owner.json")
    except FileFormatError:
        return {}
    return found if isinstance(found, dict) else {}


def _refuse_existing(folder: Path) -> None:
    if os.path.lexists(folder):
        pid = _owner(folder).get("pid")
        by = f" It belongs to process {pid}, which may still run." if pid else ""
        raise RunError(
            f"{folder} exists already.{by} Choose another --out, or go on with: jensen fit --resume {folder}"
        )


def _new_folder(out: str | os.PathLike[str] | None, name: str) -> Path:
    if out is not None:
        _refuse_existing(Path(out))
        return _make(Path(out))
    stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    for number in range(1, 10**6):
        folder = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        if not folder.exists():
            return _make(folder)
    raise RunError(f"no free name under runs/{stem}; choose one with --out.")


def _make(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {folder}: {error.strerror}. Choose another --out.") from error
    return folder


def fit(
    data: DataLike,
    *,
    out: str | os.PathLike[str] | None = None,
    model: Any = None,
    download: bool = False,
    stop_after: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    observer: Observer | None = None,
    **options: Any,
) -> Run:
    r"""Does everything: opens and describes the data, splits them, chooses, trains, measures, draws and saves.

    Arguments:
        data: A name such as ``"digits"`` or ``"mnist"``, a path to a .npy, .npz or idx file, or rows as an array or
            tensor, shape (N, \*X).
        out: The run folder, which must not exist; by default ``runs/NAME``, then ``runs/NAME-2`` and so on.
        model: A model of your own, of declared parts, in place of the one that would be chosen. It sees rows as
            :meth:`jensen.data.Schema.model_values` gives them.
        download: Whether a named data set may be fetched.
        stop_after: Stop, resumable, after this many steps.
        should_stop: Asked after each step; the fit stops, resumable, when it says so.
        observer: Who is told what happens; by default the logger ``jensen``.
        options: The options of ``jensen fit``, as in :class:`jensen.recipe.FitOptions`.

    Returns:
        The run. ``run.result`` holds the numbers, ``run.model`` the fitted model.

    Raises:
        JensenError: If the data, the options or the folder cannot be used.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = fit("digits", out=f"{folder}/digits", steps=5, samples=2, hidden=[8])
        ...     run.finished, run.model.sample(3).shape
        (True, (3, 8, 8))
    """
    chosen = parse_options(options)
    observer = observer or Log()
    if stop_after is not None and stop_after < 1:
        raise OptionError(f"--stop-after must be at least 1; got {stop_after}.")
    if out is not None:
        _refuse_existing(Path(out))
    source = open_source(data, key=chosen.key, download=download)
    density = chosen.likelihood == "normal" if model is None else _is_density(model)
    splits = prepare(source, binarisation=chosen.binarisation, seed=chosen.data_seed, density=density)
    observer.found(splits)
    plan = choose(splits.schema, len(splits.stored["train"]), chosen)
    vae = plan.model if model is None else model
    specs = {"model": describe(vae)[0].model_dump(), "objective": describe(plan.objective)[0].model_dump()}
    observer.chose(plan.choices, parameters_of(vae))
    folder = _new_folder(out, splits.schema.name)
    with _owned(folder):
        save(Fitted(vae, splits.schema, splits.protocol), folder, extra=_config(plan, chosen, specs))
        _write_data(folder, splits)
        write_json(folder / "environment.json", environment())
        _draw_inputs(folder, splits)
        return _train(
            folder,
            splits,
            vae,
            plan.objective,
            plan.training,
            plan.checkpoint_every,
            chosen,
            observer,
            stop_after,
            should_stop,
        )


def _is_density(model: Any) -> bool:
    return bool(getattr(getattr(model, "likelihood", None), "measure", "mass") == "density")


def _config(plan: Plan, options: FitOptions, specs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "objective": specs["objective"],
        "training": plan.training.model_dump(),
        "checkpoint_every": plan.checkpoint_every,
        "options": options.model_dump(mode="json"),
    }


def _write_data(folder: Path, splits: Splits) -> None:
    write_json(
        folder / "data.json",
        {
            "format": FORMAT,
            "protocol": splits.protocol,
            "schema": splits.schema.model_dump(mode="json"),
            "reference": splits.reference,
            "key": splits.key,
            "rows": {split: len(rows) for split, rows in splits.stored.items()},
            "sha256": {split: splits.fingerprint(split) for split in splits.stored},
        },
    )


def environment() -> dict[str, Any]:
    """The versions and the hardware that a result depends on."""
    from . import __version__

    return {
        "jensen": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": "cpu",
    }


def resume(
    path: str | os.PathLike[str],
    data: DataLike | None = None,
    *,
    modules: Mapping[str, Callable[..., Any]] | None = None,
    stop_after: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    observer: Observer | None = None,
) -> Run:
    """Goes on with a run from its newest whole checkpoint; the result is that of a run that never stopped.

    Arguments:
        path: The run folder.
        data: The data, needed only where they came from memory.
        modules: The user's own declared classes and builders by name.
        stop_after: Stop, resumable, after this many steps in all.
        should_stop: Asked after each step.
        observer: Who is told what happens.

    Raises:
        RunError: If there is nothing to resume, or the data are not the same.
    """
    folder, observer = Path(path), observer or Log()
    if not (folder / "config.json").exists():
        raise RunError(f"{folder} is not a run: it has no config.json.")
    with _owned(folder):
        config = read_config(folder)
        splits = reopen(folder, data)
        observer.found(splits)
        fitted = load(folder, modules=modules)
        if config.training is None or config.checkpoint_every is None:
            raise RunError(f"{folder} holds a model but no training to go on with.")
        objective = rebuild(folder, config.objective, modules)
        options = read_options(folder, config)
        return _train(
            folder,
            splits,
            fitted.vae,
            objective,
            config.training,
            config.checkpoint_every,
            options,
            observer,
            stop_after,
            should_stop,
            resuming=True,
        )


def read_options(folder: Path, config: Config) -> FitOptions:
    """The options of a run.

    Raises:
        FileFormatError: If there are none, or one is not valid.
    """
    try:
        return FitOptions.model_validate(config.options)
    except ValueError as error:
        raise FileFormatError(f"{folder / 'config.json'} does not hold the options of a fit: {error}") from error


def reopen(folder: Path, data: DataLike | None = None) -> Splits:
    """Opens the data of a run again and checks that they are the same.

    Raises:
        RunError: If they are not, or came from memory and are not given.
    """
    record = read_json(folder / "data.json")
    try:
        schema, key, digests = Schema.model_validate(record["schema"]), record["key"], dict(record["sha256"])
        recorded = record["reference"]
        if not isinstance(recorded, str | None) or not isinstance(key, str | None) or not set(digests) <= _SPLITS:
            raise TypeError("its entries are of other types than a fit writes")
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{folder / 'data.json'} does not describe the data of a fit: {error}") from error
    reference = recorded if data is None else data
    if reference is None:
        raise RunError(
            f"the data of {folder} came from memory; in Python, pass them: jensen.resume({str(folder)!r}, data)."
        )
    splits = prepare(
        open_source(reference, key=key),
        binarisation=schema.binarisation,
        seed=schema.seed,
        density=schema.kind == "continuous",
    )
    shown = repr(reference) if isinstance(reference, str | os.PathLike) else "the data"
    for split, digest in digests.items():
        if splits.fingerprint(split) != digest:
            raise RunError(
                f"the {split} rows of {shown} are not those that {folder} was fitted on: their SHA-256 "
                "differs. Put the old file back, or start a new fit."
            )
    return splits


def _train(
    folder: Path,
    splits: Splits,
    vae: Any,
    objective: Any,
    training: TrainOptions,
    every: int,
    options: FitOptions,
    observer: Observer,
    stop_after: int | None,
    should_stop: Callable[[], bool] | None,
    *,
    resuming: bool = False,
) -> Run:
    checkpoints = Checkpoints(folder / "checkpoints", every)
    journal = _Journal(folder, observer)
    has_checkpoint = (folder / "checkpoints" / "latest").exists()
    history = train(
        vae,
        objective,
        splits.train,
        valid=splits.frozen("valid"),
        **training.model_dump(),
        checkpoints=checkpoints,
        resume=resuming and has_checkpoint,
        stop_after=stop_after,
        should_stop=should_stop,
        journal=journal,
    )
    if not history.finished:
        return Run(folder, {}, finished=False, step=history.step)
    fitted = Fitted(vae, splits.schema, splits.protocol)
    write_tensors(folder / "model.safetensors", vae.state_dict())
    result = _measure(folder, fitted, splits, history, options, observer)
    lines = journal.lines()
    _draw(folder, fitted, splits, lines, history)
    return Run(folder, result, finished=True, step=history.step)


def _measure(
    folder: Path, fitted: Fitted, splits: Splits, history: History, options: FitOptions, observer: Observer
) -> dict[str, Any]:
    observer.phase(f"scoring validation and test rows with {options.samples} samples")
    fresh = mix(options.seed, "evaluation")
    valid = score(fitted, splits.frozen("valid"), k=options.samples, seed=fresh, split="valid")
    test = score(fitted, splits.frozen("test"), k=options.samples, seed=fresh, split="test")
    observer.phase("fitting baselines")
    width = fitted.vae.prior().event_shape.numel()
    simple = baselines(splits, width)
    own, jacobian = test.scores.log_likelihood, splits.schema.log_jacobian
    result = {
        "schema_version": SCHEMA_VERSION,
        "run": str(folder),
        "steps": history.step,
        "best_step": history.best_step,
        "seconds": _seconds(folder),
        "examples_per_second": history.examples / history.seconds if history.seconds else None,
        "data": _data_json(splits),
        **test.to_json(),
        "valid": {"elbo": valid.elbo.to_json(), "log_likelihood": valid.log_likelihood.to_json()},
        "baselines": baseline_json(own + jacobian, simple, test.log_likelihood.measure),
    }
    write_json(folder / "result.json", result)
    scores = {
        "elbo": test.scores.elbo + jacobian,
        "log_likelihood": own + jacobian,
        "keys": torch.tensor(test.scores.keys, dtype=torch.int64),
    }
    write_tensors(folder / "scores.safetensors", scores)
    return result


def _seconds(folder: Path) -> float | None:
    """The time spent training, over all calls: each call's clock starts at zero."""
    total, last = 0.0, 0.0
    for line in _read_lines(folder / "timing.jsonl"):
        seconds = float(line["seconds"])
        total += last if seconds < last else 0.0
        last = seconds
    return total + last


def _data_json(splits: Splits) -> dict[str, Any]:
    counts = {f"n_{split}": len(splits.stored[split]) for split in ("train", "valid", "test")}
    schema = splits.schema
    return {"name": schema.name, "protocol": splits.protocol, "event_shape": list(schema.event_shape), **counts}


def baseline_json(own: Tensor, simple: Mapping[str, Baseline], measure: str) -> dict[str, Any]:
    """Each baseline of the measure of a model beside it, the differences paired over the same rows."""
    table = {}
    for name, baseline in simple.items():
        if baseline.measure != measure:
            continue
        mean, se = mean_and_se(baseline.log_likelihood)
        difference, difference_se = mean_and_se(own - baseline.log_likelihood)
        table[name] = {
            "mean": mean,
            "se": _or_none(se),
            "difference": difference,
            "difference_se": _or_none(difference_se),
            "kind": baseline.kind,
            "measure": baseline.measure,
        }
    return table


def _or_none(value: float) -> float | None:
    return value if value == value else None


def _limits(splits: Splits) -> tuple[float, float]:
    schema = splits.schema
    if schema.binary:
        return 0.0, 1.0
    if schema.kind == "binned":
        return schema.offset, schema.offset + schema.step * (schema.levels - 1)
    values = schema.user_values(splits.frozen("train")[:1000], exact=False)
    return float(np.quantile(values, 0.01)), float(np.quantile(values, 0.99))


def _draw_inputs(folder: Path, splits: Splits) -> None:
    rows = splits.schema.user_values(splits.schema.freeze(splits.stored["train"][:16]), exact=False)
    pictures.grid(
        folder / "inputs.png", rows, f"{splits.schema.name}: training rows as the model sees them", _limits(splits)
    )


def _draw(folder: Path, fitted: Fitted, splits: Splits, lines: list[dict[str, Any]], history: History) -> None:
    limits, schema = _limits(splits), splits.schema
    rows = splits.stored["test"][:16]
    data = schema.user_values(schema.freeze(rows), exact=False)
    x = schema.freeze(rows)
    again = Fitted(fitted.vae).reconstruct(x)
    pictures.pairs(
        folder / "reconstructions.png",
        data,
        schema.user_values(again, exact=False),
        f"{schema.name}: test rows beside the mean of p(x|z) at the posterior mean",
        limits,
    )
    pictures.grid(
        folder / "samples.png",
        fitted.sample(36, seed=0, mean=True),
        f"{schema.name}: mean of p(x|z) for z drawn from the prior (not draws of x)",
        limits,
    )
    pictures.curves(folder / "curves.png", lines, history.best_step, f"{schema.name}: ELBO at β = 1")


def load_finished(path: str | os.PathLike[str], modules: Mapping[str, Callable[..., Any]] | None = None) -> Fitted:
    """Loads the model of a run whose training has come to its end; before that its file holds the initial weights.

    Raises:
        RunError: If the run is not finished.
    """
    folder = Path(path)
    unfinished = os.path.exists(folder / "environment.json") and not os.path.exists(folder / "result.json")
    if unfinished:
        raise RunError(
            f"{folder} is not finished, so its weights are not trained yet. Finish it with: "
            f"jensen fit --resume {folder}"
        )
    return load(folder, modules=modules)


def evaluate_run(
    path: str | os.PathLike[str],
    data: DataLike | None = None,
    *,
    split: str = "test",
    k: int = 1000,
    seed: int | None = None,
    modules: Mapping[str, Callable[..., Any]] | None = None,
) -> tuple[Evaluation, dict[str, Any]]:
    """Scores rows of a run's data again; the result has the shape of that of a fit.

    Arguments:
        path: The run folder.
        data: The data, needed only where they came from memory.
        split: Which rows.
        k: The number of samples K.
        seed: The seed of the noise; by default that of the fit's own evaluation.
        modules: The user's own declared classes and builders by name.
    """
    folder = Path(path)
    if split not in ("train", "valid", "test"):
        raise OptionError(f"--split cannot be {split!r}; choose train, valid or test.")
    fitted = load_finished(folder, modules)
    splits = reopen(folder, data)
    options = read_options(folder, read_config(folder))
    noise = mix(options.seed, "evaluation") if seed is None else seed
    found = score(fitted, splits.frozen(split), k=k, seed=noise, split=split)
    result = read_json(folder / "result.json") if (folder / "result.json").exists() else {}
    if not isinstance(result, dict):
        raise FileFormatError(f"{folder / 'result.json'} is not the result of a fit. Delete it and evaluate again.")
    own = found.scores.log_likelihood + splits.schema.log_jacobian
    simple = baselines(splits, fitted.vae.prior().event_shape.numel()) if split == "test" else {}
    timing = {key: result.get(key) for key in ("steps", "seconds", "examples_per_second")}
    document = {
        "schema_version": SCHEMA_VERSION,
        "run": str(folder),
        **timing,
        "data": _data_json(splits),
        **found.to_json(),
        "baselines": baseline_json(own, simple, found.log_likelihood.measure),
    }
    if split != "test":
        document[split] = document.pop("test")
    return found, document


def compare(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> dict[str, Any]:
    """Compares the test bounds of two runs, paired over the same rows.

    Arguments:
        first: A finished run.
        second: Another.

    Returns:
        For ``elbo`` and ``log_likelihood``: both numbers, and the difference ``second - first`` with its error.

    Raises:
        RunError: If a run is unfinished, or the numbers cannot be compared: another protocol, other test rows, or a
            mass against a density.
    """
    folders = [Path(first), Path(second)]
    records = [_finished(folder) for folder in folders]
    (a, data_a, scores_a), (b, data_b, scores_b) = records
    for what, x, y in (
        ("protocol", a["data"]["protocol"], b["data"]["protocol"]),
        ("measure", a["test"]["elbo"]["measure"], b["test"]["elbo"]["measure"]),
        ("number of samples", a["test"]["log_likelihood"]["k"], b["test"]["log_likelihood"]["k"]),
        ("test rows (SHA-256)", data_a["sha256"]["test"], data_b["sha256"]["test"]),
    ):
        if x != y:
            raise RunError(f"not comparable: the {what} of {folders[0]} is {x}; that of {folders[1]} is {y}.")
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "runs": [str(folder) for folder in folders],
        "protocol": a["data"]["protocol"],
    }
    for name in ("elbo", "log_likelihood"):
        difference, se = mean_and_se(scores_b[name] - scores_a[name])
        result[name] = {
            "numbers": [a["test"][name], b["test"][name]],
            "difference": difference,
            "difference_se": _or_none(se),
        }
    return result


def _finished(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    if not (folder / "result.json").exists():
        raise RunError(
            f"{folder} is not a finished run: it has no result.json. Finish it with: jensen fit --resume {folder}"
        )
    result, data = read_json(folder / "result.json"), read_json(folder / "data.json")
    scores = read_tensors(folder / "scores.safetensors")
    try:
        count = int(result["data"]["n_test"])
        _ = str(result["data"]["protocol"]), str(data["sha256"]["test"])
        for name in ("elbo", "log_likelihood"):
            number = number_of(result["test"][name])
            if scores[name].shape != (count,) or not isinstance(number.mean, float):
                raise ValueError(f"{name} and its scores disagree")
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"the results in {folder} are damaged: {type(error).__name__} {error}. Fit again, or restore the folder."
        ) from error
    return result, data, scores


def number_of(document: Mapping[str, Any]) -> Number:
    """A number as it stands in a result file."""
    values: dict[str, Any] = dict(document)
    for name in ("se", "mc_se", "ess"):
        values[name] = float("nan") if values[name] is None else values[name]
    return Number(**values)
