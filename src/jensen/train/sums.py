"""Sums over the examples since the last report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..roles import Estimate

__all__ = ["Sums", "judged", "summed"]


def summed(estimate: Estimate, count: int) -> tuple[list[str], Tensor]:
    """The names of the numbers of a step, and their sums over its examples, the number of examples last."""
    values = {"objective": -estimate.loss.detach().double() * count}
    if estimate.bound is not None:
        values["bound"] = estimate.bound.detach().double().sum()
    values |= {name: term.detach().double().sum() for name, term in estimate.terms.items()}
    return list(values), torch.stack([*values.values(), estimate.loss.new_full((), count, dtype=torch.float64)])


def judged(column: Tensor, good: Tensor) -> Tensor:
    """What :func:`summed` says of a step if ``good``, a tensor, says so, else zeros; below it ones where not finite.

    All that :class:`Sums` adds up is then one tensor, which a compiled step makes on its way.
    """
    return torch.stack([torch.where(good, column, 0.0), (~column.isfinite()).double()])


class Sums:
    """Sums of objective, bound and terms, kept on the device in float64 and read once per report.

    The examples of a skipped step do not count, but which of its numbers were not finite does.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.totals: Tensor | None = None

    def add(self, names: list[str], column: Tensor) -> None:
        """Adds what :func:`judged` says of a step."""
        if self.totals is None:
            self.names, self.totals = names, column
        else:
            self.totals += column

    def means(self) -> dict[str, float]:
        """The mean of each over the examples that counted; empty if none did."""
        if self.totals is None:
            return {}
        *totals, count = self.totals[0].tolist()
        return {name: total / count for name, total in zip(self.names, totals, strict=True)} if count else {}

    def not_finite(self) -> list[str]:
        """The names of what was not finite in some step."""
        flags = [] if self.totals is None else self.totals[1].tolist()
        return [name for name, flag in zip(self.names, flags, strict=False) if flag]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        if self.totals is None:
            return {}
        totals, bad = self.totals.tolist()
        return {"names": self.names, "totals": totals, "bad": [count > 0 for count in bad]}

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> Sums:
        """What a checkpoint kept."""
        sums = cls()
        if state:
            sums.names = list(state["names"])
            sums.totals = torch.tensor([state["totals"], state["bad"]], dtype=torch.float64, device=device)
        return sums
