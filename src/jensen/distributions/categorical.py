"""One of several numbers, drawn so that every draw keeps its place in the batch."""

from __future__ import annotations

import math

import torch
from torch import Size, Tensor
from torch.distributions import Categorical as TorchCategorical
from torch.types import _size

__all__ = ["Categorical", "chosen"]

_BLOCK = 2**22
"""Probabilities that are added up at once, in double precision."""


class Categorical(TorchCategorical):
    r"""A number c from 0 to C-1 with :math:`P(c) = \mathrm{softmax}(a)_c`, drawn from one uniform number.

    ``torch.multinomial`` draws a whole batch as one list, so that noise can no longer be told apart by the rows that it
    is for; a uniform number has the shape of the draw.

    Example:
        >>> Categorical(logits=torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]])).sample((3,))
        tensor([[0, 1],
                [0, 1],
                [0, 1]])
    """

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        shape = self._extended_shape(sample_shape)
        return chosen(self.logits, torch.rand(shape, dtype=torch.float64, device=self.logits.device))


@torch.no_grad()
def chosen(logits: Tensor, uniform: Tensor) -> Tensor:
    r"""The first category at which the cumulative probability exceeds a uniform number.

    Arguments:
        logits: The unnormalised log-probabilities, shape (\*B, C).
        uniform: Numbers in [0, 1), shape (\*S, \*B).

    Example:
        >>> chosen(torch.zeros(4), torch.tensor([0.0, 0.3, 0.99]))
        tensor([0, 1, 3])
    """
    count, categories = math.prod(logits.shape[:-1]), logits.shape[-1]
    samples = math.prod(uniform.shape[: uniform.ndim - logits.ndim + 1])
    rows = max(1, _BLOCK // categories)
    parts = zip(
        logits.reshape(count, categories).split(rows), uniform.reshape(samples, count).split(rows, 1), strict=True
    )
    return torch.cat([_chosen(*part) for part in parts], 1).reshape(uniform.shape)


def _chosen(logits: Tensor, uniform: Tensor) -> Tensor:
    """For logits of shape (N, C) and numbers of shape (S, N)."""
    total = logits.double().softmax(-1).cumsum(-1)
    height = uniform.double().t() * total[:, -1:]  # below the top, since the top is one up to rounding
    return torch.searchsorted(total, height.contiguous(), right=True).t()
