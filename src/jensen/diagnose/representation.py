"""What codes know about labels that the model has never seen."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError
from .measured import Measured

__all__ = ["LabelProbe", "probe_labels"]

_NEIGHBOURS = 10


@dataclass(frozen=True)
class LabelProbe:
    """How well labels are read from inputs, on held-out rows.

    Arguments:
        linear: The accuracy of a linear classifier.
        neighbours: The accuracy of a vote among the nearest rows.
        chance: The share of the most frequent held-out label, the best accuracy of a constant answer.
        rows: The number of held-out rows.
    """

    linear: Measured
    neighbours: Measured
    chance: float
    rows: int

    @property
    def best(self) -> Measured:
        """The higher of the two."""
        return max(self.linear, self.neighbours, key=lambda number: number.value)

    def above_chance(self, level: float = 0.01) -> bool:
        """Whether either is above a constant answer, by a one-sided test at a level."""
        from scipy import stats

        hits = round(self.best.value * self.rows)
        # Two probes were tried.
        return bool(stats.binomtest(hits, self.rows, self.chance, alternative="greater").pvalue < level / 2)

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data."""
        return {
            "linear": self.linear.to_json(),
            "neighbours": self.neighbours.to_json(),
            "chance": self.chance,
            "rows": self.rows,
        }


def probe_labels(codes: Tensor, labels: Tensor, held_codes: Tensor, held_labels: Tensor) -> LabelProbe:
    r"""A linear classifier and a vote of ten neighbours, learnt on some rows and tested on others.

    Inputs are standardised with the statistics of the first rows.

    References:
        Kingma, Mohamed, Rezende, Welling (2014), Semi-supervised learning with deep generative models. Bengio,
        Courville, Vincent (2013), Representation learning.

    Arguments:
        codes: The inputs of the first rows, shape (N, \*Z): codes, or the rows themselves.
        labels: Their labels, shape (N,), whole numbers.
        held_codes: The inputs of the held-out rows, shape (M, \*Z).
        held_labels: Their labels, shape (M,).

    Raises:
        DataError: If numbers of rows differ, or there is only one label.

    Example:
        >>> codes = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        >>> labels = (codes[:, 0] > 0).long()
        >>> probe_labels(codes[:100], labels[:100], codes[100:], labels[100:]).linear.value > 0.9
        True
    """
    for name, inputs, numbers in (("first", codes, labels), ("held-out", held_codes, held_labels)):
        if len(inputs) != len(numbers) or not len(inputs):
            raise DataError(f"there are {len(inputs)} {name} rows and {len(numbers)} labels; expected one label a row.")
    if len(labels.unique()) < 2:
        raise DataError("all labels are the same; there is nothing to learn.")
    train, held = codes.flatten(1).double(), held_codes.flatten(1).double()
    mean, deviation = train.mean(0), train.std(0, correction=0)
    deviation = torch.where(deviation > 0, deviation, 1.0)
    first, other = (((part - mean) / deviation).cpu().numpy() for part in (train, held))
    linear, neighbours = (
        Measured(hits, math.sqrt(hits * (1 - hits) / len(held)), unit="accuracy")
        for hits in _accuracies(first, other, labels.cpu().numpy(), held_labels.cpu().numpy())
    )
    # No answer that knows nothing of a row is right more often than the most frequent held-out label.
    chance = float(held_labels.unique(return_counts=True)[1].max()) / len(held)
    return LabelProbe(linear, neighbours, chance, len(held))


def _accuracies(train: Any, held: Any, labels: Any, held_labels: Any) -> list[float]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    probes = [LogisticRegression(max_iter=500), KNeighborsClassifier(min(_NEIGHBOURS, len(train)))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an accuracy is read off either way
        return [float((probe.fit(train, labels).predict(held) == held_labels).mean()) for probe in probes]
