"""``jensen interpolate``."""

from __future__ import annotations

from .show import Flag, Whole
from .use import check_panels, chosen_label, is_text, say, tell_sentences, to_target, write

__all__ = ["interpolate"]


def interpolate(
    run: str,
    first: str,
    second: str,
    /,
    *,
    steps: Whole = 8,
    label: str | None = None,
    out: str | None = None,
    json: Flag = False,
) -> None:
    """Show what a run's model makes of the codes on the straight line between those of two rows.

    Parameters
    ----------
    run
        A run folder.
    first
        A sentence, for a model of sentences; otherwise a file of which the first row is taken, such as an image.
    second
        Another.
    steps
        How many rows, those of both ends included.
    label
        The label of both, by its name or its number, for a model of rows given their label.
    out
        A .png picture or an .npy array, by default interpolation.png, or a .txt file for sentences, which are printed
        without it; it must not exist.
    json
        Print what was made as one JSON object on stdout.
    """
    from ..saving import load

    target = None if out is None else to_target(out)
    fitted = load(run)
    if is_text(fitted):
        between = fitted.interpolate(first, second, steps=steps, label=chosen_label(label, fitted))
        tell_sentences(run, between, target, json=json)
        return
    target = target or to_target("interpolation.png")
    check_panels(target, steps)
    ends = [fitted.read(path).rows[0] for path in (first, second)]
    rows = fitted.interpolate(ends[0], ends[1], steps=steps, label=chosen_label(label, fitted))
    title = f"{steps} codes on the line between two rows: mean of p(x|z)"
    say(run, target, write(target, rows, title, fitted, most=steps), json=json)
