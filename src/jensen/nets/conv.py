"""Convolutional networks for images of any height, width and number of channels, channels last."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import OptionError
from ..spec import declared
from .images import Flat, ToChannelsFirst, check_positive, image_shape, level_sizes
from .linear import Linear

__all__ = ["conv_decoder", "conv_encoder"]


@declared("nets.conv_encoder")
def conv_encoder(
    shape: Sequence[int], out_features: int, channels: Sequence[int] = (32, 64, 128), width: int = 256
) -> nn.Sequential:
    """Strided 3×3 convolutions with SiLU units, then a dense layer.

    Arguments:
        shape: The image shape (H, W) or (H, W, C), from 1×1×1 up.
        out_features: The number of outputs.
        channels: The channels of each level; each level halves the image, rounding up.
        width: The width of the dense layer.

    Raises:
        ShapeError: If the shape is not that of an image.
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> conv_encoder((28, 20), 10)(torch.zeros(2, 28, 20)).shape
        torch.Size([2, 10])
    """
    h, w, c = image_shape(shape)
    check_positive(out_features, width, *channels)
    layers: list[nn.Module] = [ToChannelsFirst()]
    for out in channels:
        layers += [nn.Conv2d(c, out, 3, stride=2, padding=1), nn.SiLU()]
        c = out
    h, w = level_sizes(h, w, len(channels))[-1]
    head = [nn.Flatten(), Linear(c * h * w, width), nn.SiLU(), Linear(width, out_features)]
    return nn.Sequential(*layers, *head)


@declared("nets.conv_decoder")
def conv_decoder(
    in_features: int,
    shape: Sequence[int],
    parameters: int = 1,
    channels: Sequence[int] = (128, 64, 32),
    width: int = 256,
    inner: int = 1,
) -> nn.Sequential:
    """A dense layer, then transposed 3×3 convolutions with SiLU units up to the exact image size.

    Arguments:
        in_features: The number of inputs.
        shape: The image shape (H, W) or (H, W, C), from 1×1×1 up.
        parameters: The number of parameters for each value of the image, such as 2 for a location and a scale.
        channels: The channels of each level, coarse to fine; each level doubles the image.
        width: The width of the dense layer.
        inner: How many numbers a parameter is for each value, such as one for each level of a categorical distribution.

    Raises:
        ShapeError: If the shape is not that of an image.
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> conv_decoder(10, (7, 5, 3), parameters=2)(torch.zeros(2, 10)).shape
        torch.Size([2, 210])
    """
    height, image_width, image_channels = image_shape(shape)
    check_positive(in_features, parameters, inner, width, *channels)
    if not channels:
        raise OptionError("a convolutional decoder needs the channels of at least one level; got none. Use nets.mlp.")
    sizes = level_sizes(height, image_width, len(channels))[::-1]
    h, w = sizes[0]
    outs = [*channels[1:], image_channels * parameters * inner]
    layers: list[nn.Module] = [Linear(in_features, width), nn.SiLU(), Linear(width, channels[0] * h * w)]
    layers += [nn.SiLU(), nn.Unflatten(1, (channels[0], h, w))]
    for i, (before, after) in enumerate(zip(channels, outs, strict=True)):
        # A transposed convolution of stride 2 reaches 2n - 1, or 2n with one row of output padding.
        (coarse_h, coarse_w), (fine_h, fine_w) = sizes[i], sizes[i + 1]
        padding = (fine_h - (2 * coarse_h - 1), fine_w - (2 * coarse_w - 1))
        layers.append(nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=padding))
        if i + 1 < len(outs):
            layers.append(nn.SiLU())
    return nn.Sequential(*layers, Flat(parameters, inner))
