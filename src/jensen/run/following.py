"""What can be done with a finished run next."""

from __future__ import annotations

import shlex

from ..diagnose.checking import why_unchecked
from .draw import can_be_sampled
from .fitting import Run

__all__ = ["what_follows"]


def what_follows(run: Run) -> list[str]:
    """The commands that look further into a finished run and that its model does not refuse.

    Arguments:
        run: A finished run.
    """
    # What is written goes into the folder of the run: elsewhere it might be taken for data, beside images for one more.
    path, new, codes = (shlex.quote(str(run.path / name)) for name in ("", "new.png", "codes.npy"))
    fitted, found = run.model, []
    if can_be_sampled(fitted.vae):
        text = fitted.schema is not None and fitted.schema.kind == "tokens"
        found.append(f"jensen sample {path} -n 16" + ("" if text else f" --out {new}"))
    if why_unchecked(fitted.vae) is None:
        found.append(f"jensen check {path}")
    return found or [f"jensen embed {path} --out {codes}"]
