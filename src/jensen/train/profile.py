"""Where the time of a training goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

__all__ = ["Profile"]

_ADVICE = {
    "feed": "larger batches (--batch-size) spread its fixed cost over more rows",
    "forward": "smaller networks, bf16 (--precision) or compilation (--compile) shorten it",
    "backward": "smaller networks, bf16 (--precision) or compilation (--compile) shorten it",
    "compilation": "a longer training spreads it over more steps, and --compile off does without",
    "step": "smaller networks or bf16 (--precision) shorten it, and --compile off shows what it is made of",
    "optimiser": "larger batches (--batch-size) spread it over more rows",
    "sync": "larger batches (--batch-size) leave fewer steps to wait for",
    "evaluation": "validate less often (--validate-every)",
    "saving": "save less often (--checkpoint-every)",
}


class Profile:
    """Adds up the seconds spent in each phase of a training.

    Arguments:
        on: Whether anything is measured; if not, a phase costs nothing.
        device: Where the model is; on a GPU, its work is waited for at the end of each phase.

    Example:
        >>> profile = Profile(on=True)
        >>> with profile("feed"):
        ...     pass
        >>> list(profile.seconds)
        ['feed']
    """

    def __init__(self, *, on: bool, device: torch.device | None = None) -> None:
        self.on = on
        self.cuda = device is not None and device.type == "cuda"
        self.seconds: dict[str, float] = {}

    def __call__(self, phase: str) -> AbstractContextManager[None]:
        """Measures what happens inside the block."""
        return self._measured(phase) if self.on else nullcontext()

    @contextmanager
    def _measured(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.cuda:
                torch.cuda.synchronize()
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start

    def to_json(self) -> dict[str, Any]:
        """The seconds of each phase, and the sentence."""
        return {"seconds": self.seconds, "sentence": self.sentence()}

    def sentence(self) -> str:
        """The bottleneck, and what would ease it, in one sentence."""
        if not self.seconds:
            return "Nothing was measured."
        total = sum(self.seconds.values())
        phase = max(self.seconds, key=self.seconds.__getitem__)
        return f"Most of the time, {self.seconds[phase] / total:.0%}, goes into {phase}: {_ADVICE[phase]}."
