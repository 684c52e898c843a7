"""Distributions over grids of vectors from a codebook."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

__all__ = ["CodeGrid", "PointMass", "code_of"]


def code_of(distribution: Distribution) -> Tensor:
    r"""The one value that stands for a distribution, such as q(z|x) for x: its ``code`` if it has one, else its mean.

    A distribution whose mean lies where it has no mass, such as one on a sphere, has a ``code``.

    Example:
        >>> code_of(PointMass(torch.ones(3), 1))
        tensor([1., 1., 1.])
    """
    code: Tensor = distribution.code if hasattr(distribution, "code") else distribution.mean
    return code


class Vectors(Protocol):
    """A codebook, such as :class:`jensen.nets.Codebook`."""

    codes: int
    size: int

    def nearest(self, x: Tensor) -> Tensor: ...

    def lookup(self, index: Tensor) -> Tensor: ...


class _Point(constraints.Constraint):
    """One value, which any step along a gradient leaves."""

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite()

    def __repr__(self) -> str:
        return "a single point"


class PointMass(Distribution):
    r"""All mass on one value, of which samples are copies: :math:`\log q(z) = 0` there.

    Arguments:
        value: The value, shape (\*B, \*Z); samples have its gradient.
        event_dims: The number of dimensions of Z.
        auxiliary: What is asked for in training beside the bound, by name, each of shape (\*B,).

    Example:
        >>> q = PointMass(torch.ones(5, 3), 1)
        >>> q.log_prob(q.rsample((2,))).sum(), q.log_prob(torch.zeros(5, 3))[0]
        (tensor(0.), tensor(-inf))
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(self, value: Tensor, event_dims: int, auxiliary: dict[str, Tensor] | None = None) -> None:
        self.value, self.auxiliary = value, auxiliary or {}
        cut = value.ndim - event_dims
        super().__init__(value.shape[:cut], value.shape[cut:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(_Point(), len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        return self.value

    def detached(self) -> PointMass:
        """The same without a gradient."""
        return PointMass(self.value.detach(), len(self.event_shape))

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        return self.value.expand(self._extended_shape(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        batch = value.ndim - len(self.event_shape)
        there = (value == self.value).flatten(batch).all(-1)
        return torch.zeros_like(there, dtype=value.dtype).masked_fill(~there, -torch.inf)


class _Codes(constraints.Constraint):
    """The vectors of a codebook: values of a discrete variable."""

    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite()

    def __repr__(self) -> str:
        return "vectors of a codebook"


class CodeGrid(Distribution):
    r"""Grids of vectors from a codebook, :math:`p(z) = p(k_1, \dots, k_P)` where :math:`z_i = e_{k_i}`.

    Arguments:
        codebook: The codebook; a value has the probability of the codes of the vectors nearest to it.
        numbers: The distribution of the codes' numbers on the unit grid :math:`k / (K - 1)`, batch shape (), event
            shape (H, W).

    Example:
        >>> from torch.distributions import Independent
        >>> from jensen import nets
        >>> from jensen.distributions import BinnedCategorical
        >>> p = CodeGrid(nets.Codebook(4, 3), Independent(BinnedCategorical(torch.zeros(2, 2, 4)), 2))
        >>> p.log_prob(p.sample((5,))).exp()
        tensor([0.0039, 0.0039, 0.0039, 0.0039, 0.0039])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, codebook: Vectors, numbers: Distribution) -> None:
        self.codebook, self.numbers = codebook, numbers
        super().__init__(Size(), Size((*numbers.event_shape, codebook.size)), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(_Codes(), len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        # In double precision even the closest of two vectors are told apart.
        index = self.codebook.nearest(value.detach().double())
        return self.numbers.log_prob(index.to(value.dtype) / (self.codebook.codes - 1))

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        with torch.no_grad():
            numbers = self.numbers.sample(Size(sample_shape))
            return self.codebook.lookup((numbers * (self.codebook.codes - 1)).round().long())
