"""Features that are on or off, and how strong those are that are on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

from .detach import detached

__all__ = ["SpikeAndSlab", "Strengths"]


class Strengths(constraints.cat):
    """Zeros and ones, then as many real numbers, each of which counts where its feature is one.

    Arguments:
        features: How many of each.

    Example:
        >>> Strengths(2).check(torch.tensor([0.0, 1.0, -3.0, 0.5]))
        tensor([True, True, True, True])
    """

    def __init__(self, features: int) -> None:
        super().__init__([constraints.boolean, constraints.real], -1, [features, features])  # type: ignore[no-untyped-call]


class SpikeAndSlab(Distribution):
    r"""Features z that are on or off, and a strength of each that is on, :math:`p(z) \prod_{t: z_t = 1} p(a_t)`.

    A value holds a strength for every feature, but the density is that of z and the strengths of those that are on:
    where nothing depends on the strength of a feature that is off, it is no latent. So the KL of a strength is paid
    where its feature is on only. In samples the strength of a feature that is off is 0; ``rsample`` has the one that it
    would have if it were on, without which no gradient could tell what that would change.

    References:
        Mitchell, Beauchamp (1988), Bayesian variable selection in linear regression.

    Arguments:
        features: The distribution of z, over zeros and ones, independent of one another.
        strengths: The distribution of a, as many real numbers, independent of one another.

    Example:
        >>> from torch.distributions import Bernoulli, Independent, Normal
        >>> coins = Independent(Bernoulli(torch.tensor([0.5, 0.5])), 1)
        >>> normal = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
        >>> SpikeAndSlab(coins, normal).log_prob(torch.tensor([0.0, 0.0, 3.0, 4.0])).exp()
        tensor(0.2500)
    """

    arg_constraints = {}

    def __init__(self, features: Distribution, strengths: Distribution, *, validate_args: bool | None = None) -> None:
        batch = torch.broadcast_shapes(features.batch_shape, strengths.batch_shape)
        self.features: Any = features if features.batch_shape == batch else features.expand(batch)
        self.strengths: Any = strengths if strengths.batch_shape == batch else strengths.expand(batch)
        self.size = features.event_shape[0]
        super().__init__(batch, Size((2 * self.size,)), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return bool(self.features.has_rsample and self.strengths.has_rsample)

    @property
    def support(self) -> constraints.Constraint:
        joined: constraints.Constraint = constraints.independent(Strengths(self.size), 1)
        return joined

    def expand(self, batch_shape: _size, _instance: None = None) -> SpikeAndSlab:
        return SpikeAndSlab(self.features.expand(batch_shape), self.strengths.expand(batch_shape), validate_args=False)

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        return torch.cat([self.features.rsample(sample_shape), self.strengths.rsample(sample_shape)], -1)

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        z = self.features.sample(sample_shape)
        return torch.cat([z, z * self.strengths.sample(sample_shape)], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        z, a = value.split(self.size, -1)
        each: Tensor = self.strengths.base_dist.log_prob(a)
        total: Tensor = self.features.log_prob(z) + (z * each).sum(-1)
        return total

    @property
    def mean(self) -> Tensor:
        """The mean of z, then of strengths, 0 where their feature is off."""
        on = self.features.mean
        return torch.cat([on, on * self.strengths.mean], -1)

    @property
    def variance(self) -> Tensor:
        """The variance of z, then of strengths, 0 where their feature is off."""
        on, mean = self.features.mean, self.strengths.mean
        return torch.cat([self.features.variance, on * (self.strengths.variance + (1 - on) * mean.square())], -1)

    @property
    def code(self) -> Tensor:
        """The mean of z, then the mean strength of each feature that is rather on than off, and 0 of the others."""
        on, mean = self.features.mean, self.strengths.mean
        return torch.cat([on, torch.where(on > 0.5, mean, torch.zeros_like(mean))], -1)

    def detached(self) -> SpikeAndSlab:
        """The same with its parameters cut from the graph."""
        return SpikeAndSlab(detached(self.features), detached(self.strengths), validate_args=False)
