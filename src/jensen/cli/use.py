"""``jensen sample``, ``jensen embed`` and ``jensen reconstruct``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from .show import Flag, Whole, console, print_json

if TYPE_CHECKING:
    from ..fitted import Fitted

__all__ = [
    "check_panels",
    "chosen_label",
    "embed",
    "is_conditioned",
    "is_text",
    "limits_of",
    "reconstruct",
    "rows_of",
    "sample",
    "say",
    "tell_sentences",
    "to_target",
    "write",
]
Split = Literal["train", "valid", "test"]
_DRAWN = 400


def sample(
    run: str,
    /,
    *,
    n: Annotated[Whole, Parameter(name=["--count", "-n"])] = 16,
    out: str | None = None,
    seed: Whole = 0,
    mean: Annotated[Flag, Parameter(name=["--mean", "--greedy"])] = False,
    temperature: float = 1.0,
    label: str | None = None,
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
        A .png picture of the first 400 or an .npy array in the units of the data, by default samples.png, or a .txt
        file for sentences, which are printed without it; it must not exist.
    seed
        The seed of the draw.
    mean
        Show the mean of p(x|z) for each drawn z instead of a draw of x; of sentences the greedy one.
    temperature
        For sentences, what the logits of each token are divided by: below 1 for sharper choices.
    label
        The label of the rows, by its name or its number, for a model of rows given their label; by default any.
    json
        Print what was written as one JSON object on stdout.
    """
    from ..errors import OptionError
    from ..evaluation import latent_size
    from ..saving import load

    if not 1 <= n <= 10**6:
        raise OptionError(f"-n must lie between 1 and 1000000; got {n}.")
    target = None if out is None else to_target(out)
    fitted = load(run)
    rows = fitted.sample(n, seed=seed, mean=mean, temperature=temperature, label=chosen_label(label, fitted))
    if is_text(fitted):
        tell_sentences(run, rows, target, json=json)
        return
    target = target or to_target("samples.png")
    # Without latents there is no p(x|z), and what is returned are draws.
    what = "mean of p(x|z) for z drawn from the prior" if mean and latent_size(fitted.vae) else "draws of x"
    written = write(target, rows, f"{min(n, _DRAWN)} samples: {what}", fitted, most=_DRAWN)
    say(run, target, written, json=json)


