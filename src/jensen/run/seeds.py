"""The same fit with several seeds, and what differs between the runs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.sources import DataLike
from ..errors import FileFormatError, OptionError, RunError
from ..files import at_home, read_json, write_json
from ..numbers import QUANTITIES, SCHEMA_VERSION
from ..recipe import parse_options
from ..saving import SEVERAL
from ..zoo import usual
from .fitting import Run, fit, fit_again, resume
from .folder import has_checkpoint, new_folder, owned
from .observe import Log, Observer

__all__ = ["SeedRuns", "fit_seeds", "is_seed_runs", "resume_seeds"]


@dataclass(frozen=True)
class SeedRuns:
    """Runs that differ in their seed alone.

    Arguments:
        path: The folder that holds a run folder for each seed.
        runs: The runs so far.
        summary: Mean and standard deviation over the runs, as in ``seeds.json``; empty while one is unfinished.
    """

    path: Path
    runs: list[Run]
    summary: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether all runs are."""
        return bool(self.summary)


def fit_seeds(
    data: DataLike,
    seeds: int,
    *,
    out: str | os.PathLike[str] | None = None,
    download: bool = False,
    should_stop: Callable[[], bool] | None = None,
    observer: Observer | None = None,
    **options: Any,
) -> SeedRuns:
    """Fits the same data several times with seeds that follow one another; splits and test rows stay the same.

    Arguments:
        data: As for :func:`jensen.fit`.
        seeds: How many times.
        out: The folder of the runs, which must not exist; by default ``runs/NAME-seeds``.
        download: Whether a named data set may be fetched.
        should_stop: Asked after each step; fitting stops, resumable, when it says so.
        observer: Who is told what happens.
        options: The options of ``jensen fit``; ``seed`` is the first seed.

    Raises:
        OptionError: If fewer than two seeds are asked for.
        JensenError: If the data or the options cannot be used; there is no folder then.
    """
    if not 2 <= seeds <= 10_000:
        raise OptionError(f"--seeds must lie between 2 and 10000, so that runs can differ; got {seeds}.")
    chosen = parse_options({"model": usual(data), **options})
    reference = _reference(data)
    name = (Path(reference).name.split(".")[0] or "data") if reference else "array"
    plan = {
        "schema_version": SCHEMA_VERSION,
        "data": reference,
        "seeds": list(range(chosen.seed, chosen.seed + seeds)),
        "options": chosen.model_dump(mode="json", exclude_unset=True),
    }
    with new_folder(out, f"{name}-seeds") as folder:
        write_json(folder / SEVERAL, plan)
        return _run(folder, plan, data, download=download, should_stop=should_stop, observer=observer or Log())


def _reference(data: DataLike) -> str | None:
    """Where data come from, for a later call from another folder; None for data in memory."""
    if not isinstance(data, str | os.PathLike):
        return None
    text = os.fspath(data)
    # A bare word may also be the name of data.
    is_path = (os.path.exists(text) and Path(text).name != text) or bool(Path(text).suffix)
    return os.path.abspath(text) if is_path else text


def is_seed_runs(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds runs with several seeds."""
    return (at_home(path) / SEVERAL).is_file()


def resume_seeds(
    path: str | os.PathLike[str],
    data: DataLike | None = None,
    *,
    should_stop: Callable[[], bool] | None = None,
    observer: Observer | None = None,
) -> SeedRuns:
    """Goes on with runs with several seeds: finishes what was begun, and fits what was not.

    Arguments:
        path: The folder of the runs.
        data: The data, needed only where they have moved or came from memory; where they are now is written down.
        should_stop: Asked after each step; fitting stops, resumable, when it says so.
        observer: Who is told what happens.

    Raises:
        RunError: If the data came from memory and are not given.
        FileFormatError: If the plan of the runs is damaged.
    """
    folder = at_home(path)
    plan = read_json(folder / SEVERAL)
    try:
        parse_options(dict(plan["options"]))
        _ = [int(seed) for seed in plan["seeds"]]
        reference = plan["data"]
    except (KeyError, TypeError, ValueError, OptionError) as error:
        raise FileFormatError(f"{folder / SEVERAL} is not the plan of runs with several seeds: {error}") from error
    if data is None and reference is None:
        raise RunError(f"the data of {folder} came from memory; in Python, pass them to resume_seeds.")
    if data is not None:
        plan = {**plan, "data": _reference(data) or reference}
    with owned(folder):
        return _run(folder, plan, data, download=False, should_stop=should_stop, observer=observer or Log())


def _run(
    folder: Path,
    plan: dict[str, Any],
    data: DataLike | None,
    *,
    download: bool,
    should_stop: Callable[[], bool] | None,
    observer: Observer,
) -> SeedRuns:
    """Goes through the seeds; ``data`` are None where they are those that plan and runs name."""
    runs: list[Run] = []
    for seed in plan["seeds"]:
        path = folder / f"seed-{seed}"
        observer.phase(f"seed {seed}")
        if has_checkpoint(path):
            run = resume(path, data, should_stop=should_stop, observer=observer)
        else:
            if path.exists():  # it was stopped before its first checkpoint
                path.rename(folder / f".seed-{seed}.{len(list(folder.glob('.seed-*')))}.abandoned")
            how: dict[str, Any]
            how = {"out": path, "should_stop": should_stop, "observer": observer, **plan["options"], "seed": seed}
            if runs:
                run = fit_again(runs[0].path, data, **how)
            else:
                run = fit(plan["data"] if data is None else data, download=download, **how)
        runs.append(run)
        if not run.finished:
            write_json(folder / SEVERAL, plan)  # which may name another place of the data by now
            return SeedRuns(folder, runs, {})
    summary = {**plan, "run": str(folder), "runs": [str(run.path) for run in runs], "test": _spread(runs)}
    write_json(folder / SEVERAL, summary)
    return SeedRuns(folder, runs, summary)


def _data_of(run: Run) -> tuple[Any, Any]:
    record = read_json(run.path / "data.json")
    return record["sha256"], run.result["data"]["protocol"]


def _spread(runs: list[Run]) -> dict[str, Any]:
    """Mean and standard deviation over runs of each test number."""
    for run in runs[1:]:
        if _data_of(run) != _data_of(runs[0]):
            raise RunError(
                f"{run.path} was fitted to other data than {runs[0].path}, so that there is no mean over both. Remove "
                "it and go on with the old data."
            )
    table = {}
    for name in (name for name in QUANTITIES if name in runs[0].result["test"]):
        values = [run.result["test"][name]["mean"] for run in runs]
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        labels = {key: runs[0].result["test"][name][key] for key in ("unit", "kind", "measure", "k", "n", "protocol")}
        table[name] = {"mean": mean, "sd": deviation, "runs": len(values), "values": values, **labels}
    return table
