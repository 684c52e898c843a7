"""A run folder: who owns it, its journals, its data and its surroundings."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from ..data import SPLITS, Schema, Source, Splits, TextOptions, open_source, prepare
from ..data.arrays import key_in
from ..data.labels import LabelUse
from ..data.sources import DataLike
from ..errors import DataError, FileFormatError, JensenError, OptionError, RunError, memory_told
from ..files import at_home, read_json, write_json
from ..hardware import describe_device, find_device
from ..recipe import FitOptions, parse_options
from ..saving import FORMAT, SEVERAL, Config, to_resume
from ..train import Report

__all__ = [
    "Journal",
    "check_split",
    "environment",
    "has_checkpoint",
    "how_to_measure",
    "new_folder",
    "owned",
    "read_lines",
    "read_options",
    "refuse_existing",
    "remember_place",
    "reopen",
    "resumable",
    "write_data",
    "write_files",
]


class Journal:
    """``metrics.jsonl``, which a seed reproduces to the byte, and ``timing.jsonl``, which holds all clock values."""

    def __init__(self, folder: Path, told: Callable[[Report], None]) -> None:
        self.paths = {"metrics": folder / "metrics.jsonl", "timing": folder / "timing.jsonl"}
        self.told, self.call = told, uuid.uuid4().hex[:8]
        for path in self.paths.values():
            path.touch()

    def write(self, report: Report) -> None:
        _append(self.paths["metrics"], report.line)
        self.clock(report.line["step"], report.timing)
        self.told(report)

    def clock(self, step: int, timing: Mapping[str, float]) -> None:
        _append(self.paths["timing"], {"step": step, "call": self.call, **timing})

    def position(self) -> dict[str, int]:
        return {name: path.stat().st_size for name, path in self.paths.items()}

    def rewind(self, position: Mapping[str, int]) -> None:
        for name, path in self.paths.items():
            if path.stat().st_size < position[name]:
                raise RunError(f"{path} is shorter than the checkpoint says; it was changed since. Start the fit anew.")
            os.truncate(path, position[name])

    def lines(self) -> list[dict[str, Any]]:
        return read_lines(self.paths["metrics"])


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a journal, one in each line, that say at which step they were written."""
    try:
        lines = [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        if not all(isinstance(line.get("step"), int) for line in lines):
            raise ValueError("a line does not say its step")
        return lines
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{path} is damaged: {error}. Start the fit anew.") from error


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Keeps other fits out of a run folder."""
    lock = FileLock(folder / ".lock")
    owner = folder / ".owner.json"
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        by = _owner(folder)
        raise RunError(
            f"{folder} is in use by process {by.get('pid', '?')} on {by.get('host', 'this machine')}, since "
            f"{by.get('since', 'an unknown time')}. Wait for it, or start another fit, in a folder of its own."
        ) from error
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _owner(folder: Path) -> dict[str, Any]:
    """Who last worked in a run folder; empty where that is not known."""
    try:
        found = read_json(folder / ".owner.json")
    except FileFormatError:
        return {}
    return found if isinstance(found, dict) else {}


def refuse_existing(folder: Path) -> None:
    """Refuses a folder that exists, naming whoever works in it."""
    if os.path.lexists(folder):
        pid = _owner(folder).get("pid")
        by = f" It belongs to process {pid}, which may still run." if pid else ""
        run = resumable(folder)
        going_on = "." if run is None else f", or go on with: {to_resume(run)}"
        raise RunError(f"{folder} exists already.{by} Choose another --out{going_on}")


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can be gone on with from a checkpoint of its own."""
    return os.path.isfile(folder / "checkpoints" / "latest")  # also says no where nothing may be read


def resumable(folder: Path) -> Path | None:
    """What ``jensen fit --resume`` goes on with: a run, or the runs with several seeds that it is one of; else None."""
    if re.fullmatch(r"seed-\d+", folder.name) and os.path.isfile(folder.parent / SEVERAL):
        return folder.parent
    return folder if has_checkpoint(folder) or os.path.isfile(folder / SEVERAL) else None


def how_to_measure(folder: Path) -> str:
    """How to get the results of a run again where what is written of them is damaged."""
    run = resumable(folder)
    return "Restore it, or make the run anew." if run is None else f"Measure again with: {to_resume(run)}"


@contextmanager
def new_folder(out: str | os.PathLike[str] | None, name: str) -> Iterator[Path]:
    """Makes the folder ``out``, or the next free one under ``runs``, and keeps other fits out of it.

    Where something is refused before the first checkpoint the folder goes again: there is nothing in it to go on with,
    and it would stand in the way of the same command once that is corrected.
    """
    folder = _free(out, name)
    try:
        with owned(folder), memory_told():
            yield folder
    except JensenError:
        if not any(map(has_checkpoint, (folder, *folder.glob("*")))):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _free(out: str | os.PathLike[str] | None, name: str) -> Path:
    """A folder that was not there before."""
    if out is not None:
        folder = at_home(out)
        refuse_existing(folder)
        return _make(folder)
    stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in name) or "data"
    for number in range(1, 10**6):
        folder = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        if not os.path.lexists(folder):
            return _make(folder)
    raise RunError(f"no free name under runs/{stem}; choose one with --out.")


