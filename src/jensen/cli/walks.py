"""``jensen traverse`` and ``jensen map``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from .show import Flag, Whole
from .use import Split, check_panels, is_conditioned, is_text, limits_of, rows_of, say, to_target

if TYPE_CHECKING:
    from ..fitted import Fitted

__all__ = ["latent_map", "traverse"]


def traverse(
    run: str,
    data: str | None = None,
    /,
    *,
    out: str = "traversal.png",
    row: Whole = 0,
    latent: Annotated[list[Whole] | None, Parameter(negative=())] = None,
    count: Annotated[Whole, Parameter(name=["--count", "-n"])] = 8,
    steps: Whole = 9,
    split: Split | None = None,
    json: Flag = False,
) -> None:
    """Show what becomes of a row when its latents are moved, one at a time, over the range of their prior.

    Parameters
    ----------
    run
        A run folder.
    data
        Rows in the units of the data: an array, a folder of images or one image; by default the run's own.
    out
        A .png picture with a line for each latent, or an .npy array; it must not exist.
    row
        Which row, counted from 0.
    latent
        A latent to move, counted from 0; may be given several times. By default those that differ most among the rows.
    count
        How many latents, where they are not named.
    steps
        How many values each takes.
    split
        Which of the run's own rows, by default test; data of your own are taken whole.
    json
        Print what was written as one JSON object on stdout.
    """
    import numpy as np

    from .. import pictures
    from ..errors import OptionError
    from ..evaluation import latent_size
    from ..walks import traverse as walk

    target = to_target(out, (".png", ".npy"))
    fitted, rows, labels = _opened(run, data, split)
    check_panels(target, steps * (len(latent) if latent else min(count, latent_size(fitted.vae))))
    labels = labels if is_conditioned(fitted) else None
    if not 0 <= row < len(rows):
        raise OptionError(f"--row must lie between 0 and {len(rows) - 1}; got {row}.")
    order = [row, *(number for number in range(len(rows)) if number != row)]
    ordered = None if labels is None else np.asarray(labels)[order].tolist()
    found = walk(fitted, rows[order], labels=ordered, latents=latent, count=count, steps=steps)
    if target.suffix == ".png":
        names = [f"latent {number}" for number in found.latents]
        title = "mean of p(x|z) as one latent at a time goes from 1 % to 99 % of its prior"
        pictures.traversals(target, found.rows, names, title, limits_of(fitted, found.rows))
    _written(run, target, found.rows, json=json, latents=list(found.latents), values=found.values.tolist())


def latent_map(
    run: str,
    data: str | None = None,
    /,
    *,
    out: str = "map.png",
    side: Whole = 15,
    split: Split | None = None,
    json: Flag = False,
) -> None:
    """Show the space of two latents: where rows lie in it, by label, and what the decoder makes of each place.

    Parameters
    ----------
    run
        A run folder, of a model with two latents.
    data
        Rows in the units of the data: an array, a folder of images or one image; by default the run's own.
    out
        A .png picture, or an .npy array of what lies at each place; it must not exist.
    side
        The number of places along each axis.
    split
        Which of the run's own rows, by default test; data of your own are taken whole.
    json
        Print what was written as one JSON object on stdout.
    """
    from .. import pictures
    from ..walks import latent_map as chart

    target = to_target(out, (".png", ".npy"))
    fitted, rows, labels = _opened(run, data, split)
    found = chart(fitted, rows, side=side)
    if target.suffix == ".png":
        known = None if labels is None or data is not None else labels.tolist()
        title = f"{len(rows)} rows in the space of two latents"
        limits = limits_of(fitted, found.rows)
        pictures.latent_map(target, found, title, limits, known, fitted.label_names)
    _written(run, target, found.rows, json=json, values=found.values.tolist())


def _opened(run: str, data: str | None, split: Split | None) -> tuple[Fitted, Any, Any]:
    """The model, rows and their labels where they are known."""
    from ..errors import OptionError
    from ..saving import load

    fitted = load(run)
    if is_text(fitted):
        raise OptionError(f"the rows of {run} are sentences, which have no picture. Use jensen interpolate.")
    rows, labels, _ = rows_of(run, data, split, fitted)
    return fitted, rows, labels


def _written(run: str, target: Path, rows: Any, *, json: bool, **more: Any) -> None:
    """Writes the rows where they are wanted as an array, and says what was written."""
    if target.suffix == ".npy":
        import numpy as np

        np.save(target, rows, allow_pickle=False)
    say(run, target, rows, json=json, **more)
