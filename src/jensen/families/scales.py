"""Where the standard deviation of a normal family comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..distributions import bounded_scale, unbounded_scale
from ..errors import OptionError
from ..spec import declared
from .base import event_shape_of

__all__ = ["FixedScale", "PerDimensionScale", "PredictedScale", "Scale", "SharedScale"]


class Scale(Protocol):
    """A module that gives a normal family its standard deviation; ``predicted`` asks the network for it."""

    predicted: bool

    def __call__(self, raw: Tensor | None) -> Tensor: ...


@declared("families.SharedScale")
class SharedScale(nn.Module):
    r"""One learned :math:`\sigma` for all dimensions, the default of a normal likelihood.

    References:
        Rybkin, Daniilidis, Levine (2021), Simple and effective VAE training with calibrated decoders.

    Arguments:
        initial: The value before training, in the units of the modelled data.

    Example:
        >>> SharedScale(initial=1.0)(None).item()
        1.0
    """

    predicted = False

    def __init__(self, initial: float = 1.0) -> None:
        super().__init__()
        self.raw = nn.Parameter(unbounded_scale(torch.tensor(float(initial))))

    def forward(self, raw: Tensor | None) -> Tensor:
        return bounded_scale(self.raw)


@declared("families.FixedScale")
class FixedScale(nn.Module):
    r"""A :math:`\sigma` that is given and stays.

    Arguments:
        value: The standard deviation, positive.

    Raises:
        OptionError: If the value is not a positive number.

    Example:
        >>> float(FixedScale(0.5)(None))
        0.5
    """

    predicted = False
    value: Tensor

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        if not 0 < value < float("inf"):
            raise OptionError(f"a standard deviation is positive; got {value}.")
        self.register_buffer("value", torch.tensor(float(value)))

    def forward(self, raw: Tensor | None) -> Tensor:
        return self.value


@declared("families.PerDimensionScale")
class PerDimensionScale(nn.Module):
    r"""A learned :math:`\sigma_d` for each dimension, the same for every example.

    Arguments:
        shape: The event shape.
        initial: The value before training.

    Example:
        >>> PerDimensionScale(3)(None).shape
        torch.Size([3])
    """

    predicted = False

    def __init__(self, shape: int | Sequence[int], initial: float = 1.0) -> None:
        super().__init__()
        self.raw = nn.Parameter(unbounded_scale(torch.full(event_shape_of(shape), float(initial))))

    def forward(self, raw: Tensor | None) -> Tensor:
        return bounded_scale(self.raw)


@declared("families.PredictedScale")
class PredictedScale(nn.Module):
    r"""A :math:`\sigma_d` that the network predicts for each example and dimension.

    Example:
        >>> PredictedScale()(torch.zeros(2))
        tensor([1., 1.])
    """

    predicted = True

    def forward(self, raw: Tensor | None) -> Tensor:
        if raw is None:
            raise OptionError("a predicted scale needs the network's output for it; none was given.")
        return bounded_scale(raw)
