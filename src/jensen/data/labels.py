"""Labels beside rows: as a condition, or as observations of a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, OptionError
from ..noise import mix, row_keys
from ..roles import Given

__all__ = ["LabelUse", "choose_labelled", "condition_on", "label_numbers", "repeated"]

_SHARE = 4  # labelled rows are repeated until they are one row in so many


@dataclass(frozen=True)
class LabelUse:
    """What the labels of data are for.

    Arguments:
        condition: Whether the model is conditioned on them.
        count: Where it is not, how many training rows have a label that is seen.
        seed: The seed of their choice.
    """

    condition: bool
    count: int = 0
    seed: int = 0


def condition_on(labels: Tensor, classes: int) -> Given:
    """Labels as a one-hot condition.

    Example:
        >>> condition_on(torch.tensor([1, 0]), 3).condition
        tensor([[0., 1., 0.],
                [1., 0., 0.]])
    """
    return Given(condition=torch.nn.functional.one_hot(labels, classes).to(torch.get_default_dtype()))


def label_numbers(labels: Any, names: Sequence[str], classes: int) -> Tensor:
    """Labels as numbers from 0: they may be given as such, or as names.

    Raises:
        DataError: If one is neither.

    Example:
        >>> label_numbers(["b", "a"], names=["a", "b"], classes=2)
        tensor([1, 0])
    """
    values = labels.tolist() if isinstance(labels, Tensor | np.ndarray) else [_plain(value) for value in labels]
    places = {name: number for number, name in enumerate(names)}
    found = [places.get(value, value) if isinstance(value, str) else value for value in values]
    wrong = [value for value in found if isinstance(value, bool) or not isinstance(value, int)]
    wrong += [value for value in found if isinstance(value, int) and not 0 <= value < classes]
    if wrong:
        known = f"one of {', '.join(names)}, or a number" if names else "a number"
        raise DataError(f"{wrong[0]!r} is no label of this model; expected {known} from 0 to {classes - 1}.")
    return torch.tensor(found, dtype=torch.int64)


def _plain(value: Any) -> Any:
    """A number of numpy or torch as one of Python."""
    return value.item() if isinstance(value, Tensor | np.generic) and value.ndim == 0 else value


def choose_labelled(values: Tensor, labels: Tensor, count: int, seed: int) -> Tensor:
    """The places of some rows, as many of each class as of any other, chosen by a seeded hash of their content.

    Arguments:
        values: The rows, shape (N, ...).
        labels: The number of the class of each, shape (N,).
        count: How many rows.
        seed: The seed of the choice.

    Raises:
        OptionError: If there are not as many rows, or fewer are asked for than there are classes.

    Example:
        >>> x, y = torch.arange(8.0)[:, None], torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
        >>> y[choose_labelled(x, y, 4, seed=0)]
        tensor([0, 0, 1, 1])
    """
    classes = labels.unique().tolist()
    if not len(classes) <= count <= len(values):
        raise OptionError(
            f"the number of labels must lie between {len(classes)} classes and {len(values)} rows; got {count}."
        )
    keys = [mix(seed, "labelled", key) for key in row_keys(values)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    queues = {label: [place for place in order if int(labels[place]) == label] for label in classes}
    chosen: list[int] = []
    while len(chosen) < count:  # where a class has no more, the others give theirs
        for label in classes:
            if queues[label] and len(chosen) < count:
                chosen.append(queues[label].pop(0))
    return torch.tensor(sorted(chosen))


def repeated(values: Tensor, labels: Tensor, use: LabelUse) -> tuple[Tensor, Given]:
    """Training rows of which a few are labelled: those come again, until they are a quarter of all rows."""
    places = choose_labelled(values, labels, use.count, use.seed)
    seen = torch.full_like(labels, -1)
    seen[places] = labels[places]
    rest = len(values) - len(places)
    more = max(0, rest // (_SHARE - 1) - len(places))
    again = places.repeat(-(-more // len(places)))[:more]
    return torch.cat([values, values[again]]), Given(labels=torch.cat([seen, seen[again]]))
