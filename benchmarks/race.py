"""Contenders in processes of their own that work in turns, so that each meets the machine as the others do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .contenders import CONTENDERS
from .contenders.job import Job

__all__ = ["FailedError", "Runner", "Track", "race"]

ROOT = Path(__file__).parent.parent


class FailedError(Exception):
    """A contender ended without an answer."""


@dataclass(frozen=True)
class Track:
    """Where contenders run.

    Arguments:
        folder: A folder for their logs and caches.
        threads: The number of threads of each.
        peers: The interpreter of the peers' environment; None where it is missing.
    """

    folder: Path
    threads: int
    peers: Path | None

    def environment(self) -> dict[str, str]:
        """The variables of a contender: its threads, no accelerator, and no code compiled by an earlier run."""
        count = str(self.threads)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
        return {
            **os.environ,
            **dict.fromkeys(names, count),
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "compiled"),
        }


@dataclass
class Runner:
    """A contender at work.

    Arguments:
        name: Its name in the table of contenders.
        job: What it does.
        track: Where it runs.
    """

    name: str
    job: Job
    track: Track
    turns: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        interpreter = self.track.peers if CONTENDERS[self.name].peer else sys.executable
        self.log = self.track.folder / f"{self.name}-{self.job.seed}.log"
        command = [str(interpreter), "-m", "benchmarks.speed_worker", self.name, self.job.to_json()]
        with self.log.open("w") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=self.track.environment(),
            )
        self.ready = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise FailedError(f"{self.name} ended with code {self.process.returncode}: {self._last_words()}")
        return dict(json.loads(line))

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _tell(self, text: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{text}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer tells why

    def go(self) -> None:
        """Lets it take a turn."""
        self._tell("go")
        self.turns.append(self._answer())

    def save(self, path: Path) -> Path:
        """Lets it save what it learned."""
        self._tell(str(path))
        self._answer()
        return path

    def close(self) -> None:
        """Ends it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def race(jobs: Mapping[str, Job], track: Track, failures: dict[str, str]) -> dict[str, Runner]:
    """Runs jobs that have the same number of turns, one turn of each after the other; who starts rotates.

    A contender that fails is left out, and ``failures`` says why. The others come back ready to save.
    """
    runners: dict[str, Runner] = {}
    for name, job in jobs.items():
        try:
            runners[name] = Runner(name, job, track)
        except FailedError as error:
            _drop(name, str(error), failures)
    turns = max((job.turns for job in jobs.values()), default=0)
    for number in range(turns):
        print(f"round {number} of {turns - 1}: {', '.join(runners)}", flush=True)
        for name in _rotated(list(runners), number):
            try:
                runners[name].go()
            except FailedError as error:
                _drop(name, str(error), failures)
                del runners[name]
    return runners


def _drop(name: str, reason: str, failures: dict[str, str]) -> None:
    failures[name] = reason
    print(f"left out: {reason}", flush=True)


def _rotated(names: Sequence[str], by: int) -> list[str]:
    start = by % len(names) if names else 0
    return [*names[start:], *names[:start]]
