"""The distribution of images of which each pixel is predicted from those before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

__all__ = ["PixelPredictor", "Raster"]

_CHUNK = 256
"""Images whose probabilities are computed together where no gradient is wanted."""


class PixelPredictor(Protocol):
    """What predicts pixels, such as :class:`jensen.likelihoods.Raster`; images here have shape (N, H, W)."""

    event_shape: tuple[int, ...]

    @property
    def support(self) -> constraints.Constraint: ...

    def conditionals(self, x: Tensor, context: Tensor | None) -> Distribution: ...

    def scan(self, like: Tensor, context: Tensor | None, choose: Callable[[Distribution], Tensor]) -> Tensor: ...


class Raster(Distribution):
    r"""Images whose pixels are predicted in raster order: :math:`p(x) = \prod_i p(x_i | x_{<i}, c)`.

    All conditionals of a given image take one pass of the network; a sample takes one for each pixel.

    References:
        Van den Oord, Kalchbrenner, Kavukcuoglu (2016), Pixel recurrent neural networks.

    Arguments:
        predictor: What predicts pixels.
        context: A map that the predictor sees, shape (N, C, H, W), N being the product of the batch shape; None for
            none.
        batch_shape: The batch shape.

    Example:
        >>> from jensen import families, likelihoods, nets
        >>> net = nets.GatedPixelCNN(2, 1, width=4, layers=1)
        >>> p = Raster(likelihoods.Raster(net, families.Bernoulli((3, 3))))
        >>> p.log_prob(torch.ones(5, 3, 3)).exp()[0]
        tensor(0.0020, grad_fn=<SelectBackward0>)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self, predictor: PixelPredictor, context: Tensor | None = None, batch_shape: Size | None = None
    ) -> None:
        self.predictor, self.context = predictor, context
        super().__init__(batch_shape or Size(), Size(predictor.event_shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return self.predictor.support

    def log_prob(self, value: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(self.batch_shape, value.shape[: value.ndim - len(self.event_shape)])
        x = value.expand(*batch, *self.event_shape).reshape(-1, *self.event_shape)
        context = self._context(batch)
        size = len(x) if torch.is_grad_enabled() else _CHUNK
        parts = []
        for start in range(0, len(x), size):
            here = slice(start, start + size)
            given = self.predictor.conditionals(x[here], None if context is None else context[here])
            parts.append(given.log_prob(x[here]))
        return torch.cat(parts).reshape(batch)

    def _context(self, batch: Size) -> Tensor | None:
        if self.context is None:
            return None
        shape = self.context.shape[1:]
        return self.context.reshape(*self.batch_shape, *shape).expand(*batch, *shape).reshape(-1, *shape)

    @property
    def mean(self) -> Tensor:
        """The mean of each pixel given the pixels before it, each of which is put at the value nearest to its own mean.

        The mean over all images has no formula.
        """
        means: list[Tensor] = []

        def choose(pixel: Distribution) -> Tensor:
            means.append(pixel.mean)
            return self._nearest(pixel.mean)

        like = self._grow(self.batch_shape, choose)
        return torch.stack([mean.flatten() for mean in means], -1).reshape(like.shape)

    def _nearest(self, mean: Tensor) -> Tensor:
        if self.support is constraints.boolean:
            return mean.round()
        levels = getattr(self.support, "levels", None)
        return mean if levels is None else (mean * (levels - 1)).round() / (levels - 1)

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        return self._grow(Size(sample_shape) + self.batch_shape, lambda pixel: pixel.sample())

    @torch.no_grad()
    def _grow(self, batch: Size, choose: Callable[[Distribution], Tensor]) -> Tensor:
        context = self._context(batch)
        like = torch.zeros(batch.numel(), *self.event_shape)
        return self.predictor.scan(like, context, choose).reshape(*batch, *self.event_shape)
