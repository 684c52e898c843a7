"""One contender in a process of its own: it works when it is told "go", says how long that took, and sleeps.

Run by benchmarks.speed as: python -m benchmarks.speed_worker NAME JOB
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

STARTED = time.perf_counter()

import numpy as np  # noqa: E402 (the clock starts before anything is imported)

from .contenders import make  # noqa: E402
from .contenders.job import Job  # noqa: E402


class OverError(Exception):
    """There are no more turns."""


class Talk:
    """Answers in lines of JSON on what was the standard output; what libraries print goes to the standard error."""

    def __init__(self, turns: int) -> None:
        self.answers: TextIO = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self.left, self.started = turns, 0.0

    def say(self, **answer: Any) -> None:
        """Answers, with the most memory that was in use so far."""
        print(json.dumps({**answer, "peak_bytes": peak_bytes()}), file=self.answers, flush=True)

    def wait(self) -> None:
        """Sleeps until the next turn, and starts the clock."""
        if sys.stdin.readline().strip() != "go":
            raise OverError
        self.started = time.perf_counter()

    def turn(self, examples: int, loss: float | None) -> None:
        """Ends a turn, and waits for the next one if there is one."""
        seconds = time.perf_counter() - self.started
        known = loss is not None and math.isfinite(loss)
        self.say(seconds=seconds, examples=examples, loss=loss if known else None)
        self.left -= 1
        if self.left:
            self.wait()


def peak_bytes() -> int:
    """The most resident memory of this process so far, without that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(peak.split()[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def limit_threads(count: int) -> None:
    """Keeps this process on so many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def main() -> None:
    name, job = sys.argv[1], Job.of(sys.argv[2])
    limit_threads(job.threads)
    talk = Talk(job.turns)
    contender = make(name, job)
    talk.say(ready=True, seconds=time.perf_counter() - STARTED, versions=contender.versions)
    try:
        talk.wait()
        contender.run(talk.turn)
    except OverError:
        return
    path = sys.stdin.readline().strip()
    if path:
        weights: dict[str, Any] = dict(contender.weights())
        np.savez(path, **weights)
        talk.say(saved=path)


if __name__ == "__main__":
    main()
