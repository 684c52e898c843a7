"""What the machine has: devices, number formats that are fast on them, and a compiler."""

from __future__ import annotations

import os
import shutil
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import platformdirs
import torch

from .errors import OptionError

__all__ = ["can_compile", "describe_device", "fast_bf16", "find_device", "keep_pages"]


def find_device(name: str = "auto") -> torch.device:
    """A device by name; ``auto`` takes a CUDA GPU where there is one, and the CPU elsewhere.

    Raises:
        OptionError: If there is no such device here.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ValueError) as error:
        some = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise OptionError(f"--device cannot be {name!r} on this machine; it has {' and '.join(some)}.") from error
    return device


def fast_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 are faster than in fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    # torch also computes in bf16 where it has to emulate it, which is slower than fp32.
    return any(_cpu_flag(name) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def _cpu_flag(name: str) -> bool:
    ask = getattr(torch.cpu, name, None)
    return bool(ask()) if ask is not None else False


@cache
def can_compile(device: torch.device) -> bool:
    """Whether ``torch.compile`` works: a compiler is there, and a small function runs through it.

    Compiled code is kept in the user's cache, unless the environment names another place.
    """
    folder = Path(platformdirs.user_cache_dir("jensen")) / "compiled"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    named = os.environ.get("CXX")
    if device.type == "cuda" and find_spec("triton") is None:
        return False
    if not any(shutil.which(name) for name in ([named] if named else ["g++", "clang++", "c++"])):
        return False
    try:
        x = torch.ones(8, device=device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch's modules say to one another is no answer
            return bool(torch.equal(torch.compile(_probe, dynamic=False)(x), _probe(x)))
    except Exception:  # whatever a broken tool chain raises, the answer is no
        return False


def _probe(x: torch.Tensor) -> torch.Tensor:
    return 2 * x + 1


def keep_pages() -> None:
    """Lets the C library keep the memory of freed tensors of up to 32 MiB, instead of giving it back to the system.

    glibc takes each large block from the system anew, page by page, until one of that size has been freed once; in a
    loop that makes and drops tensors of megabytes, this doubles the time. So one such block is made and dropped.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def describe_device(device: torch.device) -> str:
    """A device in words.

    Example:
        >>> describe_device(torch.device("cpu")).startswith("CPU")
        True
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type.upper()}, {torch.get_num_threads()} threads"
