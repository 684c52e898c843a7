"""``jensen sample``, ``jensen embed`` and ``jensen reconstruct``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from .show import Flag, Whole, console, print_json

if TYPE_CHECKING:
    from ..fitted import Fitted

__all__ = ["embed", "reconstruct", "sample"]
Split = Literal["train", "valid", "test"]


def sample(
    run: str,
    /,
    *,
    n: Annotated[Whole, Parameter(name=["--count", "-n"])] = 16,
    out: str = "samples.png",
    seed: Whole = 0,
    mean: Flag = False,
    json: Flag = False,
) -> None:
    """Draw new rows from a run's model.

    Parameters
    ----------
    run
        A run folder.
    n
        How many.
    out
        A .png picture or an .npy array in the units of the data; it must not exist.
    seed
        The seed of the draw.
    mean
        Show the mean of p(x|z) for each drawn z instead of a draw of x.
    json
        Print what was written as one JSON object on stdout.
    """
    from ..errors import OptionError
    from ..saving import load

    if not 1 <= n <= 10**6:
        raise OptionError(f"-n must lie between 1 and 1000000; got {n}.")
    target = _target(out, (".png", ".npy"))
    fitted = load(run)
    rows = fitted.sample(n, seed=seed, mean=mean)
    what = "mean of p(x|z) for z drawn from the prior" if mean else "draws of x"
    _write(target, rows, f"{n} samples: {what}", fitted)
    _say(run, target, rows, json=json)


def embed(run: str, data: str | None = None, /, *, out: str, split: Split = "test", json: Flag = False) -> None:
    """Write the posterior mean of each row, an array of shape (N, latents).

    Parameters
    ----------
    run
        A run folder.
    data
        Rows in the units of the data: an array, a folder of images or one image; by default the run's own.
    out
        An .npy file; it must not exist.
    split
        Which of the run's own rows.
    json
        Print what was written as one JSON object on stdout.
    """
    from ..saving import load

    target = _target(out, (".npy",))
    fitted = load(run)
    rows, files = _rows(run, data, split, fitted)
    codes = fitted.embed(rows)
    _write(target, codes, "", fitted)
    _say(run, target, codes, json=json, **files)


def reconstruct(run: str, data: str | None = None, /, *, out: str, split: Split = "test", json: Flag = False) -> None:
    """Write the mean of p(x|z) at the posterior mean of each row, in the units of the data.

    Parameters
    ----------
    run
        A run folder.
    data
        Rows in the units of the data: an array, a folder of images or one image; by default the run's own.
    out
        A .png picture of the first 36, or an .npy array; it must not exist.
    split
        Which of the run's own rows.
    json
        Print what was written as one JSON object on stdout.
    """
    from ..saving import load

    target = _target(out, (".png", ".npy"))
    fitted = load(run)
    rows, files = _rows(run, data, split, fitted)
    again = fitted.reconstruct(rows)
    _write(target, again, "mean of p(x|z) at the posterior mean", fitted)
    _say(run, target, again, json=json, **files)


def _rows(run: str, data: str | None, split: Split, fitted: Fitted) -> tuple[Any, dict[str, Any]]:
    """The rows, and, where they are image files, which file each is and which were left out."""
    from ..data import tell_skipped
    from ..run import reopen

    if data is None:
        splits = reopen(Path(run))
        return splits.user_rows(split), {"files": splits.files[split]} if splits.files else {}
    source = fitted.read(data)
    for note in [*source.notes, *tell_skipped(source.skipped, "; --json lists all")]:
        console().print(f"note: {note}", markup=False)
    files = [name for names in source.files.values() for name in names]
    return source.rows, {"files": files, "skipped": source.skipped} if files else {}


def _target(out: str, endings: tuple[str, ...]) -> Path:
    from ..errors import OptionError, RunError

    path = Path(out)
    if path.suffix not in endings:
        raise OptionError(f"--out must end in {' or '.join(endings)}; got {out!r}.")
    if path.exists():
        raise RunError(f"{path} exists already; choose another --out.")
    if not path.absolute().parent.is_dir():
        raise RunError(f"there is no folder {path.absolute().parent}; make it first, or choose another --out.")
    return path


def _write(path: Path, rows: Any, title: str, fitted: Fitted) -> None:
    import numpy as np

    from .. import pictures

    if path.suffix == ".npy":
        np.save(path, rows, allow_pickle=False)
        return
    schema = fitted.schema
    if schema is not None and schema.kind != "continuous" and schema.binarisation == "none":
        limits = (schema.offset, schema.offset + schema.step * (schema.levels - 1))
    else:
        limits = (0.0, 1.0) if schema is not None and schema.binary else (float(rows.min()), float(rows.max()))
    pictures.grid(path, rows[:400] if title.startswith(str(len(rows))) else rows[:36], title, limits)


def _say(run: str, path: Path, rows: Any, *, json: bool, **more: Any) -> None:
    if json:
        what = {"run": run, "out": str(path), "shape": list(rows.shape), "dtype": str(rows.dtype)}
        print_json({"schema_version": 1, **what, **more})
    else:
        console().print(f"wrote {path}: shape {tuple(rows.shape)}", markup=False)
