"""Data sets that are known by name: where they are looked for, and what is in their files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from ..errors import FileFormatError
from ..files import at_home
from .arrays import SPLITS, read_idx, read_member
from .found import Source
from .schema import Binarisation

__all__ = ["DOWNLOADS", "NAMED", "data_folders", "digits"]

Array = NDArray[Any]

_MNIST_PARTS = {"train": "train", "test": "t10k"}
_NUMERALS = [str(number) for number in range(10)]
_CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def data_folders() -> list[Path]:
    """Where named data are looked for: ``$JENSEN_DATA``, then the user's cache."""
    named = os.environ.get("JENSEN_DATA")
    return [*([at_home(named)] if named else []), Path(platformdirs.user_cache_dir("jensen")) / "data"]


def digits() -> Source:
    """The handwritten digits that scikit-learn brings along."""
    from sklearn.datasets import load_digits  # slow to import

    found = load_digits()
    labels = found.target.astype(np.int64)
    return Source("digits", {"all": found.images}, "digits", labels={"all": labels}, label_names=_NUMERALS)


def _open_mnist(folder: Path, name: str) -> Source:
    images = {split: _read_part(folder, f"{part}-images-idx3-ubyte") for split, part in _MNIST_PARTS.items()}
    binarisation: Binarisation = "dynamic" if name == "mnist" else "none"
    source = Source(name, images, name, None, binarisation, valid_rows=5000)
    labels = _mnist_labels(folder, images)
    names = _CLOTHES if name == "fashion-mnist" else _NUMERALS
    return source if labels is None else replace(source, labels=labels, label_names=names)


def _mnist_labels(folder: Path, images: dict[str, Array]) -> dict[str, Array] | None:
    """The labels of MNIST and its kin; None unless those of both files are there."""
    labels = {}
    for split, part in _MNIST_PARTS.items():
        if _find_part(folder, f"{part}-labels-idx1-ubyte") is None:
            return None
        found = _read_part(folder, f"{part}-labels-idx1-ubyte")
        if found.shape != images[split].shape[:1] or found.max(initial=0) > 9:
            raise FileFormatError(
                f"{folder} has {split} labels of shape {found.shape} up to {found.max(initial=0)}; expected one of 0 "
                f"to 9 for each of {len(images[split])} images. Fetch the files again, or remove those of the labels."
            )
        labels[split] = found.astype(np.int64)
    return labels


def _find_part(folder: Path, part: str) -> Path | None:
    """A file of a data set in the idx format, packed or not."""
    return next((path for path in (folder / f"{part}.gz", folder / part) if path.exists()), None)


def _read_part(folder: Path, part: str) -> Array:
    path = _find_part(folder, part)
    if path is None:
        raise FileFormatError(f"{folder} has no file {part} or {part}.gz.")
    return read_idx(path)


def _open_mnist_static(folder: Path, name: str) -> Source:
    with zipfile.ZipFile(folder / "binarized_mnist.npz") as archive:
        arrays = {split: np.unpackbits(read_member(archive, split), axis=1) for split in SPLITS}
    return Source(name, {split: rows.reshape(-1, 28, 28) for split, rows in arrays.items()}, name)


NAMED: dict[str, tuple[str, Callable[[Path, str], Source] | None]] = {
    "mnist": ("mnist", _open_mnist),
    "fashion-mnist": ("fashion-mnist", _open_mnist),
    "mnist-static": ("mnist-static-binarized", _open_mnist_static),
}
DOWNLOADS = {"mnist": "mnist", "fashion-mnist": "fashion-mnist"}
