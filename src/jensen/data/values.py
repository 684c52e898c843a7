"""Values as they were given: whether they are finite real numbers, or sentences, that can be learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

__all__ = ["EXACT", "LARGE", "SMALL", "check_values", "check_varied", "sentences_of"]

Array = NDArray[Any]

EXACT = 2**53  # up to here a float64 holds every integer
LARGE, SMALL = 1e30, 1e-30  # beyond these, squares leave the range of float32


def check_values(values: Array, name: str) -> None:
    """Checks that an array holds finite real numbers in rows.

    Raises:
        DataError: If it does not.
    """
    if values.dtype.kind not in "buif":
        kinds = {
            "c": "complex numbers",
            "U": "text",
            "S": "text",
            "O": "Python objects",
            "M": "dates",
            "m": "durations",
            "V": "records",
        }
        raise DataError(
            f"{name} holds {kinds.get(values.dtype.kind, 'values')} (type {values.dtype}); expected rows of real "
            "numbers, shape (N, *X). Turn them into numbers first."
        )
    if values.ndim == 0:
        raise DataError(f"{name} is a single number; expected rows, shape (N, *X).")
    if values.size == 0:
        raise DataError(f"{name} is empty: shape {values.shape}; expected rows, shape (N, *X).")
    if values.dtype.kind in "iu" and max(int(values.max()), -int(values.min())) > EXACT:
        raise DataError(
            f"{name} has integers from {values.min()} to {values.max()}; beyond ±2**53 they are not exact as floats. "
            "Subtract an offset or rescale them."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = ~np.isfinite(values)
        where = np.argwhere(bad)[0].tolist()
        raise DataError(
            f"{name} has values that are not finite, {int(bad.sum())} in all; the first is {values[tuple(where)]} "
            f"in row {where[0]} at position {where[1:]}. Remove those rows or replace the values."
        )


def check_varied(values: Array, name: str) -> None:
    """Checks that there is something to learn, at a scale that single precision can hold.

    Raises:
        DataError: If all values are equal, or too large or too close for their squares.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise DataError(
            f"all values of {name} equal {low:g}: there is nothing to learn. Check how the file was written."
        )
    large = max(abs(low), abs(high))
    if large > LARGE or high - low < SMALL:
        raise DataError(
            f"{name} has values from {low:.6g} to {high:.6g}; expected sizes below {LARGE:g} and differences above "
            f"{SMALL:g}. Rescale them, or remove what is not a measurement."
        )


def sentences_of(values: Any, name: str) -> list[str]:
    """Rows as a list of sentences.

    Raises:
        DataError: If they are not.
    """
    if isinstance(values, str):
        raise DataError(f"got one sentence; expected a list of sentences: [{values[:40]!r}].")
    try:
        found = np.asarray(values, dtype=object)
    except (TypeError, ValueError, RuntimeError):  # no array at all, such as rows of several shapes
        found = np.empty(0, dtype=object)
    if found.ndim != 1 or not len(found) or not all(isinstance(item, str) for item in found):
        raise DataError(f"{name} holds sentences; expected a list of strings, got {type(values).__name__}.")
    return [str(item) for item in found]
