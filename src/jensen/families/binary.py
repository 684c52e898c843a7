"""Families of zeros and ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Independent, constraints

from .. import distributions
from ..spec import declared
from .base import Measure, event_shape_of

__all__ = ["Bernoulli"]


@declared("families.Bernoulli")
class Bernoulli(nn.Module):
    r"""Independent coin flips :math:`\prod_d p_d^{x_d} (1 - p_d)^{1 - x_d}`, the network giving the logits.

    Its log-likelihood is the binary cross-entropy with a minus sign, with no constant.

    Arguments:
        shape: The event shape; an integer D means (D,).

    Example:
        >>> import torch.nn.functional as F
        >>> x, logits = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.3, -2.0, 1.5])
        >>> log_p = Bernoulli(3)(logits).log_prob(x)
        >>> bce = sum(F.binary_cross_entropy_with_logits(a, b) for a, b in zip(logits, x))
        >>> torch.allclose(log_p, -bce)
        True
    """

    support: ClassVar[constraints.Constraint] = constraints.boolean
    measure: Measure = "mass"

    def __init__(self, shape: int | Sequence[int]) -> None:
        super().__init__()
        self.event_shape = event_shape_of(shape)
        self.parameter_shapes: tuple[tuple[int, ...], ...] = (self.event_shape,)

    def forward(self, logits: Tensor) -> Independent[distributions.Bernoulli]:
        coins = distributions.Bernoulli(logits=logits, validate_args=False)
        return Independent(coins, len(self.event_shape), validate_args=False)

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """The log-odds of each dimension, smoothed by half a one and half a zero."""
        ones = x.sum(0)
        return (torch.log((ones + 0.5) / (len(x) - ones + 0.5)),)
