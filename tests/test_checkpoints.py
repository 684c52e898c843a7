"""Checkpoints: whole or absent, whatever happens while they are written."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch

from jensen import files
from jensen.errors import FileFormatError, RunError
from jensen.train.checkpoint import Checkpoint, Checkpoints


class Crash(BaseException):
    """The process dies here."""


def checkpoint(step: int) -> Checkpoint:
    tensors = {"model": {"w": torch.full((50,), float(step))}, "optimizer": {"0.exp_avg": torch.ones(50)}}
    return Checkpoint(step, tensors, {"note": {"step": step, "value": 0.1 + step}})


def is_whole(found: Checkpoint) -> bool:
    return bool((found.tensors["model"]["w"] == found.step).all()) and found.state["note"]["step"] == found.step


def test_what_is_saved_is_what_is_loaded(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoint(3))
    found = checkpoints.load()
    assert found.step == 3 and is_whole(found)
    assert found.state["note"]["value"] == 0.1 + 3
    assert (tmp_path / "latest").read_text() == "step-00000003\n"
    assert {p.name for p in (tmp_path / "step-00000003").iterdir()} == {
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "manifest.json",
        "COMMIT",
    }


def test_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3, 10):
        checkpoints.save(checkpoint(step))
    assert [p.name for p in sorted(tmp_path.glob("step-*"))] == ["step-00000003", "step-00000010"]


def count_and_crash(monkeypatch, at: int | None) -> list[int]:
    """Counts the calls that change the disk, and dies instead of the call number ``at``."""
    calls = [0]

    def wrap(owner, name):
        original = getattr(owner, name)

        def wrapped(*args, **kwargs):
            calls[0] += 1
            if calls[0] - 1 == at:
                raise Crash
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)

    for name in ("rename", "replace", "mkdir", "write_text", "unlink", "chmod"):
        wrap(Path, name)
    wrap(os, "fsync")
    wrap(files.safetensors.torch, "save_file")
    import shutil

    wrap(shutil, "rmtree")
    return calls


@pytest.mark.parametrize("again", [False, True], ids=["next step", "same step"])
def test_a_crash_at_any_moment_of_saving_leaves_a_whole_checkpoint(tmp_path, again):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path / "count"
        for step in (1, 2):
            Checkpoints(folder).save(checkpoint(step))
        calls = count_and_crash(patch, None)
        Checkpoints(folder).save(checkpoint(2 if again else 3))
    assert calls[0] > 20
    for at in range(calls[0]):
        folder = tmp_path / f"crash-{at}"
        for step in (1, 2):
            Checkpoints(folder).save(checkpoint(step))
        with pytest.MonkeyPatch.context() as patch:
            count_and_crash(patch, at)
            with pytest.raises(Crash):
                Checkpoints(folder).save(checkpoint(2 if again else 3))
        found = Checkpoints(folder).load()
        assert is_whole(found)
        assert found.step >= (1 if again else 2)
        Checkpoints(folder).save(checkpoint(4))
        assert Checkpoints(folder).load().step == 4
        assert not [p for p in folder.iterdir() if p.name.startswith(".step")], "leftovers remain"


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "commit"])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, name, damage, caplog):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(checkpoint(step))
    victim = tmp_path / "step-00000002" / name
    content = victim.read_bytes()
    if damage == "flip":
        middle = len(content) // 2
        victim.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "truncate":
        victim.write_bytes(content[:-7])
    elif damage == "missing":
        victim.unlink()
    else:
        (victim.parent / "COMMIT").unlink()
    with caplog.at_level(logging.WARNING):
        found = checkpoints.load()
    assert is_whole(found) and found.step == 1
    assert damage == "commit" or "damaged" in caplog.text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("manifest.json", '{"state.json": "text"}'),
        ("manifest.json", "[]"),
        ("state.json", "[1, 2]"),
        ("state.json", '{"step": "two"}'),
    ],
)
def test_documents_of_another_form_are_passed_over(tmp_path, name, text):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(checkpoint(step))
    folder = tmp_path / "step-00000002"
    (folder / name).write_text(text)
    if name == "state.json":
        manifest = files.read_json(folder / "manifest.json")
        manifest[name]["sha256"] = files.sha256(folder / name)
        files.write_json(folder / "manifest.json", manifest)
    assert checkpoints.load().step == 1


def test_the_newest_is_kept_however_many_digits_it_has(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (99_999_998, 99_999_999, 100_000_000):
        checkpoints.save(checkpoint(step))
    assert checkpoints.load().step == 100_000_000
    assert not (tmp_path / "step-99999998").exists()


def test_nothing_to_resume_from_is_said(tmp_path):
    with pytest.raises(RunError, match="nothing to resume"):
        Checkpoints(tmp_path / "none").load()


def test_each_file_is_durable_before_it_has_its_name(tmp_path, monkeypatch):
    events: list[tuple[str, str]] = []
    real = {"fsync": os.fsync, "replace": Path.replace, "rename": Path.rename}

    def fsync(handle):
        events.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        return real["fsync"](handle)

    def replace(self, target):
        events.append(("name", Path(target).name))
        return real["replace"](self, target)

    def rename(self, target):
        events.append(("name", Path(target).name))
        return real["rename"](self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "rename", rename)
    Checkpoints(tmp_path).save(checkpoint(5))
    named = [name for kind, name in events if kind == "name"]
    assert named == [
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "manifest.json",
        "COMMIT",
        "step-00000005",
        "latest",
    ]
    for index, (kind, name) in enumerate(events):
        if kind == "name" and name != "step-00000005":
            assert events[index - 1][0] == "fsync" and name in events[index - 1][1]
            assert events[index + 1][0] == "fsync"  # the folder


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoint(1))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.safetensors.torch, "save_file", full)
    with pytest.raises(FileFormatError, match="No space left"):
        checkpoints.save(checkpoint(2))
    assert all(path.read_bytes() == content for path, content in before.items())
    assert checkpoints.load().step == 1
