"""p(x|z) of images whose pixels are predicted one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from ..conditional import check_events
from ..distributions import Raster as RasterDistribution
from ..errors import CompositionError, OptionError, ShapeError
from ..families import Family, Measure
from ..families.base import pooled_marginal
from ..precision import LowPrecision
from ..roles import Given
from ..spec import declared

__all__ = ["Raster", "input_channels"]


def input_channels(shape: tuple[int, ...], embedding: int = 0) -> int:
    """The number of channels that :class:`Raster` shows its network, for images of a shape (H, W) or (H, W, C)."""
    return max(1, embedding) + (shape[2] if len(shape) == 3 else 1)


@declared("likelihoods.Raster")
class Raster(LowPrecision):
    r"""The distribution :math:`p(x|z) = \prod_i p(x_i | x_{<i}, z)` of images, by a network over pixels.

    Pixels go row by row, from left to right; the colours of a pixel are one after the other, as if they were pixels
    side by side. Beside the values, the network is shown for each which colour it is, which also marks the image's
    border.

    References:
        Van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves, Kavukcuoglu (2016), Conditional image generation with
        PixelCNN decoders. Gulrajani et al. (2017), PixelVAE: a latent variable model for natural images.

    Arguments:
        net: A module such as :class:`jensen.nets.GatedPixelCNN`, with :func:`input_channels` channels and as many
            outputs as the family has parameters for each value.
        family: The family of each value.
        embedding: The width of a learned vector for each level, which the network is shown instead of a number; 0 for
            none. The family then has levels.
        context: A module from z, shape (N, Z), to a map for the network, shape (N, C · H · W); None without z.

    Raises:
        ShapeError: If the family is not one of images.
        OptionError: If levels are to be embedded and there are none.
        CompositionError: If the family gives no distribution of a single value.

    Example:
        >>> from jensen import families, nets
        >>> net = nets.GatedPixelCNN(2, 1, width=4, layers=2, context=3)
        >>> p = Raster(net, families.Bernoulli((4, 4)), context=nn.Linear(2, 3 * 16))
        >>> p(torch.zeros(7, 5, 2)).log_prob(torch.ones(5, 4, 4)).shape
        torch.Size([7, 5])
    """

    def __init__(self, net: nn.Module, family: Family, embedding: int = 0, context: nn.Module | None = None) -> None:
        super().__init__()
        self.event_shape = tuple(family.event_shape)
        if len(self.event_shape) not in (2, 3):
            raise ShapeError(f"expected images of shape (H, W) or (H, W, C); got events of shape {self.event_shape}.")
        levels = getattr(family, "levels", None)
        if embedding and levels is None:
            raise OptionError(f"only levels can be embedded; {type(family).__name__} has none. Use embedding=0.")
        self.net, self.family, self.context = net, family, context
        self.colours = self.event_shape[2] if len(self.event_shape) == 3 else 1
        self.grid = (self.event_shape[0], self.event_shape[1] * self.colours)
        self.levels = int(levels or 0)
        self.embedding = nn.Embedding(self.levels, embedding) if embedding else None
        planes = torch.eye(self.colours).repeat(1, self.event_shape[1])
        self.register_buffer("_planes", planes[:, None], persistent=False)
        self._check_one_by_one()

    def _check_one_by_one(self) -> None:
        """A sample grows value by value, each from the family at a single one."""
        one = (1,) * len(self.event_shape)
        shapes = [(1, *one, *shape[len(one) :]) for shape in self.family.parameter_shapes]
        try:
            fits = tuple(self.family(*map(torch.zeros, shapes)).event_shape) == one
        except RuntimeError:  # a scale of the event's shape does not fit one value
            fits = False
        if not fits:
            raise CompositionError(
                f"pixels are predicted one by one, and this {type(self.family).__name__} gives no distribution of one "
                f"alone, only of {self.event_shape}. A scale may not differ from place to place: use SharedScale, "
                "FixedScale or PredictedScale."
            )

    _planes: Tensor

    @property
    def measure(self) -> Measure:
        """Whether ``log_prob`` is of a mass or of a density."""
        return self.family.measure

    @property
    def support(self) -> constraints.Constraint:
        """Where values lie."""
        return self.family.support

    def forward(self, z: Tensor | None = None, given: Given | None = None) -> RasterDistribution:
        if (z is None) != (self.context is None):
            what = "z, but no context module takes it" if self.context is None else "no z, which the context needs"
            raise CompositionError(
                f"this likelihood was given {what}. Use Explicit without latents, VAE with a context."
            )
        if z is None or self.context is None:
            return RasterDistribution(self)
        flat = self.context(z.reshape(-1, z.shape[-1]))
        return RasterDistribution(self, flat.reshape(len(flat), -1, *self.grid), Size(z.shape[:-1]))

    def _inputs(self, x: Tensor) -> Tensor:
        r"""Values of shape (N, H, W · C) as the network sees them, (N, channels, H, W · C)."""
        if self.embedding is None:
            values = x[:, None]
        else:
            values = self.embedding((x * (self.levels - 1)).round().long()).movedim(-1, 1)
        planes = self._planes.expand(len(x), -1, x.shape[1], -1).to(values.dtype)
        return torch.cat([values, planes], 1)

    def _at(self, outputs: Tensor, shape: tuple[int, ...]) -> Distribution:
        """The family at the network's outputs, (N, P, h, w), for the part of an image with a shape."""
        skip = len(self.event_shape)
        extras = [tuple(each[skip:]) for each in self.family.parameter_shapes]
        sizes = [math.prod(extra) for extra in extras]
        if outputs.shape[1] != sum(sizes):
            raise ShapeError(
                f"{type(self.family).__name__} needs {sum(sizes)} outputs for each value; the network has "
                f"{outputs.shape[1]}."
            )
        parts = outputs.movedim(1, -1).split(sizes, -1)
        return self.family(*(p.reshape(-1, *shape, *extra) for p, extra in zip(parts, extras, strict=True)))

    def conditionals(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        r"""The distribution of each value of images x, shape (N, \*X), given the values before it."""
        outputs = self.computed(self.net, self._inputs(x.reshape(-1, *self.grid)), context)
        return self._at(outputs, self.event_shape)

    def scan(self, like: Tensor, context: Tensor | None, choose: Callable[[Distribution], Tensor]) -> Tensor:
        r"""Images value by value, of the shape of ``like``; ``choose`` makes a value out of its distribution."""
        weight = next(self.net.parameters())
        x = torch.zeros(len(like), *self.grid, dtype=weight.dtype, device=weight.device)
        one = (1,) * len(self.event_shape)
        net: Any = self.net
        for r in range(self.grid[0]):
            above = net.above(self._inputs(x[:, :r]), context)
            for j in range(self.grid[1]):
                outputs = net.along(self._inputs(x[:, r : r + 1]), above)
                x[:, r, j] = choose(self._at(outputs[..., j : j + 1], one)).reshape(-1)
        return x.reshape(-1, *self.event_shape)

    def check(self, x: Tensor) -> None:
        """Checks that data are such images.

        Raises:
            ShapeError: If their shape differs.
            SupportError: If a value lies outside the support.
        """
        check_events(self.family, x)

    @torch.no_grad()
    def start_at_marginal(self, x: Tensor) -> bool:
        r"""Sets the last bias so that at first values are distributed like all values of rows x, shape (N, \*X)."""
        bias = getattr(getattr(self.net, "head", [None])[-1], "bias", None)
        if not isinstance(bias, Tensor) or not hasattr(self.family, "marginal"):
            return False
        whole = torch.cat([parameter.reshape(-1) for parameter in pooled_marginal(self.family, x, ())])
        if whole.numel() != bias.numel() or not whole.isfinite().all():
            return False
        bias.copy_(whole)
        return True
