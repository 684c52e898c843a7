"""What a training leaves behind: its reports, line by line, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["History", "Journal", "Report"]


@dataclass(frozen=True)
class Report:
    """One line of the journal of a training, and the clock values that are kept apart from it."""

    line: dict[str, Any]
    timing: dict[str, float]
    steps: int


class Journal(Protocol):
    """Where reports go, and ``clock`` values without one where a call ends.

    ``position`` marks how far the journal has come, and ``rewind`` goes back to such a mark.
    """

    def write(self, report: Report) -> None: ...

    def clock(self, step: int, timing: Mapping[str, float]) -> None: ...

    def position(self) -> dict[str, int]: ...

    def rewind(self, position: Mapping[str, int]) -> None: ...


@dataclass
class History:
    """What a training did.

    Arguments:
        lines: The reports since this call began, in order.
        step: The number of steps taken in all.
        finished: Whether training came to its end: all steps were taken, or patience was at its end.
        best_step: The step whose weights the model holds now, if the training finished.
        best_bound: The validation bound at that step, nats per example as it is reported; None without validation rows
            and where the objective's own loss selects.
        seconds: The time spent in this call, without validation and saving.
        examples: The number of examples seen in this call.
        skipped: The number of steps that were not taken, since their loss or gradient was not finite or exploded.
        warnings: What was noticed, in sentences.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    finished: bool = False
    best_step: int = 0
    best_bound: float | None = None
    seconds: float = 0.0
    examples: int = 0
    skipped: int = 0
    warnings: list[str] = field(default_factory=list)
