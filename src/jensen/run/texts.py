"""What a run of a model of sentences shows: texts instead of pictures."""

from __future__ import annotations

from pathlib import Path

from ..data import Splits
from ..fitted import Fitted

__all__ = ["write_inputs", "write_sentences"]

_SHOWN = 16


def write_inputs(folder: Path, splits: Splits) -> None:
    """Writes ``inputs.txt``: training rows as the model sees them."""
    schema = splits.schema
    rows = schema.user_values(schema.grey(splits.stored["train"][:_SHOWN]), exact=True)
    _write(folder / "inputs.txt", list(rows))


def write_sentences(folder: Path, fitted: Fitted, splits: Splits) -> None:
    """Writes ``samples.txt`` and, for a model with latents, ``reconstructions.txt``."""
    _write(folder / "samples.txt", list(fitted.sample(36, seed=0)))
    if fitted.vae.latent_size:
        rows = list(splits.user_rows("test")[:_SHOWN])
        again = fitted.reconstruct(rows)
        lines = [line for a, b in zip(rows, again, strict=True) for line in (a, f"  → {b}")]
        _write(folder / "reconstructions.txt", lines)


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(line.replace("\n", " ") for line in lines) + "\n", encoding="utf-8")
