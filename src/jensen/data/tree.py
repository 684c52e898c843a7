"""The image files of a folder, and what else lies in it."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .pixels import ENDINGS, reason_of

__all__ = ["Tree", "has_images", "is_image", "printable", "search"]

_RUN_FILES = {"config.json", "data.json", "environment.json"}


@dataclass
class Tree:
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
    return bool(search(folder).files)


def search(folder: Path) -> Tree:
    """Image files by sorted path; what is hidden is passed over, and each folder is entered once, links or not."""
    found, seen = Tree(), set()

    def refused(error: OSError) -> None:
        found.skipped[printable(_within(folder, error.filename))] = reason_of(error)

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


def printable(name: str) -> str:
    """A name that can be written as UTF-8, though a file's name can be any bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _within(folder: Path, path: str | os.PathLike[str]) -> str:
    return Path(path).relative_to(folder).as_posix()
