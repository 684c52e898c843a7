"""Which weights are kept: those with the best validation bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..numbers import finite
from .tensors import copied

__all__ = ["Selection"]


class Selection:
    """The weights with the best validation bound so far, and how long ago that was.

    Arguments:
        patience: After how many validations in a row without a better bound training may stop; None for never.
        keep: Whether the weights are kept.
    """

    def __init__(self, patience: int | None = None, *, keep: bool = True) -> None:
        self.patience, self.keep = patience, keep
        self.weights: dict[str, Tensor] | None = None
        self.step, self.bound, self.waited = 0, -float("inf"), 0

    def consider(self, model: nn.Module, step: int, bound: float) -> None:
        """Notes a bound, and keeps the weights that the model holds if it is the best so far."""
        if bound > self.bound:
            self.bound, self.step, self.waited = bound, step, 0
            self.weights = copied(model) if self.keep else None
        else:
            self.waited += 1

    @property
    def exhausted(self) -> bool:
        """Whether the patience is at its end."""
        return self.patience is not None and self.waited >= self.patience

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights."""
        return {"step": self.step, "bound": finite(self.bound), "waited": self.waited}

    def restore(self, state: Mapping[str, Any], weights: Mapping[str, Tensor] | None) -> None:
        """Goes back to what a checkpoint kept."""
        self.weights = None if weights is None else dict(weights)
        self.step, self.waited = int(state["step"]), int(state["waited"])
        self.bound = -float("inf") if state["bound"] is None else float(state["bound"])