def embed(run: str, data: str | None = None, /, *, out: str, split: Split | None = None, json: Flag = False) -> None:
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
        Which of the run's own rows, by default test; data of your own are taken whole.
    json
        Print what was written as one JSON object on stdout.
    """
    from ..saving import load

    target = to_target(out, (".npy",))
    fitted = load(run)
    rows, labels, files = rows_of(run, data, split, fitted)
    codes = fitted.embed(rows, labels=labels if is_conditioned(fitted) else None)
    say(run, target, write(target, codes, "", fitted), json=json, **files)


def reconstruct(
    run: str,
    data: str | None = None,
    /,
    *,
    out: str | None = None,
    split: Split | None = None,
    deviation: Flag = False,
    json: Flag = False,
) -> None:
    """Write the mean of p(x|z) at the posterior mean of each row, in its units; of sentences the greedy ones.

    Parameters
    ----------
    run
        A run folder.
    data
        Rows in the units of the data: an array, a folder of images or one image; by default the run's own.
    out
        A .png picture of the first 36, an .npy array, or a .txt file for sentences, which are printed without it; it
        must not exist.
    split
        Which of the run's own rows, by default test; data of your own are taken whole.
    deviation
        Write the standard deviation of each value instead: how uncertain it is, where the decoder's weights are
        uncertain that included.
    json
        Print what was written as one JSON object on stdout.
    """
    from ..errors import OptionError
    from ..saving import load

    target = None if out is None else to_target(out)
    fitted = load(run)
    rows, labels, files = rows_of(run, data, split, fitted)
    again = fitted.reconstruct(rows, labels=labels if is_conditioned(fitted) else None, deviation=deviation)
    if is_text(fitted):
        tell_sentences(run, again, target, json=json)
        return
    if target is None:
        raise OptionError("give a file to write to: --out new.png, or --out new.npy.")
    what, limits = ("standard deviation", (0.0, float(again.max()))) if deviation else ("mean", None)
    written = write(target, again, f"{what} of p(x|z) at the posterior mean", fitted, limits=limits)
    say(run, target, written, json=json, **files)


def rows_of(run: str, data: str | None, split: Split | None, fitted: Fitted) -> tuple[Any, Any, dict[str, Any]]:
    """The rows, their labels where they are known, and, where they are image files, which file each is and which were
    left out.
    """
    from ..data import tell_skipped
    from ..errors import OptionError
    from ..files import at_home
    from ..run import reopen

    if data is None:
        part, splits = split or "test", reopen(at_home(run))
        return splits.user_rows(part), splits.labels.get(part), {"files": splits.files[part]} if splits.files else {}
    if split is not None:
        raise OptionError(
            f"--split {split} chooses among the rows that {run} was fitted and tested on; {data} is taken whole. Leave "
            "one of them out."
        )
    source = fitted.read(data)
    for note in [*source.notes, *tell_skipped(source.skipped, "; --json lists all")]:
        console().print(f"note: {note}")
    files = [name for names in source.files.values() for name in names]
    labels = None
    if source.labels is not None:
        labels = [source.label_names[number] for part in source.labels.values() for number in part]
    return source.rows, labels, {"files": files, "skipped": source.skipped} if files else {}


def to_target(out: str, endings: tuple[str, ...] = (".png", ".npy", ".txt")) -> Path:
    """The file to write to, which does not exist yet."""
    from ..errors import OptionError, RunError
    from ..files import at_home

    path = at_home(out)
    if path.suffix not in endings:
        raise OptionError(f"--out must end in {' or '.join(endings)}; got {out!r}.")
    if path.exists():
        raise RunError(f"{path} exists already; choose another --out.")
    if not path.absolute().parent.is_dir():
        raise RunError(f"there is no folder {path.absolute().parent}; make it first, or choose another --out.")
    return path


def chosen_label(label: str | None, fitted: Fitted) -> str | int | None:
    """A label by its name, or by its number where no label has that name."""
    return int(label) if label is not None and label not in fitted.label_names and label.isdecimal() else label


def is_conditioned(fitted: Fitted) -> bool:
    """Whether a model is given labels beside rows."""
    return bool(getattr(fitted.vae, "conditions", 0))


def check_panels(path: Path, count: int) -> None:
    """Refuses a picture of more rows than can be seen, and than are drawn in a few seconds."""
    from ..errors import OptionError

    if path.suffix == ".png" and count > _DRAWN:
        raise OptionError(
            f"a picture shows at most {_DRAWN} rows; these are {count}. Ask for fewer, or for an .npy file."
        )


def is_text(fitted: Fitted) -> bool:
    """Whether the rows of a model are sentences."""
    return fitted.schema is not None and fitted.schema.kind == "tokens"


def tell_sentences(run: str, sentences: list[str], path: Path | None, *, json: bool) -> None:
    """Writes sentences to a file, or prints them."""
    from ..errors import OptionError

    if path is not None and path.suffix != ".txt":
        raise OptionError(f"the rows of {run} are sentences: --out must end in .txt; got {path.name}.")
    lines = [" ".join(sentence.split()) for sentence in sentences]
    if path is not None:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        console().print(f"wrote {path}: {len(lines)} sentences")
    if json:
        print_json({"run": run, "out": str(path) if path else None, "sentences": sentences})
    elif path is None:
        code = sys.stdout.encoding or "utf-8"  # of one that takes fewer letters the others are written as numbers
        sys.stdout.write("\n".join(lines).encode(code, errors="backslashreplace").decode(code) + "\n")


def write(
    path: Path, rows: Any, title: str, fitted: Fitted, *, most: int = 36, limits: tuple[float, float] | None = None
) -> Any:
    """Writes rows as an array, or the first of them as a picture, and returns those that were written."""
    import numpy as np

    from .. import pictures
    from ..errors import OptionError

    if path.suffix == ".npy":
        np.save(path, rows, allow_pickle=False)
        return rows
    if path.suffix != ".png":
        raise OptionError(f"only sentences are written as text; --out must end in .png or .npy, got {path.name}.")
    pictures.grid(path, rows[:most], title, limits or limits_of(fitted, rows))
    return rows[:most]


def limits_of(fitted: Fitted, rows: Any) -> tuple[float, float]:
    """The values that are drawn as black and as white."""
    known = None if fitted.schema is None else fitted.schema.limits
    return (float(rows.min()), float(rows.max())) if known is None else known


def say(run: str, path: Path, rows: Any, *, json: bool, **more: Any) -> None:
    """Says what was written."""
    if json:
        what = {"run": run, "out": str(path), "shape": list(rows.shape), "dtype": str(rows.dtype)}
        print_json({**what, **more})
    else:
        console().print(f"wrote {path}: shape {tuple(rows.shape)}")
