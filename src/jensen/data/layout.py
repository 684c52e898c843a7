"""Labels and splits of images, from the names of the sub-folders they lie in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import SPLITS
from .remarks import shown

__all__ = ["Layout", "layout"]

Array = NDArray[Any]

_ROLES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Layout:
    """What the sub-folders of a folder of images say.

    Arguments:
        splits: The rows of each split, or all of them under ``all``.
        labels: The number of the label of each row; None where there are no labels.
        names: The names of the labels.
        notes: What was made of the sub-folders.
    """

    splits: dict[str, Array]
    labels: Array | None = None
    names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def layout(files: list[str]) -> Layout:
    """Labels and splits from sub-folders: the first level names the label, unless it names train and test.

    Arguments:
        files: Paths within the folder.

    Example:
        >>> found = layout(["cat/1.png", "cat/2.png", "dog/1.png"])
        >>> found.labels.tolist(), found.names
        ([0, 0, 1], ['cat', 'dog'])
    """
    parts = [PurePosixPath(name).parts for name in files]
    roles = [_ROLES.get(part[0].lower()) if len(part) > 1 else None for part in parts]
    if None in roles:
        labels, names, notes = _labels([part[:-1] for part in parts])
        return Layout({"all": np.arange(len(files))}, labels, names, notes)
    labels, names, notes = _labels([part[1:-1] for part in parts])
    if not {"train", "test"} <= set(roles):
        told = f"sub-folders {', '.join(sorted({part[0] for part in parts}))} are no labels; all rows are split anew"
        return Layout({"all": np.arange(len(files))}, labels, names, [told, *notes])
    splits: dict[str, Array] = {}
    for role in SPLITS:
        if role in roles:
            splits[role] = np.flatnonzero(np.array(roles) == role)
    return Layout(splits, labels, names, [f"splits taken from sub-folders: {', '.join(splits)}", *notes])


def _labels(folders: list[tuple[str, ...]]) -> tuple[Array | None, list[str], list[str]]:
    """Labels by the first folder of each file, their names, and what there is to say."""
    names = sorted({folder[0] for folder in folders if folder})
    direct = sum(not folder for folder in folders)
    if names and direct:
        told = (
            f"images beside the sub-folders: {direct:,}, in them: {len(folders) - direct:,}, so there are no labels; "
        )
        return None, [], [told + "put each image into a sub-folder to have them"]
    if len(names) < 2:
        return None, [], []
    number = {name: place for place, name in enumerate(names)}
    some = ", ".join(map(shown, names[:10])) + (", …" if len(names) > 10 else "")
    labels = np.array([number[folder[0]] for folder in folders], np.int64)
    return labels, names, [f"labels from sub-folders: {some}"]