def _make(folder: Path) -> Path:
    try:
        str(folder).encode()  # the results name it
        folder.mkdir(parents=True)
    except UnicodeEncodeError as error:
        raise RunError(f"the name of the folder {str(folder)!r} is not UTF-8. Choose another --out.") from error
    except OSError as error:
        raise RunError(f"cannot make the folder {folder}: {error.strerror}. Choose another --out.") from error
    return folder


def write_data(folder: Path, splits: Splits) -> None:
    """Writes ``data.json``: what the rows are, how they were split, and how to find them again."""
    counts = {
        split: torch.bincount(numbers, minlength=len(splits.label_names)).tolist()
        for split, numbers in splits.labels.items()
    }
    known = {
        "names": splits.label_names,
        "counts": counts,
        "sha256": {split: splits.label_fingerprint(split) for split in splits.labels},
        **({"use": asdict(splits.use)} if splits.use is not None else {}),
    }
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
            **({"labels": known} if splits.labels else {}),
        },
    )


def write_files(folder: Path, splits: Splits) -> None:
    """Writes ``files.json`` where rows are image files: the file of each row, and why others were left out."""
    if splits.files:
        write_json(
            folder / "files.json",
            {"format": FORMAT, "folder": splits.reference, "rows": splits.files, "skipped": splits.skipped},
        )


def remember_place(folder: Path, splits: Splits) -> None:
    """Writes down where the data of a run were found to be now, so that later calls look there."""
    record = read_json(folder / "data.json")
    if splits.reference not in (None, record["reference"]):
        write_json(folder / "data.json", {**record, "reference": splits.reference})
        write_files(folder, splits)


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """The versions and the hardware that a result depends on."""
    from ..version import __version__

    return {
        "jensen": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": version("pillow"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": describe_device(device or find_device()),
    }


def read_options(folder: Path, config: Config) -> FitOptions:
    """The options of a run.

    Raises:
        FileFormatError: If there are none, or one is not valid.
    """
    try:
        return parse_options(dict(config.options) if isinstance(config.options, dict) else {"options": None})
    except OptionError as error:
        raise FileFormatError(f"{folder / 'config.json'} does not hold the options of a fit: {error}") from error


def check_split(split: str) -> None:
    """Refuses the name of a split that no run has.

    Raises:
        OptionError: If it is none.
    """
    if split not in SPLITS:
        raise OptionError(f"--split cannot be {split!r}; choose {', '.join(SPLITS[:-1])} or {SPLITS[-1]}.")


