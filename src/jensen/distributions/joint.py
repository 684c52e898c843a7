"""Several distributions side by side in one vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints, register_kl
from torch.types import _size

from .detach import detached
from .divergence import closed_form_kl
from .spike_and_slab import SpikeAndSlab
from .support import base_of

__all__ = ["Joint", "with_strengths"]


class Joint(Distribution):
    r"""Independent distributions over the parts of one vector, :math:`p(z) = \prod_i p_i(z_i)`.

    Arguments:
        parts: The distributions, each over vectors; their batch shapes fit one another.

    Example:
        >>> from torch.distributions import Independent, Bernoulli, Normal
        >>> coins = Independent(Bernoulli(torch.full((3,), 0.5)), 1)
        >>> Joint([coins, Independent(Normal(torch.zeros(2), torch.ones(2)), 1)]).sample((4,)).shape
        torch.Size([4, 5])
    """

    arg_constraints = {}

    def __init__(self, parts: Sequence[Distribution], *, validate_args: bool | None = None) -> None:
        self.parts = list(parts)
        self.sizes = [part.event_shape[0] for part in self.parts]
        batch = torch.broadcast_shapes(*(part.batch_shape for part in self.parts))
        super().__init__(batch, Size((sum(self.sizes),)), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return all(part.has_rsample for part in self.parts)

    @property
    def support(self) -> constraints.Constraint:
        supports = [base_of(part.support) or constraints.real for part in self.parts]
        joined: constraints.Constraint = constraints.independent(constraints.cat(supports, -1, self.sizes), 1)
        return joined

    def expand(self, batch_shape: _size, _instance: None = None) -> Joint:
        return Joint([part.expand(batch_shape) for part in self.parts], validate_args=False)

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        return torch.cat([part.rsample(sample_shape) for part in self._expanded()], -1)

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        return torch.cat([part.sample(sample_shape) for part in self._expanded()], -1)

    def _expanded(self) -> list[Distribution]:
        return [p if p.batch_shape == self.batch_shape else p.expand(self.batch_shape) for p in self.parts]

    def log_prob(self, value: Tensor) -> Tensor:
        each = [part.log_prob(piece) for part, piece in zip(self.parts, value.split(self.sizes, -1), strict=True)]
        total: Tensor = sum(each[1:], each[0])
        return total

    @property
    def mean(self) -> Tensor:
        return torch.cat([part.mean for part in self._expanded()], -1)

    @property
    def variance(self) -> Tensor:
        return torch.cat([part.variance for part in self._expanded()], -1)

    def detached(self) -> Joint:
        """The same with its parameters cut from the graph."""
        return Joint([detached(part) for part in self.parts], validate_args=False)


@register_kl(Joint, Joint)  # type: ignore[untyped-decorator]
def _kl(q: Joint, p: Joint) -> Tensor:
    if q.sizes != p.sizes:
        raise NotImplementedError
    total = torch.zeros(())
    for mine, other in zip(q.parts, p.parts, strict=True):
        kl = closed_form_kl(mine, other)
        if kl is None:
            raise NotImplementedError
        total = kl + total.to(kl)
    return total


def with_strengths(features: Distribution, strengths: Distribution, *, relaxed: bool) -> Distribution:
    """Features with their strengths: of those that are off none counts, of relaxed ones, never quite off, all do.

    Arguments:
        features: The distribution of the features.
        strengths: That of as many strengths.
        relaxed: Whether the features are relaxed.

    Example:
        >>> from torch.distributions import Bernoulli, Independent, Normal
        >>> coins = Independent(Bernoulli(torch.full((2,), 0.5)), 1)
        >>> normal = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
        >>> type(with_strengths(coins, normal, relaxed=False)).__name__
        'SpikeAndSlab'
    """
    if relaxed:
        return Joint([features, strengths], validate_args=False)
    return SpikeAndSlab(features, strengths, validate_args=False)
