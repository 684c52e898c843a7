"""A prior that depends on the condition."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, constraints

from ..conditional import condition_of
from ..distributions import bounded_scale, diagonal_normal
from ..errors import OptionError
from ..roles import Given
from ..spec import declared

__all__ = ["ConditionedNormal"]


@declared("priors.ConditionedNormal")
class ConditionedNormal(nn.Module):
    r"""The prior :math:`p(z|c) = N(z; M c, \mathrm{diag}(\sigma(S c))^2)`; a one-hot c chooses mean and scale.

    References:
        Sohn, Lee, Yan (2015), Learning structured output representation using deep conditional generative models.

    Arguments:
        size: The number of latents.
        conditions: The number of values of a condition.

    Raises:
        OptionError: If a size is not positive.
        JensenError: When used, if no condition is given.

    Example:
        >>> ConditionedNormal(2, conditions=3)(Given(condition=torch.eye(3))).batch_shape
        torch.Size([3])
    """

    support: ClassVar[constraints.Constraint] = constraints.independent(constraints.real, 1)

    def __init__(self, size: int, conditions: int) -> None:
        super().__init__()
        if min(size, conditions) < 1:
            raise OptionError(f"sizes are positive; got size={size}, conditions={conditions}.")
        self.event_shape = (size,)
        self.conditions = conditions
        self.mean = nn.Parameter(torch.zeros(conditions, size))
        self.raw_scale = nn.Parameter(torch.zeros(conditions, size))

    def forward(self, given: Given | None = None) -> Independent[Normal]:
        condition: Tensor = condition_of(given, self.conditions)
        return diagonal_normal(condition @ self.mean, bounded_scale(condition @ self.raw_scale), 1)
