"""Files that can be trusted: written whole or not at all, read without running anything from them."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .errors import FileFormatError

__all__ = ["at_home", "read_json", "read_tensors", "sha256", "sync_folder", "write_json", "write_tensors", "write_text"]

_MAX_JSON = 64 * 2**20
_MODE = 0o644
_MAX_HEADER = 16 * 2**20


def at_home(path: str | os.PathLike[str]) -> Path:
    """A path whose ``~`` stands for the user's folder; where there is no such user, it stays as it is."""
    return Path(os.path.expanduser(path))


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, save: Callable[[Path], object]) -> None:
    """Writes beside the target, makes it durable, then renames: readers see the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(temporary)
        temporary.chmod(_MODE)  # safetensors leaves its files readable by their owner alone
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except UnicodeEncodeError as error:
        raise FileFormatError(
            f"could not write {path}: {error.object[max(0, error.start - 40) : error.end + 40]!r} is not UTF-8. Rename "
            "the file or folder of that name."
        ) from error
    except (OSError, safetensors.SafetensorError) as error:
        raise FileFormatError(
            f"could not write {path}: {getattr(error, 'strerror', None) or error}. Free some space or choose another "
            "folder; what was there before is unchanged."
        ) from error
    finally:
        with suppress(OSError):  # where there is no folder, there is nothing in it
            temporary.unlink()
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    _write(path, lambda target: target.write_text(text, encoding="utf-8"))


def write_json(path: Path, document: object) -> None:
    """Writes a JSON file, whole or not at all; floats are written so that reading gives the same bits."""
    write_text(path, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        FileFormatError: If it is missing, too large or not JSON.
    """
    try:
        if path.stat().st_size > _MAX_JSON:
            raise FileFormatError(f"{path} has more than {_MAX_JSON // 2**20} MiB; a description is never that long.")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileFormatError(f"{path} does not exist.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} cannot be read as JSON: {error}.") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes named tensors as safetensors; a tensor that stands under several names is written once.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path, shared = Path(folder) / "a.safetensors", torch.ones(2)
        ...     write_tensors(path, {"x": shared, "y": shared})
        ...     sorted(read_tensors(path))
        ['x', 'y']
    """
    first: dict[tuple[Any, ...], str] = {}
    aliases: dict[str, str] = {}
    unique: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        owner = first.setdefault(place, name) if tensor.numel() else name
        if owner == name:
            unique[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        else:
            aliases[name] = owner
    metadata = {"aliases": json.dumps(aliases, sort_keys=True)}
    _write(path, lambda target: safetensors.torch.save_file(unique, target, metadata))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads named tensors from a safetensors file, onto the CPU.

    Raises:
        FileFormatError: If the file is missing, damaged or of another kind.
    """
    try:
        _check_header(path)
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            aliases = json.loads((file.metadata() or {}).get("aliases", "{}"))
        tensors.update({str(name): tensors[owner] for name, owner in aliases.items()})
    except FileNotFoundError as error:
        raise FileFormatError(f"{path} does not exist.") from error
    except (
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        RecursionError,
        safetensors.SafetensorError,
    ) as error:
        raise FileFormatError(f"{path} is not a whole safetensors file: {error}.") from error
    return cast(dict[str, Tensor], tensors)


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > min(_MAX_HEADER, path.stat().st_size):
        raise ValueError(f"its header claims {length} bytes")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
