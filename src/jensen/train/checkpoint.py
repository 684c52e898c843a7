"""Checkpoints: whole or absent, checked by SHA-256, found again after a crash at any moment."""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import FileFormatError, RunError
from ..files import read_json, read_tensors, sha256, sync_folder, write_json, write_tensors, write_text

__all__ = ["Checkpoint", "Checkpoints"]

_logger = logging.getLogger(__name__)
_KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to go on: tensors by part (``model``, ``best``, ``optimizer``) and plain state."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run.

    A checkpoint is written into a temporary folder, file by file, each made durable; then its manifest with the
    SHA-256 of each file, then an empty file COMMIT; then the folder is renamed and ``latest`` is set to its name. A
    folder that lacks COMMIT, or whose files differ from the manifest, does not count. The last two are kept.

    Arguments:
        folder: The folder of the checkpoints; it is made when first needed.
        every: How many steps lie between two checkpoints; None saves only when training stops.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoints = Checkpoints(Path(folder))
        ...     path = checkpoints.save(Checkpoint(7, {"model": {"w": torch.ones(1)}}, {"note": "x"}))
        ...     checkpoints.load().step
        7
    """

    def __init__(self, folder: Path, every: int | None = None) -> None:
        self.folder = folder
        self.every = every

    def due(self, step: int) -> bool:
        """Whether a checkpoint is to be saved after this many steps."""
        return self.every is not None and step % self.every == 0

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        target = self.folder / f"step-{checkpoint.step:08d}"
        temporary = self.folder / f".{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
        temporary.mkdir()
        for part, tensors in checkpoint.tensors.items():
            write_tensors(temporary / f"{part}.safetensors", tensors)
        write_json(temporary / "state.json", {"step": checkpoint.step, **checkpoint.state})
        files = sorted(path for path in temporary.iterdir())
        manifest = {path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in files}
        write_json(temporary / "manifest.json", manifest)
        write_text(temporary / "COMMIT", "")
        if target.exists():
            # The same step saved again; the older one steps aside until the new one has its name.
            aside = temporary.with_suffix(".old")
            target.rename(aside)
            temporary.rename(target)
            shutil.rmtree(aside)
        else:
            temporary.rename(target)
        sync_folder(self.folder)
        write_text(self.folder / "latest", target.name + "\n")
        for old in self._committed()[:-_KEEP]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def refuse_others(self) -> None:
        """Checks that there are no checkpoints of another training, which would be mixed up with those of a new one.

        Raises:
            RunError: If there are.
        """
        if self._committed():
            raise RunError(
                f"{self.folder} holds checkpoints already. Go on from them with resume=True, or choose another folder."
            )

    def load(self) -> Checkpoint:
        """The newest whole checkpoint; damaged ones are passed over with a warning.

        Raises:
            RunError: If there is none.
        """
        candidates = self._committed()[::-1]
        for path in candidates:
            try:
                return self._read(path)
            except FileFormatError as error:
                _logger.warning("checkpoint %s is damaged and passed over: %s", path.name, error)
        found = f"{len(candidates)} damaged" if candidates else "no"
        raise RunError(
            f"{self.folder} holds {found} checkpoints, so there is nothing to resume from. Start the fit anew."
        )

    def _committed(self) -> list[Path]:
        found = (path.parent for path in self.folder.glob("step-*/COMMIT"))
        return sorted((path for path in found if path.name[5:].isdecimal()), key=lambda path: int(path.name[5:]))

    def _read(self, path: Path) -> Checkpoint:
        manifest = read_json(path / "manifest.json")
        if not isinstance(manifest, dict) or "state.json" not in manifest:
            raise FileFormatError(f"{path / 'manifest.json'} is not a manifest.")
        for name, entry in manifest.items():
            file = path / Path(name).name
            if not isinstance(entry, dict) or not file.is_file() or sha256(file) != entry.get("sha256"):
                raise FileFormatError(f"{file} differs from the manifest.")
        state = read_json(path / "state.json")
        if not isinstance(state, dict) or not isinstance(state.get("step"), int):
            raise FileFormatError(f"{path / 'state.json'} is not the state of a training.")
        tensors = {
            Path(name).stem: read_tensors(path / Path(name).name) for name in manifest if name.endswith(".safetensors")
        }
        return Checkpoint(state.pop("step"), tensors, state)

    def _remove_leftovers(self) -> None:
        """Removes what an interrupted save left behind."""
        for path in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob(".step-*.old"):
            original = self.folder / path.name.split(".")[1]
            if original.exists():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.rename(original)
