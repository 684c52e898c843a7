"""Opening data: a name, a file or an array becomes arrays of rows, and nothing in a file is ever run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, FileFormatError, OptionError
from ..files import at_home
from .arrays import read_idx, read_npy, read_npz, reading
from .found import Source
from .images import read_images
from .layout import layout
from .named import DOWNLOADS, NAMED, data_folders, digits
from .pixels import ImageSize
from .text import is_sentences, is_text_file, read_sentences, text_files
from .tree import has_images, is_image

__all__ = ["DataLike", "from_memory", "holds_text", "open_source"]

Array = NDArray[Any]
DataLike = str | os.PathLike[str] | Array | Tensor

_SUFFIXES = (".npy", ".npz", ".idx", "-ubyte", ".gz", ".txt")


def open_source(
    data: DataLike, *, key: str | None = None, download: bool = False, image_size: ImageSize = None
) -> Source:
    r"""Opens data by name, by path or from memory.

    Arguments:
        data: A name (``digits``, ``mnist``, ``mnist-static``, ``fashion-mnist`` or a folder in ``$JENSEN_DATA``), a
            path to a folder of images, an image, a .npy, .npz or idx file, or an array or tensor of rows, shape
            (N, \*X).
        key: Which array of an .npz file to take.
        download: Whether a named data set that is not there may be fetched.
        image_size: What image files are made into: a side in pixels, grey or colour as the images are; or the shape
            of a row, which other data need not heed. By default 64 pixels, or fewer where most images are smaller.

    Raises:
        DataError: If there is no such data, they are not rows of real numbers, or a name is not UTF-8.
        FileFormatError: If a file is damaged or of an unknown kind.
        OptionError: If a side is given and the data are no image files.
    """
    source = _open(data, key, image_size, download=download)
    _refuse_unwritable(source)
    if isinstance(image_size, int) and not source.files:
        raise OptionError(
            f"--image-size {image_size} says what image files are made into; {source.name} has rows of one shape. "
            "Leave it out."
        )
    return source


def holds_text(data: Any) -> bool:
    """Whether data are sentences; files are known by their names, and not opened.

    Example:
        >>> holds_text(["a sentence"]), holds_text("sentences.txt"), holds_text("digits")
        (True, True, False)
    """
    if not isinstance(data, str | os.PathLike):
        return is_sentences(data)
    text = os.fspath(data)
    if is_text_file(Path(text)):
        return True
    if not text.strip() or "\0" in text or _looks_like_path(text) or text in NAMED:
        return False
    folders = (folder / text for folder in data_folders())
    return any(_rows_file(folder)[1] for folder in folders if os.path.isdir(folder))


def _refuse_unwritable(source: Source) -> None:
    """Refuses a path that no file of a run can hold; the names in a folder have been made printable."""
    try:
        (source.reference or "").encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{source.reference!r} is not UTF-8, so a run cannot name its data. Rename the file or folder."
        ) from error


def _open(data: DataLike, key: str | None, image_size: ImageSize, *, download: bool) -> Source:
    if not isinstance(data, str | os.PathLike):
        if key is not None:
            raise DataError(f"--key {key} chooses an array of an .npz file; the data came from memory.")
        if is_sentences(data):
            return Source("sentences", {"all": np.array(list(data), dtype=object)}, None)
        return Source("array", {"all": _rows(from_memory(data), "the array")}, None)
    text = os.fspath(data)
    if not text.strip() or "\0" in text:
        raise DataError(f"{text!r} names no data; expected a name such as digits, or a path to a file or folder.")
    if text == "digits":
        if key is not None:
            raise DataError(f"--key {key} chooses an array of an .npz file; digits is one array.")
        return digits()
    looks_like_path = _looks_like_path(text)
    if not looks_like_path:
        named = _open_named(text, key, image_size, download=download)
        if named is not None:
            return named
    path = at_home(text)
    if not os.path.exists(path):  # also says no to names that are too long
        raise DataError(_missing(text, looks_like_path=looks_like_path))
    if path.is_dir() or is_image(path.name):
        return _open_images(path, key, image_size)
    return _open_path(path, path.name.split(".")[0], key)


def _looks_like_path(text: str) -> bool:
    """Whether a text can be no name of data."""
    return os.sep in text or text.startswith(".") or text.endswith(_SUFFIXES) or is_image(text)


def from_memory(data: Any) -> Array:
    """An array of what is one, or a tensor, or a list of numbers.

    Raises:
        DataError: If it is none of them, or masked.
    """
    try:
        if isinstance(data, Tensor):
            values = data.detach().cpu()
            return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        if np.ma.is_masked(data):
            raise DataError("the array is masked; missing values are not modelled. Remove or fill those rows.")
        return np.asarray(data)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"rows of real numbers, shape (N, *X), were expected; a {type(data).__name__} was given that is not such "
            f"an array: {error}"
        ) from error


def _missing(text: str, *, looks_like_path: bool) -> str:
    if len(text) > 255:
        return f"there is no data named {text[:40]!r}…, a name of {len(text)} characters. Check the path."
    if looks_like_path:
        return f"there is no file or folder {text}. Check the path; relative paths start in {Path.cwd()}."
    known = sorted(
        {"digits", *NAMED, *(p.name for f in data_folders() if f.is_dir() for p in f.iterdir() if p.is_dir())}
    )
    hint = " Add --download to fetch it." if text in DOWNLOADS else ""
    places = " or ".join(str(folder) for folder in data_folders())
    return (
        f"no data named {text!r}: looked for a folder of that name in {places}, and for a file or folder "
        f"./{text}.{hint} Known names: {', '.join(known)}; or give a path to a folder of images, or to a .npy, .npz or "
        "idx file."
    )


def _open_named(name: str, key: str | None, image_size: ImageSize, *, download: bool) -> Source | None:
    folder_name, special = NAMED.get(name, (name, None))
    for parent in data_folders():
        folder = parent / folder_name
        if download and name in DOWNLOADS and parent == data_folders()[-1]:
            from .download import fetch  # only on request

            fetch(DOWNLOADS[name], folder)  # what is there already is not fetched again
        if os.path.isdir(folder) and any(folder.iterdir()):  # also says no to names that are too long
            if special is None:
                return _open_folder(folder, name, key, image_size)
            if key is not None:
                raise DataError(f"--key {key} chooses an array of an .npz file; the rows of {name} are known.")
            with reading(folder):
                return special(folder, name)
    return None


def _open_folder(folder: Path, name: str, key: str | None, image_size: ImageSize) -> Source:
    array, text = _rows_file(folder)
    if array is not None:
        return _open_path(array, name, key)
    if text is not None:
        return replace(_open_path(text, name, key), reference=name)
    if has_images(folder):
        return _open_images(folder, key, image_size)
    raise DataError(
        f"the folder {folder} holds {len(_array_files(folder))} .npy or .npz files, {len(text_files(folder))} texts "
        "and no images, so it is not clear which rows are meant. Give the path of one file."
    )


def _array_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in (".npy", ".npz"))


def _rows_file(folder: Path) -> tuple[Path | None, Path | None]:
    """The one array in a folder; or, where there is no array, the one text."""
    arrays, texts = _array_files(folder), text_files(folder)
    array = arrays[0] if len(arrays) == 1 else None
    return array, texts[0] if not arrays and len(texts) == 1 else None


def _open_images(path: Path, key: str | None, image_size: ImageSize) -> Source:
    if key is not None:
        raise DataError(f"--key {key} chooses an array of an .npz file; {path} is not one.")
    images = read_images(path, image_size)
    found = layout(images.files)
    whole = Path(os.path.abspath(path)).name  # of a link, its own name; "." has none
    return Source(
        (whole if path.is_dir() else whole.split(".")[0]) or "images",
        {split: images.rows[place] for split, place in found.splits.items()},
        str(path.resolve()),
        notes=[*images.notes, *found.notes],
        labels=None if found.labels is None else {split: found.labels[i] for split, i in found.splits.items()},
        label_names=found.names,
        pixels=True,
        files={split: [images.files[i] for i in place] for split, place in found.splits.items()},
        skipped=images.skipped,
    )


def _open_path(path: Path, name: str, key: str | None) -> Source:
    reference = str(path.resolve())
    if not path.is_file():
        raise DataError(
            f"{path} is not a regular file; expected a folder of images, or a .txt, .npy, .npz or idx file."
        )
    if key is not None and path.suffix != ".npz":
        raise DataError(f"--key {key} chooses an array of an .npz file; {path} is not one.")
    if is_text_file(path):
        with reading(path):
            sentences, remarks = read_sentences(path)
        return Source(name, {"all": sentences}, reference, notes=remarks)
    arrays: dict[str, Array]
    notes: list[str] = []
    with reading(path):
        if path.suffix == ".npy":
            arrays = {"all": read_npy(path)}
        elif path.suffix == ".npz":
            arrays, notes = read_npz(path, key)
        elif "idx" in path.name or path.name.endswith("ubyte.gz"):
            arrays = {"all": read_idx(path)}
        else:
            raise FileFormatError(
                f"{path} is of a kind that cannot be read ({path.suffix or 'no ending'}); expected .txt, .npy, .npz, "
                "idx (a name with 'idx' in it, .gz or not), an image or a folder of images. Save an array with "
                "numpy.save(path, array)."
            )
    return Source(name, {k: _rows(a, str(path)) for k, a in arrays.items()}, reference, key, notes=notes)


def _rows(values: Array, name: str) -> Array:
    """An array as rows; a vector becomes one column."""
    if values.ndim == 0:
        raise DataError(f"{name} holds a single value; expected rows, shape (N, *X).")
    return values[:, None] if values.ndim == 1 else values
