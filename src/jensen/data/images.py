"""A folder of images, or one image file, as rows of pixels: everything is unpacked once, up front."""

from __future__ import annotations

import os
import statistics
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError, OptionError
from .memory import available_memory
from .pixels import SIDE, Facts, ImageSize, decode, look, reason_of
from .remarks import account, none_readable, nothing_in, remarks
from .tree import Tree, printable, search

__all__ = ["Images", "read_images"]

Array = NDArray[Any]
T = TypeVar("T")

_MIN_SIDE, _MAX_SIDE = 4, 1024
_COPIES = 4  # of the pixels, while rows are split and stored
_BATCH = 32


@dataclass(frozen=True)
class Images:
    """Image files as rows.

    Arguments:
        rows: The pixels, 8 bits, shape (N, H, W) or (N, H, W, 3).
        files: The file of each row: its path within the folder.
        skipped: Why a file was not read, by path within the folder.
        notes: What was done to the images.
    """

    rows: Array
    files: list[str]
    skipped: dict[str, str]
    notes: list[str]


def read_images(path: Path, size: ImageSize) -> Images:
    """Reads all images of a folder, or one image file.

    Arguments:
        path: The folder or the file.
        size: The side in pixels, grey or colour as the images are; or the whole shape of a row, (H, W), (H, W, 1) or
            (H, W, 3). By default 64, or the median short side of the images where that is smaller.

    Raises:
        DataError: If there is no image, none can be read, or they take more memory than there is.
        OptionError: If the size is out of range.
    """
    _check_size(size, path)
    folder, found = (path, search(path)) if path.is_dir() else (path.parent, Tree([path.name]))
    if not found.files:
        raise DataError(nothing_in(path, found))
    paths = [folder / name for name in found.files]
    heads = _each(lambda i: look(paths[i]), len(paths))
    readable = [i for i, head in enumerate(heads) if isinstance(head, Facts)]
    first = [head for head in heads if isinstance(head, Facts)]
    height, width, grey = _shape(size, first)
    _check_memory(len(readable), height, width, 1 if grey else 3, size, path)
    rows = np.empty((len(readable), height, width) if grey else (len(readable), height, width, 3), np.uint8)

    def unpack(place: int) -> Facts:
        rows[place], facts = decode(paths[readable[place]], height, width, grey=grey)
        return facts

    facts: list[Facts | str] = [head if isinstance(head, str) else "" for head in heads]
    for place, result in enumerate(_each(unpack, len(readable))):
        facts[readable[place]] = result
    names = [printable(name) for name in found.files]
    reasons = {names[i]: reason for i, reason in enumerate(facts) if isinstance(reason, str)}
    skipped = dict(sorted((found.skipped | reasons).items()))
    kept = [i for i, fact in enumerate(facts) if isinstance(fact, Facts)]
    if not kept:
        raise DataError(none_readable(path, skipped))
    rows = _close_gaps(rows, [place for place, i in enumerate(readable) if isinstance(facts[i], Facts)])
    known = [fact for fact in facts if isinstance(fact, Facts)]
    colourless = not grey and not isinstance(size, tuple) and not any(fact.colour for fact in known)
    if colourless:
        rows = np.ascontiguousarray(rows[..., 0])
    notes = [account(known, rows.shape[1:], size), *remarks(known, found, colourless=colourless)]
    if isinstance(size, tuple):
        rows = rows.reshape(len(rows), *size)
    return Images(rows, [names[i] for i in kept], skipped, notes)


def _check_size(size: ImageSize, path: Path) -> None:
    if isinstance(size, int) and not _MIN_SIDE <= size <= _MAX_SIDE:
        raise OptionError(f"--image-size must lie between {_MIN_SIDE} and {_MAX_SIDE} pixels; got {size}.")
    if isinstance(size, tuple) and not (len(size) == 2 or (len(size) == 3 and size[2] in (1, 3))):
        raise DataError(
            f"{path} holds pictures, and rows of shape {size} are none; expected (H, W), (H, W, 1) or (H, W, 3). Give "
            "rows of numbers in a .npy file."
        )


def _each(work: Callable[[int], T], count: int) -> list[T | str]:
    """Results of 0, 1, … count − 1, or the reason why there is none; in threads, since Pillow works outside the lock.

    What Pillow merely warns of, such as damaged tags, does not keep an image from being read; too many pixels do.
    """

    def attempt(number: int) -> T | str:
        try:
            return work(number)
        except Exception as error:  # what a stranger's bytes raise is not known beforehand
            return reason_of(error)

    def several(numbers: Iterable[int]) -> list[T | str]:
        return [attempt(number) for number in numbers]

    Image.init()
    batches = [range(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH)]
    with warnings.catch_warnings(), ThreadPoolExecutor(_threads()) as pool:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return [result for part in pool.map(several, batches) for result in part]


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shape(size: ImageSize, heads: list[Facts]) -> tuple[int, int, bool]:
    """Height, width and whether rows are grey."""
    if isinstance(size, tuple):
        return size[0], size[1], size[2:] != (3,)
    grey = all(head.mode in ("1", "L", "LA", "F") or head.mode.startswith("I") for head in heads)
    typical = statistics.median_low([min(head.size) for head in heads] or [SIDE])
    side = size or max(_MIN_SIDE, min(SIDE, typical))
    return side, side, grey


def _check_memory(count: int, height: int, width: int, channels: int, size: ImageSize, path: Path) -> None:
    needed = _COPIES * count * height * width * channels
    free = available_memory()
    if free is None or needed <= free:
        return
    side = int(min(height, width) * (free / needed) ** 0.5)
    smaller = (
        f"a smaller --image-size, such as {side}, or " if side >= _MIN_SIDE and not isinstance(size, tuple) else ""
    )
    raise DataError(
        f"the {count:,} images in {path} take {needed / _COPIES / 2**30:.3g} GiB as {width}×{height} pixels, and "
        f"{_COPIES} times that while they are split; {free / 2**30:.3g} GiB are free. Use {smaller}fewer images."
    )


def _close_gaps(rows: Array, kept: list[int]) -> Array:
    """The kept rows, moved up in place: a copy could be more than memory holds."""
    for new, old in enumerate(kept):
        if new != old:
            rows[new] = rows[old]
    return rows[: len(kept)]
