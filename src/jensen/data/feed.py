"""Rows in their storage type, and batches as a function of seed and step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import DataError
from ..noise import mix
from ..roles import Given

__all__ = ["Rows", "batch_index"]


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(mix(seed, "order", epoch))
    return torch.randperm(count, generator=generator)


def batch_index(count: int, batch_size: int, seed: int, step: int) -> Tensor:
    """The rows of the batch of a step: each epoch is a permutation cut into batches whose sizes differ by at most one.

    Arguments:
        count: The number of rows.
        batch_size: The largest size of a batch.
        seed: The seed of the order.
        step: The step, from 0.

    Example:
        >>> [len(batch_index(10, 4, seed=0, step=s)) for s in range(3)]
        [3, 3, 4]
        >>> sorted(torch.cat([batch_index(10, 4, seed=0, step=s) for s in range(3)]).tolist()) == list(range(10))
        True
    """
    batches = -(-count // batch_size)
    epoch, part = divmod(step, batches)
    return _order(count, seed, epoch)[part * count // batches : (part + 1) * count // batches]


class Rows:
    r"""Training rows in the type they are stored in, turned into what the model sees batch by batch.

    Arguments:
        values: The rows as stored, shape (N, \*X).
        encode: From stored rows to the floats that the model sees; it may draw random numbers, such as those of
            dynamic binarisation, which then differ at each step. None where the rows are these floats already.
        log_jacobian: What turns a log-density of what the model sees into one of the user's values, nats per row; it
            is added to the bounds that are reported.
        given: What is known beside each row.

    Raises:
        DataError: If there are no rows, or what is given is for another number of them.

    Example:
        >>> rows = Rows(torch.tensor([[0], [255]], dtype=torch.uint8), encode=lambda levels: levels / 255)
        >>> rows.batch(torch.tensor([1]))[0]
        tensor([[1.]])
    """

    def __init__(
        self,
        values: Tensor,
        encode: Callable[[Tensor], Tensor] | None = None,
        *,
        log_jacobian: float = 0.0,
        given: Given | None = None,
    ) -> None:
        if values.ndim < 2 or len(values) == 0:
            raise DataError(f"expected rows of shape (N, *X) with N >= 1; got shape {tuple(values.shape)}.")
        self.values = values
        self.encode = encode
        self.log_jacobian = log_jacobian
        self.given = Given() if given is None else given
        for known in (self.given.condition, self.given.labels):
            if known is not None and len(known) != len(values):
                raise DataError(f"got conditions or labels for {len(known)} rows beside {len(values)} rows.")

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, index: Tensor) -> tuple[Tensor, Given]:
        """The rows with the given numbers as the model sees them, and what is known beside them."""
        return self.encoded(self.values[index], index)

    def encoded(self, stored: Tensor, index: Tensor) -> tuple[Tensor, Given]:
        """Stored rows as the model sees them, and what is known beside them."""
        known = replace(self.given.rows(index), index=index)
        return (stored if self.encode is None else self.encode(stored)), known

    def to(self, device: torch.device) -> Rows:
        """The same rows on a device."""
        given = self.given.to(device)
        return Rows(self.values.to(device), self.encode, log_jacobian=self.log_jacobian, given=given)
