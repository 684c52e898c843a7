"""What networks over images share: the shape of an image, its sizes from level to level, and the order of its axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import OptionError, ShapeError

__all__ = ["Flat", "ToChannelsFirst", "check_positive", "image_shape", "level_sizes"]


class ToChannelsFirst(nn.Module):
    """(N, H, W) or (N, H, W, C) to (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2)


class Flat(nn.Module):
    """(N, P·L·C, H, W) to (N, P·H·W·C·L): each of P parameters in the layout of the data, its L numbers innermost."""

    def __init__(self, parameters: int, inner: int = 1) -> None:
        super().__init__()
        self.layout = (parameters, inner)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() and x.shape[1] > 1:
            whole: Tensor = _opaque(x, *self.layout)
            return whole
        return _flat(x, *self.layout)


def _flat(x: Tensor, parameters: int, inner: int) -> Tensor:
    maps: Tensor = x.unflatten(1, (parameters, inner, -1))
    return maps.permute(0, 1, 4, 5, 3, 2).flatten(1)


@torch.library.custom_op("jensen::flat", mutates_args=())
def _opaque(x: Tensor, parameters: int, inner: int) -> Tensor:
    """The same as a whole: the compiler would read the channels where they lie, two or three numbers at a time."""
    return _flat(x, parameters, inner).clone(memory_format=torch.contiguous_format)


@_opaque.register_fake
def _(x: Tensor, parameters: int, inner: int) -> Tensor:
    return x.new_empty(len(x), x[0].numel())


@torch.library.custom_op("jensen::unflat", mutates_args=())
def _unflat(x: Tensor, parameters: int, inner: int, size: Sequence[int]) -> Tensor:
    """Back to maps of channels, height and width."""
    channels, height, width = size
    maps = x.reshape(len(x), parameters, height, width, channels // (parameters * inner), inner)
    return maps.permute(0, 1, 5, 4, 2, 3).flatten(1, 3).clone(memory_format=torch.channels_last)


@_unflat.register_fake
def _(x: Tensor, parameters: int, inner: int, size: Sequence[int]) -> Tensor:
    return x.new_empty(len(x), *size).to(memory_format=torch.channels_last)


def _shapes(ctx: Any, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
    x, *ctx.layout = inputs
    ctx.size = list(x.shape[1:])


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return _unflat(gradient, *ctx.layout, ctx.size), None, None


_opaque.register_autograd(_backward, setup_context=_shapes)


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Height, width and channels.

    Raises:
        ShapeError: If the shape is not that of an image.
    """
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ShapeError(f"convolutions need events of shape (H, W) or (H, W, C); got {tuple(shape)}. Use nets.mlp.")
    height, width, *channels = shape
    return height, width, channels[0] if channels else 1


def check_positive(*sizes: int) -> None:
    """Checks the sizes of a network.

    Raises:
        OptionError: If one is not positive.
    """
    if min(sizes) < 1:
        raise OptionError(f"features, channels and widths are positive; got {list(sizes)}.")


def level_sizes(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    """The image sizes from fine to coarse, each half of the last, rounded up."""
    sizes = [(height, width)]
    for _ in range(levels):
        h, w = sizes[-1]
        sizes.append((-(-h // 2), -(-w // 2)))
    return sizes