def reopen(folder: Path, data: DataLike | None = None) -> Splits:
    """Opens the data of a run again and checks that they are the same.

    Raises:
        RunError: If they are not, or came from memory and are not given.
        DataError: If they cannot be opened.
    """
    record = read_json(folder / "data.json")
    try:
        schema, key, digests = Schema.model_validate(record["schema"]), record["key"], dict(record["sha256"])
        recorded = record["reference"]
        if not isinstance(recorded, str | None) or not isinstance(key, str | None) or not set(digests) <= set(SPLITS):
            raise TypeError("its entries are of other types than a fit writes")
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{folder / 'data.json'} does not describe the data of a fit: {error}") from error
    reference = recorded if data is None else data
    if reference is None:
        raise RunError(
            f"the data of {folder} came from memory; in Python, pass them: jensen.resume({str(folder)!r}, data)."
        )
    splits = prepare(
        _source(folder, reference, key, schema, moved=data is not None),
        binarisation=schema.binarisation,
        seed=schema.seed,
        density=schema.kind == "continuous",
        text=TextOptions.of(schema),
    )
    # Data that were given by a name or a link, or have moved, keep the name that their numbers go by.
    splits = replace(splits, schema=splits.schema.model_copy(update={"name": schema.name}))
    shown = repr(reference) if isinstance(reference, str | os.PathLike) else "the data"
    for split, digest in digests.items():
        if splits.fingerprint(split) != digest:
            raise RunError(
                f"the {split} rows of {shown} are not those that {folder} was fitted on: their SHA-256 "
                f"differs{_change(splits, record)}. Put the old files back, or start a new fit."
            )
    if splits.schema != schema:
        raise RunError(
            f"{shown} has the rows of {folder} but not their units: the values, their grid or their vocabulary differ. "
            "Put the old files back, or start a new fit."
        )
    return replace(splits, use=_label_use(folder, record, splits))


def _source(folder: Path, reference: DataLike, key: str | None, schema: Schema, *, moved: bool) -> Source:
    """The rows of a run as they are found now; ``moved`` says that the user told where."""
    try:
        return open_source(reference, key=_key_of(reference, key), image_size=schema.event_shape)
    except DataError as error:
        if moved:
            raise
        remedy = _where_to_look(folder, str(reference))
        raise DataError(f"the data of {folder} cannot be opened: {error} If they have moved, {remedy}.") from error


def _key_of(data: DataLike, key: str | None) -> str | None:
    """The key that opens data given now, where that of the fit was ``key``: rows from memory have none."""
    if not isinstance(data, str | os.PathLike):
        return None
    path = at_home(data)
    return key_in(path, key) if path.is_file() else key


def _where_to_look(folder: Path, reference: str) -> str:
    """How a run is told where its data are now; true of all verbs, since some take other rows after the run."""
    if not os.path.isabs(reference):
        return f"set JENSEN_DATA to the folder that holds {reference}"
    run = resumable(folder)
    known = "" if run is None else f", and jensen fit PATH --resume {run} makes it known to all verbs"
    return f"jensen evaluate, check, classify and fit-prior take their new path after {folder}{known}"


def _label_use(folder: Path, record: Any, splits: Splits) -> LabelUse | None:
    """What the labels are for, as the record says."""
    labels = record.get("labels")
    found = labels.get("use") if isinstance(labels, dict) else None
    if found is None:
        return None
    if not splits.labels:
        raise RunError(
            f"{folder} was fitted to data with labels, and these have none. Put the labels back beside them."
        )
    try:
        use = LabelUse(**found)
        digests = dict(labels.get("sha256", {}))  # older runs have none
        if not (isinstance(use.condition, bool) and isinstance(use.count, int) and isinstance(use.seed, int)):
            raise TypeError("its entries are of other types than a fit writes")
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{folder / 'data.json'} does not say what labels are for: {error}") from error
    for split in splits.labels:
        if digests.get(split) not in (None, splits.label_fingerprint(split)):
            raise RunError(
                f"the {split} rows of {splits.schema.name} have other labels, or labels of other names, than those "
                f"that {folder} was fitted on: their SHA-256 differs. Put the old labels back, or start a new fit."
            )
    return use


def _change(splits: Splits, record: Mapping[str, Any]) -> str:
    """What may have changed in the data of a run, as far as its own record tells."""
    rows = record.get("rows")
    now = sum(map(len, splits.stored.values()))
    then = sum(n for n in rows.values() if isinstance(n, int)) if isinstance(rows, dict) else now
    if then != now:
        return f" ({then:,} rows then, {now:,} now)"
    return " (an image changed, or Pillow unpacks it otherwise than it did)" if splits.files else ""
