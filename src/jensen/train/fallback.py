"""Going back: to older weights, at half the learning rate, when steps do nothing but explode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import NonFiniteError
from .tensors import copied

__all__ = ["Fallback"]

_MOST_RETREATS = 3


class Fallback:
    """The weights to go back to, and how often that was done.

    Arguments:
        model: The model, whose weights now are the first ones to go back to.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.weights: dict[str, Tensor] = copied(model)
        self.retreats, self.skipped_before = 0, 0

    @property
    def factor(self) -> float:
        """What the learning rate is multiplied by."""
        return 0.5**self.retreats

    def keep(self, skipped: int) -> None:
        """Takes the weights as they are, unless steps were skipped since: weights that make them explode are none."""
        if skipped == self.skipped_before:
            self.weights = copied(self.model)
        self.skipped_before = skipped

    def retreat(self, reason: str, rate: float) -> None:
        """Goes back.

        Arguments:
            reason: Why.
            rate: The learning rate of this step without the factor.

        Raises:
            NonFiniteError: If that did not help before.
        """
        self.model.load_state_dict(self.weights)
        self.retreats += 1
        if self.retreats > _MOST_RETREATS:
            self.model.eval()
            raise NonFiniteError(
                f"{reason}. The weights went back to older ones {_MOST_RETREATS} times, at half the learning rate each "
                f"time, and now hold those again. Try a learning rate below {rate / 16:.2g}, or look "
                "for extreme or missing values in the data."
            )

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights."""
        return {"retreats": self.retreats, "skipped_before": self.skipped_before}

    def restore(self, state: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Goes on from what a checkpoint kept."""
        self.weights = dict(weights)
        self.retreats, self.skipped_before = int(state["retreats"]), int(state["skipped_before"])
