"""A folder of images, or one image file, as rows of pixels: everything is unpacked once, up front."""

from __future__ import annotations

import os
import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError, OptionError
from .memory import available_memory
from .pixels import ENDINGS, Facts, decode, look, reason_of

__all__ = ["ImageSize", "Images", "Layout", "has_images", "is_image", "layout", "read_images", "tell_skipped"]

Array = NDArray[Any]
ImageSize = int | tuple[int, ...] | None
T = TypeVar("T")

_SIDE = 64
_MIN_SIDE, _MAX_SIDE = 4, 1024
_COPIES = 4  # of the pixels, while rows are split and stored
_TOLD = 3
_BATCH = 32
_DARK = 4096  # of 65,536: what 12 bits hold
_RUN_FILES = {"config.json", "data.json", "environment.json"}
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


@dataclass
class _Found:
    """What lies in a folder: image files, how many others by ending, run folders, and what cannot be looked into."""

    files: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def is_image(name: str) -> bool:
    """Whether a name ends like that of an image."""
    return name.lower().endswith(ENDINGS)


def has_images(folder: Path) -> bool:
    """Whether there is an image file in a folder, or below it."""
    return bool(_find(folder).files)


def _find(folder: Path) -> _Found:
    """Image files by sorted path; what is hidden is passed over, and each folder is entered once, links or not."""
    found, seen = _Found(), set()

    def refused(error: OSError) -> None:
        found.skipped[_text(_within(folder, error.filename))] = reason_of(error)

    for place, folders, names in os.walk(folder, onerror=refused, followlinks=True):
        status = os.stat(place)
        is_run = set(names) >= _RUN_FILES  # its pictures are no data
        found.runs += is_run
        if is_run or (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if is_image(name) and not name.startswith("."):
                found.files.append(_within(folder, os.path.join(place, name)))
            elif not name.startswith("."):
                found.others[Path(name).suffix.lower() or "no ending"] += 1
    found.files.sort()
    return found


def _text(name: str) -> str:
    """A name that can be written as UTF-8, though a file's name can be any bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _within(folder: Path, path: str | os.PathLike[str]) -> str:
    return Path(path).relative_to(folder).as_posix()


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
    folder, found = (path, _find(path)) if path.is_dir() else (path.parent, _Found([path.name]))
    if not found.files:
        raise DataError(_nothing_in(path, found))
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
    names = [_text(name) for name in found.files]
    reasons = {names[i]: reason for i, reason in enumerate(facts) if isinstance(reason, str)}
    skipped = dict(sorted((found.skipped | reasons).items()))
    kept = [i for i, fact in enumerate(facts) if isinstance(fact, Facts)]
    if not kept:
        raise DataError(_none_readable(path, skipped))
    rows = _close_gaps(rows, [place for place, i in enumerate(readable) if isinstance(facts[i], Facts)])
    known = [fact for fact in facts if isinstance(fact, Facts)]
    colourless = not grey and not isinstance(size, tuple) and not any(fact.colour for fact in known)
    if colourless:
        rows = np.ascontiguousarray(rows[..., 0])
    notes = [_account(known, rows.shape[1:], size), *_remarks(known, found, colourless=colourless)]
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
    typical = statistics.median_low([min(head.size) for head in heads] or [_SIDE])
    side = size or max(_MIN_SIDE, min(_SIDE, typical))
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


def _nothing_in(path: Path, found: _Found) -> str:
    passed = [f"{number:,} {ending}" for ending, number in found.others.most_common(5)]
    there = [f"other files ({', '.join(passed)})"] if passed else []
    there += [f"{found.runs} run folder{'s' * (found.runs > 1)}, whose pictures are no data"] if found.runs else []
    there += [f"what cannot be opened ({_list(found.skipped)})"] if found.skipped else []
    return (
        f"the folder {path} holds no images: looked there and in its sub-folders for files that end in "
        f"{' '.join(ENDINGS)}, and found {' and '.join(there) or 'no files'}. Give a folder of images, or the path of "
        "a .npy, .npz or idx file."
    )


def _none_readable(path: Path, skipped: dict[str, str]) -> str:
    if path.is_dir():
        return f"none of the {len(skipped):,} image files in {path} can be read: {_list(skipped)}."
    return f"{path} cannot be read: {next(iter(skipped.values()))}."


def _list(skipped: dict[str, str]) -> str:
    """The first few of what was skipped, each with its reason; names are shown on one line, whatever is in them."""
    told = [f"{_shown(name)} ({reason})" for name, reason in list(skipped.items())[:_TOLD]]
    left = len(skipped) - len(told)
    return "; ".join(told) + (f"; and {left:,} more" if left > 0 else "")


def _shown(name: str) -> str:
    return name if name.isprintable() else name.encode("unicode_escape").decode("ascii")


def tell_skipped(skipped: dict[str, str], where: str) -> list[str]:
    """A note on the files that could not be read, if there are any, and where all of them are listed."""
    if not skipped:
        return []
    files = f"{len(skipped):,} file{'s' * (len(skipped) > 1)} could not be read and left out"
    return [f"{files}: {_list(skipped)}{where if len(skipped) > _TOLD else ''}"]


def _times(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))


def _account(facts: list[Facts], shape: tuple[int, ...], size: ImageSize) -> str:
    """What the images were and what they were made into, in one line."""
    sizes = sorted({fact.size for fact in facts}, key=lambda s: (s[0] * s[1], s))
    range_ = f"{len(sizes):,} sizes from {_times(sizes[0])} to {_times(sizes[-1])}"
    to = (shape[1], shape[0])
    how = f"short side to {to[0]}" if to[0] == to[1] else f"scaled to cover {_times(to)}"
    option = "" if isinstance(size, tuple) else "; --image-size"
    if size is None and to[0] < _SIDE:
        option = f", as in the middle of all by short side{option}"
    was = f"all {_times(sizes[0])}" if len(sizes) == 1 else range_
    kind = "in colour" if shape[2:] == (3,) else "in grey"
    made = "kept" if sizes == [to] else f"made {_times(to)}"
    parts = [f"{was}, {made} {kind}" + ("" if sizes == [to] else f" ({how}, centre crop{option})")]
    modes = Counter(fact.mode for fact in facts).most_common()
    parts.append("modes " + ", ".join(f"{mode} {number:,}" for mode, number in modes))
    for number, text in (
        (sum(fact.turned for fact in facts), "turned by their EXIF orientation"),
        (sum(fact.enlarged for fact in facts), "enlarged"),
        (sum(fact.transparent for fact in facts), "laid over white where they are transparent"),
        (sum(fact.several for fact in facts), "of several frames or pages, of which the first was taken"),
    ):
        parts += [f"{number:,} {text}"] if number else []
    return f"{len(facts):,} image{'s' * (len(facts) > 1)}: {'; '.join(parts)}"


def _remarks(facts: list[Facts], found: _Found, *, colourless: bool) -> list[str]:
    notes = []
    if colourless:
        notes.append("no pixel has a colour, so rows are grey: one value for each pixel")
    peaks = [fact.peak for fact in facts if fact.peak]
    if peaks and max(peaks) < _DARK:
        notes.append(
            f"the {len(peaks):,} images of 16 bits have no value above {max(peaks):,} of 65,535, so they are nearly "
            "black; stretch their values first"
        )
    if found.others:
        endings = ", ".join(f"{ending} {number:,}" for ending, number in found.others.most_common(5))
        notes.append(f"{found.others.total():,} other files passed over, by their endings ({endings})")
    if found.runs:
        notes.append(f"{found.runs} run folder{'s' * (found.runs > 1)} passed over: their pictures are no data")
    return notes


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
    for role in ("train", "valid", "test"):
        if role in roles:
            splits[role] = np.flatnonzero(np.array(roles) == role)
    return Layout(splits, labels, names, [f"splits taken from sub-folders: {', '.join(splits)}", *notes])


def _labels(folders: list[tuple[str, ...]]) -> tuple[Array | None, list[str], list[str]]:
    """Labels by the first folder of each file, their names, and what there is to say."""
    names = sorted({folder[0] for folder in folders if folder})
    direct = sum(not folder for folder in folders)
    if names and direct:
        told = f"{direct:,} images lie beside the sub-folders and {len(folders) - direct:,} in them, so there are no "
        return None, [], [told + "labels; put each into a sub-folder to have them"]
    if len(names) < 2:
        return None, [], []
    number = {name: place for place, name in enumerate(names)}
    some = ", ".join(map(_shown, names[:10])) + (", …" if len(names) > 10 else "")
    labels = np.array([number[folder[0]] for folder in folders], np.int64)
    return labels, names, [f"labels from sub-folders: {some}"]
