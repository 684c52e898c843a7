"""Opening data: a name, a file or an array becomes arrays of rows, and nothing in a file is ever run."""

from __future__ import annotations

import gzip
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, FileFormatError, OptionError
from .images import ImageSize, has_images, is_image, layout, read_images
from .schema import Binarisation
from .text import is_sentences, is_text_file, read_sentences, text_files

__all__ = ["DataLike", "Source", "data_folders", "open_source"]

Array = NDArray[Any]
DataLike = str | os.PathLike[str] | Array | Tensor

_SUFFIXES = (".npy", ".npz", ".idx", "-ubyte", ".gz", ".txt")
_SPLITS = ("train", "valid", "test")
_MAX_RATIO = 250  # of unpacked to packed size, with a mebibyte of grace; images and tables reach a tenth of it


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
        """All rows, one split after the other."""
        first, *others = self.arrays.values()
        return np.concatenate([first, *others]) if others else first


def data_folders() -> list[Path]:
    """Where named data are looked for: ``$JENSEN_DATA``, then the user's cache."""
    named = os.environ.get("JENSEN_DATA")
    return [*([Path(named)] if named else []), Path(platformdirs.user_cache_dir("jensen")) / "data"]


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
        DataError: If there is no such data, or they are not rows of real numbers.
        FileFormatError: If a file is damaged or of an unknown kind.
        OptionError: If a side is given and the data are no image files.
    """
    source = _open(data, key, image_size, download=download)
    if isinstance(image_size, int) and not source.files:
        raise OptionError(
            f"--image-size {image_size} says what image files are made into; {source.name} has rows of one shape. "
            "Leave it out."
        )
    return source


def _open(data: DataLike, key: str | None, image_size: ImageSize, *, download: bool) -> Source:
    if not isinstance(data, str | os.PathLike):
        if key is not None:
            raise DataError(f"--key {key} chooses an array of an .npz file; the data came from memory.")
        if is_sentences(data):
            return Source("sentences", {"all": np.array(list(data), dtype=object)}, None)
        return Source("array", {"all": _rows(_from_memory(data), "the array")}, None)
    text = os.fspath(data)
    if not text.strip() or "\0" in text:
        raise DataError(f"{text!r} names no data; expected a name such as digits, or a path to a file or folder.")
    if text == "digits":
        if key is not None:
            raise DataError(f"--key {key} chooses an array of an .npz file; digits is one array.")
        return _digits()
    looks_like_path = os.sep in text or text.startswith(".") or text.endswith(_SUFFIXES) or is_image(text)
    if not looks_like_path:
        named = _open_named(text, key, image_size, download=download)
        if named is not None:
            return named
    path = Path(text).expanduser()
    if not os.path.exists(path):  # also says no to names that are too long
        raise DataError(_missing(text, looks_like_path=looks_like_path))
    if path.is_dir() or is_image(path.name):
        return _open_images(path, key, image_size)
    return _open_path(path, path.name.split(".")[0], key)


def _from_memory(data: Any) -> Array:
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
        {"digits", *_NAMED, *(p.name for f in data_folders() if f.is_dir() for p in f.iterdir() if p.is_dir())}
    )
    hint = " Add --download to fetch it." if text in _DOWNLOADS else ""
    places = " or ".join(str(folder) for folder in data_folders())
    return (
        f"no data named {text!r}: looked for a folder of that name in {places}, and for a file or folder "
        f"./{text}.{hint} Known names: {', '.join(known)}; or give a path to a folder of images, or to a .npy, .npz or "
        "idx file."
    )


def _digits() -> Source:
    from sklearn.datasets import load_digits  # slow to import

    found = load_digits()
    labels = found.target.astype(np.int64)
    return Source("digits", {"all": found.images}, "digits", labels={"all": labels}, label_names=_NUMERALS)


def _open_named(name: str, key: str | None, image_size: ImageSize, *, download: bool) -> Source | None:
    folder_name, special = _NAMED.get(name, (name, None))
    for parent in data_folders():
        folder = parent / folder_name
        if os.path.isdir(folder) and any(folder.iterdir()):  # also says no to names that are too long
            if special is None:
                return _open_folder(folder, name, key, image_size)
            if key is not None:
                raise DataError(f"--key {key} chooses an array of an .npz file; the rows of {name} are known.")
            with _reading(folder):
                return special(folder, name)
    if download and name in _DOWNLOADS:
        from .download import fetch  # only on request

        fetch(_DOWNLOADS[name], data_folders()[-1] / folder_name)
        return _open_named(name, key, image_size, download=False)
    return None


def _open_folder(folder: Path, name: str, key: str | None, image_size: ImageSize) -> Source:
    files = sorted(p for p in folder.iterdir() if p.suffix in (".npy", ".npz"))
    if len(files) == 1:
        return _open_path(files[0], name, key)
    texts = text_files(folder)
    if not files and len(texts) == 1:
        return replace(_open_path(texts[0], name, key), reference=name)
    if has_images(folder):
        return _open_images(folder, key, image_size)
    raise DataError(
        f"the folder {folder} holds {len(files)} .npy or .npz files, {len(texts)} texts and no images, so it is not "
        "clear which rows are meant. Give the path of one file."
    )


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
    return _read_idx(path)


_MNIST_PARTS = {"train": "train", "test": "t10k"}
_NUMERALS = [str(number) for number in range(10)]
_CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def _open_mnist_static(folder: Path, name: str) -> Source:
    with zipfile.ZipFile(folder / "binarized_mnist.npz") as archive:
        arrays = {split: np.unpackbits(_read_member(archive, split), axis=1) for split in _SPLITS}
    return Source(name, {split: rows.reshape(-1, 28, 28) for split, rows in arrays.items()}, name)


_NAMED: dict[str, tuple[str, Callable[[Path, str], Source] | None]] = {
    "mnist": ("mnist", _open_mnist),
    "fashion-mnist": ("fashion-mnist", _open_mnist),
    "mnist-static": ("mnist-static-binarized", _open_mnist_static),
}
_DOWNLOADS = {"mnist": "mnist", "fashion-mnist": "fashion-mnist"}


def _open_path(path: Path, name: str, key: str | None) -> Source:
    reference = str(path.resolve())
    if not path.is_file():
        raise DataError(
            f"{path} is not a regular file; expected a folder of images, or a .txt, .npy, .npz or idx file."
        )
    if key is not None and path.suffix != ".npz":
        raise DataError(f"--key {key} chooses an array of an .npz file; {path} is not one.")
    if is_text_file(path):
        with _reading(path):
            sentences, remarks = read_sentences(path)
        return Source(name, {"all": sentences}, reference, notes=remarks)
    arrays: dict[str, Array]
    notes: list[str] = []
    with _reading(path):
        if path.suffix == ".npy":
            arrays = {"all": _read_npy(path)}
        elif path.suffix == ".npz":
            arrays, notes = _read_npz(path, key)
        elif "idx" in path.name or path.name.endswith("ubyte.gz"):
            arrays = {"all": _read_idx(path)}
        else:
            raise FileFormatError(
                f"{path} is of a kind that cannot be read ({path.suffix or 'no ending'}); expected .txt, .npy, .npz, "
                "idx (a name with 'idx' in it, .gz or not), an image or a folder of images. Save an array with "
                "numpy.save(path, array)."
            )
    return Source(name, {k: _rows(a, str(path)) for k, a in arrays.items()}, reference, key, notes=notes)


# What numpy, zipfile, gzip and struct raise on bytes that are not what they should be.
_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Says of whatever goes wrong while a file is read which file it was."""
    try:
        yield
    except PermissionError as error:
        raise FileFormatError(f"{path} may not be read by this user: {error.strerror}. Change its mode.") from error
    except _BROKEN as error:
        raise FileFormatError(
            f"{path} is damaged or not what its name says: {error}. Make or fetch the file again."
        ) from error


