"""What a check has to say: what was found, what it means, and what to change."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["SURE", "Finding"]

SURE = 3.3
"""Standard errors beyond which a fault is named: one side, 1% over all of the twenty or so tests of a page."""


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Arguments:
        kind: ``fault``: something is wrong; ``limit``: what holds the result back; ``note``: good to know.
        topic: What it is about, in one or two words.
        found: What was found, a sentence.
        meaning: What it means, a sentence.
        change: The option to change; empty where nothing need be changed.

    Example:
        >>> print(Finding("note", "prior", "Samples look like codes.", "The prior fits.", ""))
        Samples look like codes. The prior fits.
    """

    kind: Literal["fault", "limit", "note"]
    topic: str
    found: str
    meaning: str
    change: str

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        return " ".join(part for part in (self.found, self.meaning, self.change) if part)
