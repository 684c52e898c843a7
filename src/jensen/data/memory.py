"""How much memory may still be taken."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["available_memory"]

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """The bytes that can be taken without swapping, within the limits of a container; None where it is not known."""
    found = [amount for amount in (_of_system(), _of_container()) if amount is not None]
    return min(found) if found else None


def _of_system() -> int | None:
    try:
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # no such call on Windows
        return None


def _of_container() -> int | None:
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        entries = (line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        cached = sum(int(amount) for name, amount in entries if name in ("active_file", "inactive_file"))
        return max(0, int(limit) - used + cached)  # cached files make room when it is needed
    except (OSError, ValueError):
        return None
