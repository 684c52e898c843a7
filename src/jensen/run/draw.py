"""The pictures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import pictures
from ..data import Splits
from ..fitted import Fitted
from ..train import History

__all__ = ["draw_inputs", "draw_results"]


def _limits(splits: Splits) -> tuple[float, float]:
    schema = splits.schema
    if schema.binary:
        return 0.0, 1.0
    if schema.kind == "binned":
        return schema.offset, schema.offset + schema.step * (schema.levels - 1)
    values = schema.user_values(splits.frozen("train")[:1000], exact=False)
    return float(np.quantile(values, 0.01)), float(np.quantile(values, 0.99))


def draw_inputs(folder: Path, splits: Splits) -> None:
    """Writes ``inputs.png``."""
    rows = splits.schema.user_values(splits.schema.freeze(splits.stored["train"][:16]), exact=False)
    pictures.grid(
        folder / "inputs.png", rows, f"{splits.schema.name}: training rows as the model sees them", _limits(splits)
    )


def draw_results(folder: Path, fitted: Fitted, splits: Splits, lines: list[dict[str, Any]], history: History) -> None:
    """Writes ``reconstructions.png``, ``samples.png`` and ``curves.png``."""
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
