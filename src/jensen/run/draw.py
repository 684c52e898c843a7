"""The pictures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import pictures
from ..data import Schema, Splits
from ..data.schema import Array
from ..diagnose.features import dictionary, feature_frequencies, has_features
from ..evaluation import evidence_of, latent_size
from ..fitted import Fitted
from ..train import History
from .texts import write_inputs, write_sentences

__all__ = ["can_be_sampled", "draw_inputs", "draw_results"]

_MOST_PICTURES = 64


def can_be_sampled(model: Any) -> bool:
    """Whether a model draws rows: it defines p(x), or has a prior of its codes where it does not."""
    return evidence_of(model) != "none" or hasattr(model, "prior")


def _is_table(schema: Schema) -> bool:
    return schema.kind == "continuous" and len(schema.event_shape) == 1


def _shown(schema: Schema, x: Tensor) -> Array:
    """Model values as they are drawn: in the user's units, but standardised for tables, whose columns differ."""
    shown: Array = x.numpy() if _is_table(schema) else schema.user_values(x, exact=False)
    return shown


def _limits(splits: Splits) -> tuple[float, float]:
    """The values drawn as black and as white."""
    if splits.schema.limits is not None:
        return splits.schema.limits
    values = _shown(splits.schema, splits.frozen("train")[:1000])
    return float(np.quantile(values, 0.01)), float(np.quantile(values, 0.99))


def _title(schema: Schema, text: str) -> str:
    return f"{schema.name}: {text}" + (", columns standardised" if _is_table(schema) else "")


def _first(splits: Splits, split: str, count: int = 16) -> Tensor:
    """A few stored rows: the first, or from all over where rows lie in the order of their files, label by label."""
    return splits.stored[split][_places(splits, split, count)]


def _places(splits: Splits, split: str, count: int = 16) -> Tensor:
    rows = len(splits.stored[split])
    if not splits.files:
        return torch.arange(min(count, rows))
    return torch.linspace(0, rows - 1, min(count, rows)).long()


def draw_inputs(folder: Path, splits: Splits) -> None:
    """Writes ``inputs.png``, or ``inputs.txt`` for sentences."""
    schema = splits.schema
    if schema.kind == "tokens":
        write_inputs(folder, splits)
        return
    rows = _shown(schema, schema.freeze(_first(splits, "train")))
    pictures.grid(folder / "inputs.png", rows, _title(schema, "training rows as the model sees them"), _limits(splits))


def draw_results(folder: Path, fitted: Fitted, splits: Splits, lines: list[dict[str, Any]], history: History) -> None:
    """Writes ``curves.png``, and as far as the model can make them ``reconstructions.png``, ``samples.png`` and, of
    features that are on or off, ``dictionary.png`` and ``frequencies.png``.
    """
    schema = splits.schema
    pictures.curves(folder / "curves.png", lines, history.best_step, f"{schema.name}: while training")
    if schema.kind == "tokens":
        write_sentences(folder, fitted, splits)
        return
    limits = _limits(splits)
    model = Fitted(fitted.vae)  # in model values
    x, labels = schema.freeze(_first(splits, "test")), None
    if splits.conditioned:
        labels = splits.labels["test"][_places(splits, "test")]
    if latent_size(fitted.vae):
        pictures.pairs(
            folder / "reconstructions.png",
            _shown(schema, x),
            _shown(schema, model.reconstruct(x, labels=labels)),
            _title(schema, "test rows beside the mean of p(x|z) at the posterior mean"),
            limits,
        )
    if can_be_sampled(fitted.vae):
        what = "mean of p(x|z) for z drawn from the prior (not draws of x)" if latent_size(fitted.vae) else "draws of x"
        label = torch.arange(36) % len(splits.label_names) if splits.conditioned else None  # one after the other
        drawn = torch.from_numpy(model.sample(36, seed=0, mean=True, label=label))
        pictures.grid(folder / "samples.png", _shown(schema, drawn), _title(schema, what), limits)
    if has_features(fitted.vae):
        _draw_features(folder, fitted.vae, splits)


def _draw_features(folder: Path, model: Any, splits: Splits) -> None:
    schema = splits.schema
    added = dictionary(model).numpy()[:_MOST_PICTURES]
    end = float(np.abs(added).max())
    title = _title(schema, f"what each feature adds to the mean of p(x|z), −{end:.2g} to {end:.2g} in model values")
    pictures.grid(folder / "dictionary.png", added, title, (-end, end))
    found = feature_frequencies(model, splits.frozen("test"))
    pictures.shares(
        folder / "frequencies.png",
        found.found.numpy(),
        found.mean.numpy(),
        f"{schema.name}: share of test rows with each feature, the most frequent first",
        (found.low.numpy(), found.high.numpy()),
    )
