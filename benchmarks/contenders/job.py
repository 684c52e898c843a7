"""What a contender is asked to do, and how it says that a turn is over."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["HIDDEN", "LATENTS", "PIXELS", "Array", "Contender", "Job", "Turn", "versions"]

Array = NDArray[np.float32]

PIXELS, HIDDEN, LATENTS = 784, (500, 500), 20
"""The dense model: 784-500-500-20 and back."""


@dataclass(frozen=True)
class Job:
    """What all contenders of a race are asked to do.

    Arguments:
        rows: The file of the rows, .npy.
        turns: How many turns there are: epochs in training, repetitions in scoring.
        threads: The number of threads.
        seed: The seed of initial weights, order and noise.
        batch: The rows in a batch.
        rate: The learning rate of Adam.
        activation: What the units of the dense networks do, ``silu`` or ``relu``.
        samples: The samples K of each row in scoring.
        growth: The numbers of samples of the turns in which memory is watched.
        few: The number of rows that slow contenders score.
    """

    rows: str
    turns: int
    threads: int
    seed: int = 0
    batch: int = 128
    rate: float = 1e-3
    activation: str = "silu"
    samples: int = 5000
    growth: tuple[int, ...] = ()
    few: int = 4

    def load(self) -> Array:
        """The rows as floats."""
        rows: Array = np.load(self.rows)
        return rows

    def to_json(self) -> str:
        """As one line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Job:
        """From one line of text."""
        found = json.loads(text)
        return cls(**{**found, "growth": tuple(found["growth"])})


Turn = Callable[[int, float | None], None]
"""Called when a turn is over: with the number of examples, and the mean loss in nats per example where it is known.

It returns when the next turn begins.
"""


class Contender(Protocol):
    """Does the work of a job, turn by turn.

    ``versions`` names what it runs on, ``weights`` returns what it learned, as :mod:`benchmarks.speed_bounds` reads it.
    """

    versions: dict[str, str]

    def run(self, turn: Turn) -> None: ...

    def weights(self) -> Mapping[str, Array]: ...


def versions(*names: str) -> dict[str, str]:
    """The installed versions of packages."""
    return {name: version(name) for name in names}
