"""The moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    r"""An exponential moving average of a model's floating-point state.

    .. math:: \bar\theta_t = d_t \bar\theta_{t-1} + (1 - d_t) \theta_t, \quad d_t = \min(d, (1 + t) / (10 + t))

    References:
        Polyak, Juditsky (1992), Acceleration of stochastic approximation by averaging.

    Arguments:
        model: The model.
        decay: The decay d; with 0 nothing is averaged, and :meth:`applied` changes nothing.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> average = WeightAverage(layer, 0.9)
        >>> average.update(0)
        >>> with average.applied():
        ...     averaged = layer.weight.detach().clone()
        >>> torch.equal(averaged, layer.weight)
        True
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.live = {n: t for n, t in model.state_dict().items() if t.is_floating_point()} if decay else {}
        self.mean = {name: value.detach().clone() for name, value in self.live.items()}

    def update(self, number: int) -> None:
        """Takes in the weights after a step."""
        if self.decay:
            weight = 1 - min(self.decay, (1 + number) / (10 + number))
            torch._foreach_lerp_(list(self.mean.values()), list(self.live.values()), weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The average in place of the weights inside the block."""
        with torch.no_grad():
            kept = {name: value.clone() for name, value in self.live.items()}
            self._write(self.mean)
        try:
            yield
        finally:
            self._write(kept)

    def restart(self) -> None:
        """Begins again at the weights as they are."""
        for name, value in self.live.items():
            self.mean[name].copy_(value)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes back to what a checkpoint kept."""
        for name, value in self.mean.items():
            value.copy_(tensors[name])

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, value in self.live.items():
            value.copy_(values[name])