def _check_ratio(unpacked: int, packed: int, where: str) -> None:
    if unpacked > _MAX_RATIO * packed + 2**20:
        raise FileFormatError(
            f"{where} unpacks to {unpacked} bytes from {packed}, which no real data do, so it is not read. If they are "
            "meant, save them with numpy.save."
        )


def _rows(values: Array, name: str) -> Array:
    """An array as rows; a vector becomes one column."""
    if values.ndim == 0:
        raise DataError(f"{name} holds a single value; expected rows, shape (N, *X).")
    return values[:, None] if values.ndim == 1 else values


def _read_npy(path: Path) -> Array:
    _check_kind(path)
    # A memory map refuses a header that claims more than the file holds, before any memory is taken.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _check_kind(path: Path) -> None:
    with path.open("rb") as file:
        _header(file, path.stat().st_size, str(path))


def _header(file: IO[bytes], size: int, where: str) -> None:
    """Checks a .npy header: a type that is plain numbers, and no more of them than the file can hold."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise DataError(
            f"{where} holds Python objects, which are never read since they can run code; expected numbers."
        )
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > size:
        raise FileFormatError(
            f"{where} claims an array of shape {shape}, {claimed} bytes, but holds only {size} bytes."
        )


def _read_member(archive: zipfile.ZipFile, key: str) -> Array:
    info = archive.getinfo(f"{key}.npy")
    where = f"{archive.filename}[{key}]"
    _check_ratio(info.file_size, info.compress_size, where)
    with archive.open(info) as file:
        _header(file, info.file_size, where)
    with archive.open(info) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _read_npz(path: Path, key: str | None) -> tuple[dict[str, Array], list[str]]:
    with zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        chosen, notes = _choose_key(keys, key, path)
        return {split: _read_member(archive, name) for split, name in chosen.items()}, notes


def _choose_key(keys: list[str], key: str | None, path: Path) -> tuple[dict[str, str], list[str]]:
    prefix = f"{key}_" if key else ""
    if all(f"{prefix}{split}" in keys for split in _SPLITS):
        return {split: f"{prefix}{split}" for split in _SPLITS}, [f"took {prefix}train, {prefix}valid and {prefix}test"]
    if key is not None:
        if key not in keys:
            raise DataError(f"{path} has no array {key!r}; it has {', '.join(keys)}. Choose one with --key.")
        return {"all": key}, []
    rows = keys if len(keys) == 1 else [name for name in keys if name in ("x", "X", "images", "data", "counts")]
    if len(rows) != 1:
        raise DataError(f"{path} holds {len(keys)} arrays ({', '.join(keys)}); choose the rows with --key NAME.")
    return {"all": rows[0]}, [f"took the array {rows[0]!r} (of {', '.join(keys)}; --key changes it)"]


_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def _read_idx(path: Path) -> Array:
    packed = path.suffix == ".gz"
    opened: Callable[..., Any] = gzip.open if packed else open
    size = path.stat().st_size
    with opened(path, "rb") as file:
        zero, kind, dims = struct.unpack(">HBB", file.read(4))
        if zero != 0 or kind not in _IDX_TYPES or dims == 0:
            raise FileFormatError(f"{path} does not begin like an idx file. Make or fetch the file again.")
        shape = struct.unpack(f">{dims}I", file.read(4 * dims))
        dtype = np.dtype(_IDX_TYPES[kind])
        claimed = math.prod(shape) * dtype.itemsize
        if packed:
            _check_ratio(claimed, size, str(path))
        elif claimed > size:
            raise FileFormatError(f"{path} claims an array of shape {shape}, {claimed} bytes, but has only {size}.")
        content = file.read(claimed + 1)
    if len(content) != claimed:
        found = "more" if len(content) > claimed else f"only {len(content)}"
        raise FileFormatError(f"{path} claims an array of shape {shape}, {claimed} bytes, and holds {found}.")
    values: Array = np.frombuffer(content, dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="))
