"""The machine that speed was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from .record import hardware

__all__ = ["machine"]

_TELLING = ("avx", "amx", "fma", "f16c", "sse4", "bf16", "neon", "sve", "asimd")


def machine() -> dict[str, Any]:
    """Date, commit, versions, processor with what it can do, cores, memory and system."""
    return {**hardware(), "flags": _flags(), "cores": os.cpu_count(), "memory_bytes": _memory(), "system": _system()}


def _flags() -> list[str]:
    """What the processor can do that decides the speed of arithmetic."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    flags = next((line.split(":")[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return sorted(flag for flag in flags if any(word in flag for word in _TELLING))


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _system() -> str:
    return platform.platform()
