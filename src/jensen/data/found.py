"""Rows as they were found, before any split: the arrays, where they came from and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .schema import Binarisation

__all__ = ["Source"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Source:
    r"""Rows as they were found: the arrays by split, or all of them under ``all``, and where they came from.

    Arguments:
        name: The name of the data.
        arrays: The rows, shape (N, \*X).
        reference: The name or path that opens the data again; None for data from memory.
        key: Which array of the file was taken.
        binarisation: What the data are known for.
        valid_rows: The number of validation rows to take from the training file where a data set has no own ones.
        notes: What was noticed.
        labels: The number of the label of each row, by split like the rows; None where there are no labels.
        label_names: The names of the labels.
        pixels: Whether the values are those of 8-bit pixels, whether or not each of the 256 levels occurs.
        files: The file of each row, by split like the rows, where rows are image files.
        skipped: The image files that could not be read, each with the reason.
    """

    name: str
    arrays: dict[str, Array]
    reference: str | None
    key: str | None = None
    binarisation: Binarisation = "none"
    valid_rows: int | None = None
    notes: list[str] = field(default_factory=list)
    labels: dict[str, Array] | None = None
    label_names: list[str] = field(default_factory=list)
    pixels: bool = False
    files: dict[str, list[str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> Array:
        """All rows, one split after the other.

        Raises:
            DataError: If they differ in shape.
        """
        (name, first), *others = self.arrays.items()
        for split, rows in others:
            if rows.shape[1:] != first.shape[1:]:
                raise DataError(
                    f"the {split} rows of {self.name} have shape {rows.shape[1:]}; those of {name} have "
                    f"{first.shape[1:]}. All splits must hold rows of one shape."
                )
        return np.concatenate([first, *(rows for _, rows in others)]) if others else first
