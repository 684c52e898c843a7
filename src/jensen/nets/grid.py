"""Convolutional networks between images and smaller grids of vectors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..spec import declared
from .images import Flat, ToChannelsFirst, check_positive, image_shape, level_sizes

__all__ = ["grid_decoder", "grid_encoder", "grid_of"]


class _ToChannelsLast(nn.Module):
    """(N, C, H, W) to (N, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class _Residual(nn.Module):
    """x plus what a 3×3 and a 1×1 convolution make of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = [nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        after: Tensor = x + self.layers(x)
        return after


def grid_of(shape: Sequence[int], halvings: int) -> tuple[int, int]:
    """The height and width of an image that is halved so often, rounding up.

    Example:
        >>> grid_of((28, 20), 2)
        (7, 5)
    """
    height, width, _ = image_shape(shape)
    return level_sizes(height, width, halvings)[-1]


@declared("nets.grid_encoder")
def grid_encoder(shape: Sequence[int], size: int, halvings: int = 2, width: int = 64, blocks: int = 2) -> nn.Sequential:
    """Strided 3×3 convolutions and residual blocks, to a vector for each part of an image.

    Arguments:
        shape: The image shape (H, W) or (H, W, C).
        size: The number of values in a vector.
        halvings: How often the image is halved, rounding up.
        width: The number of features.
        blocks: The number of residual blocks.

    Raises:
        ShapeError: If the shape is not that of an image.
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> grid_encoder((28, 20), 8)(torch.zeros(2, 28, 20)).shape
        torch.Size([2, 7, 5, 8])
    """
    _, _, channels = image_shape(shape)
    check_positive(size, width, halvings, blocks + 1)
    layers: list[nn.Module] = [ToChannelsFirst()]
    for i in range(halvings):
        layers += [nn.Conv2d(width if i else channels, width, 3, stride=2, padding=1), nn.SiLU()]
    layers += [nn.Conv2d(width, width, 3, padding=1), *(_Residual(width) for _ in range(blocks)), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, size, 1), _ToChannelsLast())


@declared("nets.grid_decoder")
def grid_decoder(
    size: int,
    shape: Sequence[int],
    parameters: int = 1,
    halvings: int = 2,
    width: int = 64,
    blocks: int = 2,
    inner: int = 1,
) -> nn.Sequential:
    """From a grid of vectors back to an image: residual blocks and transposed 3×3 convolutions.

    Arguments:
        size: The number of values in a vector.
        shape: The image shape (H, W) or (H, W, C).
        parameters: The number of parameters for each value of the image.
        halvings: How often the image was halved.
        width: The number of features.
        blocks: The number of residual blocks.
        inner: How many numbers a parameter is for each value, such as one for each level of a categorical distribution.

    Raises:
        ShapeError: If the shape is not that of an image.
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> grid_decoder(8, (28, 20), parameters=2)(torch.zeros(2, 7, 5, 8)).shape
        torch.Size([2, 1120])
    """
    height, image_width, channels = image_shape(shape)
    check_positive(size, parameters, inner, width, halvings, blocks + 1)
    sizes = level_sizes(height, image_width, halvings)[::-1]
    layers: list[nn.Module] = [ToChannelsFirst(), nn.Conv2d(size, width, 3, padding=1)]
    layers += [_Residual(width) for _ in range(blocks)]
    for i in range(halvings):
        (coarse_h, coarse_w), (fine_h, fine_w) = sizes[i], sizes[i + 1]
        padding = (fine_h - (2 * coarse_h - 1), fine_w - (2 * coarse_w - 1))
        out = width if i + 1 < halvings else channels * parameters * inner
        layers += [nn.SiLU(), nn.ConvTranspose2d(width, out, 3, stride=2, padding=1, output_padding=padding)]
    return nn.Sequential(*layers, Flat(parameters, inner))
