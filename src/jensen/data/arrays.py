"""Files of arrays, read without trust in them: nothing in one is run, and none claims more memory than it holds."""

from __future__ import annotations

import gzip
import lzma
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FileFormatError

__all__ = ["SPLITS", "key_in", "read_idx", "read_member", "read_npy", "read_npz", "reading"]

Array = NDArray[Any]

SPLITS = ("train", "valid", "test")
_MAX_RATIO = 250  # of unpacked to packed size, with a mebibyte of grace; images and tables reach a tenth of it
# What reads a file for a fitted model has no option of its own.
_CHOOSE = "Fit one of them with jensen fit --key NAME, or save the one that is meant as .npy."
_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
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
    lzma.LZMAError,
    zipfile.BadZipFile,
)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Says of whatever goes wrong while a file is read which file it was."""
    try:
        yield
    except PermissionError as error:
        raise FileFormatError(f"{path} may not be read by this user: {error.strerror}. Change its mode.") from error
    except _BROKEN as error:
        raise FileFormatError(
            f"{path} is damaged or not what its name says: {error}. Make or fetch the file again."
        ) from error


def read_npy(path: Path) -> Array:
    """The array of a .npy file."""
    _check_kind(path)
    # A memory map refuses a header that claims more than the file holds, before any memory is taken.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def read_npz(path: Path, key: str | None) -> tuple[dict[str, Array], list[str]]:
    """The rows of an .npz file by split, or all of them under ``all``, and what was chosen where no key says."""
    with zipfile.ZipFile(path) as archive:
        chosen, notes = _choose_key(_keys(archive), key, path)
        return {split: read_member(archive, name) for split, name in chosen.items()}, notes


def key_in(path: Path, key: str | None) -> str | None:
    """The key to open a file with where that of an older one is remembered: none where the file is no .npz file, or its
    only array has another name.
    """
    if key is None or path.suffix != ".npz" or not os.path.isfile(path):
        return None
    with reading(path), zipfile.ZipFile(path) as archive:
        keys = _keys(archive)
    return key if len(keys) > 1 or key in keys else None


def _keys(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _choose_key(keys: list[str], key: str | None, path: Path) -> tuple[dict[str, str], list[str]]:
    prefix = f"{key}_" if key else ""
    if all(f"{prefix}{split}" in keys for split in SPLITS):
        return {split: f"{prefix}{split}" for split in SPLITS}, [f"took {prefix}train, {prefix}valid and {prefix}test"]
    if key is not None or len(keys) == 1:
        only = keys[0] if key is None else key
        if only not in keys:
            raise DataError(f"{path} has no array {key!r}; it has {', '.join(keys)}. {_CHOOSE}")
        return {"all": only}, []
    rows = [name for name in keys if name in ("x", "X", "images", "data", "counts")]
    if len(rows) != 1:
        raise DataError(f"{path} holds {len(keys)} arrays: {', '.join(keys)}. {_CHOOSE}")
    return {"all": rows[0]}, [f"took the array {rows[0]!r} of {', '.join(keys)}; jensen fit --key NAME takes another"]


def read_member(archive: zipfile.ZipFile, key: str) -> Array:
    """One array of an open .npz file."""
    info = archive.getinfo(f"{key}.npy")
    where = f"{archive.filename}[{key}]"
    packed = min(info.compress_size, os.path.getsize(str(archive.filename)))  # a file may claim more than it has
    _check_ratio(info.file_size, packed, where)
    with archive.open(info) as file:
        _header(file, info.file_size, where)
    with archive.open(info) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def read_idx(path: Path) -> Array:
    """The array of a file in the idx format, packed or not."""
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


def _check_ratio(unpacked: int, packed: int, where: str) -> None:
    if unpacked > _MAX_RATIO * packed + 2**20:
        raise FileFormatError(
            f"{where} unpacks to {unpacked} bytes from {packed}, which no real data do, so it is not read. If they are "
            "meant, save them with numpy.save."
        )
