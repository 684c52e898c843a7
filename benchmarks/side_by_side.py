"""Several fits at the same time, each in a process of its own with one thread.

Whatever else slows the machine down then slows all of them, so that equal times on the clock are equal work.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

__all__ = ["side_by_side"]

T = TypeVar("T")


def side_by_side(
    function: Callable[..., T], jobs: Sequence[tuple[Any, ...]], processes: int | None = None
) -> Iterator[T]:
    """What a function of a module finds for the arguments of each job, in their order; by default all at a time."""
    os.environ["OMP_NUM_THREADS"] = "1"
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes or len(jobs), mp_context=spawn) as pool:
        yield from pool.map(function, *zip(*jobs, strict=True))
