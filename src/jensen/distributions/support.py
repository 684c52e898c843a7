"""Where events lie: whether two distributions are over the same space."""

from __future__ import annotations

from typing import Any

from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from .discrete import OneHot
from .sphere import UnitSphere
from .spike_and_slab import Strengths

__all__ = ["base_of", "same_space", "space_of"]


def base_of(support: Any) -> Any:
    """What a support says of single values or of one component, without the wrappers that make an event of them.

    Example:
        >>> base_of(constraints.independent(constraints.real_vector, 1)) is constraints.real
        True
    """
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support


def space_of(support: Constraint) -> str:
    """What a support is, in words; equal words mean the same space.

    Example:
        >>> space_of(constraints.real_vector) == space_of(constraints.independent(constraints.real, 1))
        True
    """
    support = base_of(support)
    if support is constraints.real:
        return "real numbers"
    if support is constraints.boolean:
        return "zeros and ones"
    if isinstance(support, OneHot) or support is constraints.one_hot:
        return "one-hot vectors"
    if isinstance(support, Strengths):
        return "zeros and ones, then strengths that count where these are one"
    if isinstance(support, constraints.cat):
        return ", then ".join(dict.fromkeys(space_of(part) for part in support.cseq))
    if isinstance(support, UnitSphere):
        return "points of the unit sphere"
    return repr(support)


def same_space(first: Constraint, second: Constraint) -> bool:
    """Whether two supports are the same space."""
    return space_of(first) == space_of(second)
