"""What networks over images share: the shape of an image, its sizes from level to level, and the order of its axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import OptionError, ShapeError

__all__ = ["Flat", "ToChannelsFirst", "check_positive", "image_shape", "level_sizes"]


class ToChannelsFirst(nn.Module):
    """(N, H, W) or (N, H, W, C) to (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2)


class Flat(nn.Module):
    """(N, P·C, H, W) to (N, P·H·W·C): each of the P parameters in the layout of the data."""

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.parameters_per_value = parameters

    def forward(self, x: Tensor) -> Tensor:
        maps = x.unflatten(1, (self.parameters_per_value, -1))
        return torch.movedim(maps, 2, -1).flatten(1)


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
