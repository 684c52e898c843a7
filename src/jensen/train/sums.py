"""Sums over the examples since the last report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..roles import Estimate

__all__ = ["Sums", "summed"]


def summed(estimate: Estimate, count: int) -> tuple[list[str], Tensor]:
    """The names of the numbers of a step, and their sums over its examples, the number of examples last."""
    values = {"objective": -estimate.loss.detach().double() * count}
    if estimate.bound is not None:
        values["bound"] = estimate.bound.detach().double().sum()
    values |= {name: term.detach().double().sum() for name, term in estimate.terms.items()}
    return list(values), torch.stack([*values.values(), estimate.loss.new_full((), count, dtype=torch.float64)])


class Sums:
    """Sums of objective, bound and terms, kept on the device in float64 and read once per report.

    The examples of a skipped step do not count, but which of its numbers were not finite does.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.totals: Tensor | None = None
        self.bad: Tensor | None = None

    def add(self, names: list[str], column: Tensor, good: Tensor) -> None:
        """Adds what :func:`summed` says of a step if ``good``, a tensor, says so."""
        bad = ~column.isfinite()
        column = torch.where(good, column, 0.0)
        if self.totals is None or self.bad is None:
            self.names, self.totals, self.bad = names, column, bad
        else:
            self.totals += column
            self.bad |= bad

    def means(self) -> dict[str, float]:
        """The mean of each over the examples that counted; empty if none did."""
        if self.totals is None:
            return {}
        *totals, count = self.totals.tolist()
        return {name: total / count for name, total in zip(self.names, totals, strict=True)} if count else {}

    def not_finite(self) -> list[str]:
        """The names of what was not finite in some step."""
        flags = [] if self.bad is None else self.bad.tolist()
        return [name for name, flag in zip(self.names, flags, strict=False) if flag]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        if self.totals is None or self.bad is None:
            return {}
        return {"names": self.names, "totals": self.totals.tolist(), "bad": self.bad.tolist()}

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> Sums:
        """What a checkpoint kept."""
        sums = cls()
        if state:
            sums.names = list(state["names"])
            sums.totals = torch.tensor(state["totals"], dtype=torch.float64, device=device)
            sums.bad = torch.tensor(state["bad"], dtype=torch.bool, device=device)
        return sums
