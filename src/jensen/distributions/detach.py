"""A distribution cut from the graph of its parameters."""

from __future__ import annotations

import copy
from typing import Any

from torch import Size, Tensor
from torch.distributions import Distribution, Transform
from torch.distributions.constraints import Constraint

from ..errors import JensenError

__all__ = ["detached"]

_REMEMBERED = ("_inv", "_cached_x_y")
"""What a transform remembers of its use: its inverse, which knows it in turn, and what it last transformed."""

_PLAIN = (type(None), bool, int, float, str, Size, Constraint)


def detached(distribution: Distribution) -> Distribution:
    r"""The same distribution with its parameters detached: its ``log_prob`` has a gradient in z alone.

    A distribution with a method ``detached()`` says itself how that is done. For others a copy is made, and every
    tensor in it, in its parts and in its transforms is cut from the graph.

    References:
        Roeder, Wu, Duvenaud (2017), Sticking the landing.

    Raises:
        JensenError: If the distribution holds something that may hide parameters, such as a network.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> loc, z = torch.zeros(1, requires_grad=True), torch.ones(1, requires_grad=True)
        >>> detached(Normal(loc, 1.0)).log_prob(z).backward()
        >>> loc.grad is None, z.grad
        (True, tensor([-1.]))
    """
    own = getattr(distribution, "detached", None)
    if own is not None:
        cut: Distribution = own()
        return cut
    result: Distribution = _copy(distribution, type(distribution).__name__)
    return result


def _copy(value: Any, owner: str) -> Any:
    clone = copy.copy(value)
    for name, item in vars(value).items():
        if not (isinstance(value, Transform) and name in _REMEMBERED):
            clone.__dict__[name] = _cut(item, f"{owner}.{name}")
    if isinstance(value, Transform):
        clone._inv, clone._cached_x_y = None, (None, None)
    return clone


def _cut(value: Any, where: str) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Distribution):
        return detached(value)
    if isinstance(value, Transform):
        return _copy(value, where)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple):
        return type(value)(_cut(item, where) for item in value)
    if isinstance(value, dict):
        return {key: _cut(item, where) for key, item in value.items()}
    raise JensenError(
        f"cannot detach the parameters of a distribution: {where} is a {type(value).__name__}, which may hold some. "
        "Give the distribution a method detached() that returns itself with its parameters detached."
    )
