"""The one map between unconstrained numbers and scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import OptionError

__all__ = ["bounded_scale", "unbounded_scale"]

SCALE_FLOOR = 1e-4
_LOG_RANGE = -math.log(SCALE_FLOOR)


def bounded_scale(raw: Tensor) -> Tensor:
    r"""The one map from an unconstrained number to a scale: :math:`\sigma = e^{b \tanh(a / b)}`, :math:`b = \ln 10^4`.

    It is smooth, increasing, close to :math:`e^a` for small :math:`|a|` and stays within :math:`[10^{-4}, 10^4]`, so
    that neither a variance nor its gradient can overflow.

    Arguments:
        raw: Unconstrained values, any shape.

    Example:
        >>> bounded_scale(torch.tensor([-1e9, 0.0, 1e9]))
        tensor([1.0000e-04, 1.0000e+00, 1.0000e+04])
    """
    return (_LOG_RANGE * torch.tanh(raw / _LOG_RANGE)).exp()


def unbounded_scale(scale: Tensor) -> Tensor:
    """The inverse of :func:`bounded_scale`, for initial values.

    Arguments:
        scale: Scales, any shape.

    Raises:
        OptionError: If the scale lies outside the range of :func:`bounded_scale`.

    Example:
        >>> unbounded_scale(torch.tensor(1.0))
        tensor(0.)
    """
    inside = (scale > SCALE_FLOOR) & (scale < 1 / SCALE_FLOOR)
    if not inside.all():
        found = float(scale[~inside].flatten()[0])
        raise OptionError(f"an initial scale lies between {SCALE_FLOOR:g} and {1 / SCALE_FLOOR:g}; got {found:g}.")
    exact: Tensor = _LOG_RANGE * torch.atanh(scale.double().log() / _LOG_RANGE)
    return exact.to(scale.dtype)
