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
_PERMUTATIONS = 1999


@dataclass(frozen=True)
class LabelProbe:
    """How well labels are read from inputs, on held-out rows.

    Arguments:
        linear: The accuracy of a linear classifier.
        neighbours: The accuracy of a vote among the nearest rows.
        chance: The share of the most frequent held-out label, the best accuracy of a constant answer.
        rows: The number of held-out rows.
        p_value: The probability that, with held-out labels permuted, the true ones are given as much probability as
            they are, by the better of the two classifiers, after Bonferroni.
        least_p_value: The same for a classifier that is always right.
    """

    linear: Measured
    neighbours: Measured
    chance: float
    rows: int
    p_value: float
    least_p_value: float

    @property
    def best(self) -> Measured:
        """The higher of the two."""
        return max(self.linear, self.neighbours, key=lambda number: number.value)

    def above_chance(self, level: float = 0.01) -> bool:
        """Whether inputs tell more of labels than of permuted ones, by a test at a level of at least 0.001."""
        return self.p_value < level

    def can_tell(self, level: float = 0.01) -> bool:
        """Whether a classifier that is always right would pass that test; not where nearly all labels are the same."""
        return self.least_p_value < level

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data."""
        return {
            "linear": self.linear.to_json(),
            "neighbours": self.neighbours.to_json(),
            "chance": self.chance,
            "rows": self.rows,
            "p_value": self.p_value,
        }


def probe_labels(codes: Tensor, labels: Tensor, held_codes: Tensor, held_labels: Tensor) -> LabelProbe:
    r"""A linear classifier and a vote of ten neighbours, learnt on some rows and tested on others.

    Inputs are standardised with the statistics of the first rows. Whether they tell anything of labels is tested by
    permuting the held-out ones: a rare label may be told and yet never be the likeliest.

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
    linear, neighbours, p_value = _read(first, other, labels.cpu(), held_labels.cpu())
    # No answer that knows nothing of a row is right more often than the most frequent held-out label.
    counts = held_labels.unique(return_counts=True)[1].cpu().double()
    orders = torch.lgamma(counts.sum() + 1) - torch.lgamma(counts + 1).sum()
    least = min(1.0, 2 * math.exp(-float(orders)))
    return LabelProbe(linear, neighbours, float(counts.max()) / len(held), len(held), p_value, least)


def _read(train: Any, held: Any, labels: Tensor, held_labels: Tensor) -> tuple[Measured, Measured, float]:
    """The accuracy of both classifiers, and the p-value of the better one after Bonferroni."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    accuracies, p_values = [], []
    for probe in (LogisticRegression(max_iter=500), KNeighborsClassifier(min(_NEIGHBOURS, len(train)))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # labels are read off either way
            probe.fit(train, labels.numpy())
        hits = float((torch.from_numpy(probe.predict(held)) == held_labels).double().mean())
        accuracies.append(Measured(hits, math.sqrt(hits * (1 - hits) / len(held)), unit="accuracy"))
        match = held_labels[:, None] == torch.from_numpy(probe.classes_)
        p_values.append(_permuted(torch.from_numpy(probe.predict_proba(held)).double(), match.double()))
    return accuracies[0], accuracies[1], min(1.0, 2 * min(p_values))


def _permuted(probability: Tensor, match: Tensor) -> float:
    """How often permuted labels are given as much probability as the true ones; both of shape (M, labels)."""
    generator = torch.Generator().manual_seed(0)
    given = float((probability * match).sum())
    orders = (torch.randperm(len(match), generator=generator) for _ in range(_PERMUTATIONS))
    as_much = sum(float((probability * match[order]).sum()) >= given - 1e-9 for order in orders)
    return (1 + as_much) / (1 + _PERMUTATIONS)
