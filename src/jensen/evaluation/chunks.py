"""Rows in chunks of one fixed size, in evaluation mode: what stands around a row changes no bit of what is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from ..hardware import keep_pages
from ..modes import evaluating
from ..roles import Given

__all__ = ["CHUNK_ROWS", "device_of", "dtype_of", "evaluation_mode", "given_padded", "in_chunks", "padded"]

CHUNK_ROWS = 64
"""Rows in a chunk, always: a matrix product then sums each row in the same order wherever the row stands."""


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside the block; every module's own mode is put back after it.

    The number of threads is lowered to a power of two: it then divides a chunk, and no vector of numbers is cut at
    the border between two threads, where the last bit would depend on the position of a row.
    """
    threads = torch.get_num_threads()
    keep_pages()
    try:
        torch.set_num_threads(2 ** (threads.bit_length() - 1))
        with evaluating(model), torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


def in_chunks(function: Callable[..., Tensor], x: Tensor, given: Given | None = None) -> Tensor:
    """Applies a function of rows in chunks of one fixed size, the last one padded, so that batching changes no bit.

    Where something is given beside the rows, the function gets that of its rows as a second argument.
    """
    outputs = []
    for start in range(0, len(x), CHUNK_ROWS):
        rows = x[start : start + CHUNK_ROWS]
        known = () if given is None else (given_padded(given, start, len(rows)).to(x.device),)
        outputs.append(function(padded(rows), *known)[: len(rows)])
    return torch.cat(outputs)


def given_padded(given: Given, start: int, count: int) -> Given:
    """What is given beside the rows of a chunk, padded as they are."""
    places = torch.arange(start, start + CHUNK_ROWS)
    places[count:] = start
    return given.rows(places)


def padded(rows: Tensor) -> Tensor:
    """The rows of a chunk, the first one repeated until there are enough."""
    missing = CHUNK_ROWS - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are, or its buffers where it has no parameters."""
    return next((part.device for part in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def dtype_of(model: nn.Module, default: torch.dtype = torch.float32) -> torch.dtype:
    """The type of the model's parameters, or ``default`` where it has none."""
    return next((parameter.dtype for parameter in model.parameters()), default)
