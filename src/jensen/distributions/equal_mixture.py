"""The average of several distributions over the same space."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

__all__ = ["EqualMixture"]


class EqualMixture(Distribution):
    r"""The mixture :math:`\frac1S \sum_s p_s(x)`, such as a prediction averaged over draws of what is not known.

    Its variance is that within the parts and that between their means: :math:`E_s[\sigma_s^2] + \mathrm{Var}_s[\mu_s]`.

    Arguments:
        parts: The distributions, of one batch shape and one event shape.

    Example:
        >>> from torch.distributions import Normal
        >>> mixture = EqualMixture([Normal(torch.zeros(3), 1.0), Normal(torch.ones(3) * 2, 1.0)])
        >>> mixture.mean, mixture.variance
        (tensor([1., 1., 1.]), tensor([2., 2., 2.]))
    """

    arg_constraints = {}

    def __init__(self, parts: Sequence[Distribution], *, validate_args: bool | None = None) -> None:
        self.parts = list(parts)
        first = self.parts[0]
        super().__init__(first.batch_shape, first.event_shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint | None:
        return self.parts[0].support

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        drawn = torch.stack([part.sample(sample_shape) for part in self.parts])
        shape = drawn.shape[1 : drawn.ndim - len(self.event_shape)]
        chosen = (torch.rand(shape, device=drawn.device) * len(self.parts)).long().clamp(max=len(self.parts) - 1)
        index = chosen.reshape(1, *shape, *[1] * len(self.event_shape)).expand(1, *drawn.shape[1:])
        return drawn.gather(0, index)[0]

    def log_prob(self, value: Tensor) -> Tensor:
        each = torch.stack([part.log_prob(value) for part in self.parts])
        return each.logsumexp(0) - math.log(len(self.parts))

    @property
    def mean(self) -> Tensor:
        return torch.stack([part.mean for part in self.parts]).mean(0)

    @property
    def variance(self) -> Tensor:
        within = torch.stack([part.variance for part in self.parts]).mean(0)
        return within + torch.stack([part.mean for part in self.parts]).var(0, correction=0)
