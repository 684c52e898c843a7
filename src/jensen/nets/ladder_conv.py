"""Convolutional networks of a ladder: features of each resolution, states from coarse to fine; channels first."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import declared
from .images import Flat, ToChannelsFirst, check_positive, image_shape, level_sizes

__all__ = ["ConvFeatures", "ConvUpdate", "conv_head", "conv_likelihood", "resolutions"]


def resolutions(shape: Sequence[int], levels: int) -> list[tuple[int, int]]:
    """The heights and widths of the levels of an image, from coarse to fine, each half of the next, rounded up.

    Example:
        >>> resolutions((28, 28), 3)
        [(7, 7), (14, 14), (28, 28)]
    """
    height, width, _ = image_shape(shape)
    return level_sizes(height, width, levels - 1)[::-1]


class _Block(nn.Module):
    """x + conv(SiLU(conv(SiLU(norm(x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.second(F.silu(self.first(F.silu(self.norm(x)))))
        return x + changed


@declared("nets.ConvFeatures")
class ConvFeatures(nn.Module):
    """Features of an image for each group of latents, from the coarsest resolution to the finest.

    References:
        Child (2021), Very deep VAEs generalize autoregressive models and can outperform them on images.

    Arguments:
        shape: The image shape (H, W) or (H, W, C).
        channels: The number of features at each place.
        groups: How many groups there are at each resolution, from the coarsest; the last is that of the image.
        blocks: The number of residual blocks at each resolution.

    Raises:
        ShapeError: If the shape is not that of an image.
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> [tuple(f.shape) for f in ConvFeatures((9, 8), 4, groups=(1, 2))(torch.zeros(3, 9, 8))]
        [(3, 4, 5, 4), (3, 4, 9, 8), (3, 4, 9, 8)]
    """

    def __init__(self, shape: Sequence[int], channels: int, groups: Sequence[int], blocks: int = 1) -> None:
        super().__init__()
        _, _, colours = image_shape(shape)
        check_positive(channels, blocks, *groups)
        self.groups = tuple(groups)
        self.start = nn.Sequential(ToChannelsFirst(), nn.Conv2d(colours, channels, 3, padding=1))
        self.levels = nn.ModuleList(nn.Sequential(*(_Block(channels) for _ in range(blocks))) for _ in groups)
        self.halve = nn.ModuleList(nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in groups[1:])

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        state: Tensor = self.start(x)
        for number, level in enumerate(self.levels):
            state = level(state if number == 0 else self.halve[number - 1](state))
            features.append(state)
        return [f for f, count in zip(features[::-1], self.groups, strict=True) for _ in range(count)]


@declared("nets.ConvUpdate")
class ConvUpdate(nn.Module):
    r"""The state below a group of latents: :math:`h + W z` at each place, residual blocks, then a finer resolution.

    References:
        Child (2021), Very deep VAEs generalize autoregressive models and can outperform them on images.

    Arguments:
        latents: The number of latents at each place.
        channels: The channels of the state.
        size: Height and width of the state below; None for those of the state above.
        blocks: The number of residual blocks.

    Raises:
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> update = ConvUpdate(2, 8, size=(7, 7))
        >>> update(torch.zeros(5, 8, 4, 4), torch.zeros(5, 2, 4, 4)).shape
        torch.Size([5, 8, 7, 7])
    """

    def __init__(self, latents: int, channels: int, size: Sequence[int] | None = None, blocks: int = 1) -> None:
        super().__init__()
        check_positive(latents, channels, blocks, *(size or ()))
        self.size = None if size is None else tuple(size)
        self.enter = nn.Conv2d(latents, channels, 1)
        self.blocks = nn.Sequential(*(_Block(channels) for _ in range(blocks)))

    def forward(self, state: Tensor, z: Tensor | None = None) -> Tensor:
        # At the top there is no state yet.
        below: Tensor = self.blocks(self.enter(state) if z is None else state + self.enter(z))
        return below if self.size is None else F.interpolate(below, size=self.size)


@declared("nets.conv_head")
def conv_head(in_channels: int, out_channels: int, width: int) -> nn.Sequential:
    r"""From channels at each place to parameters at each place, flattened, those of one channel side by side.

    Arguments:
        in_channels: The channels of the input.
        out_channels: The number of parameters at each place.
        width: The channels in between.

    Raises:
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> conv_head(8, 4, 16)(torch.zeros(5, 8, 3, 3)).shape
        torch.Size([5, 36])
    """
    check_positive(in_channels, out_channels, width)
    first = nn.Conv2d(in_channels, width, 3, padding=1)
    return nn.Sequential(first, nn.SiLU(), nn.Conv2d(width, out_channels, 1), nn.Flatten())


@declared("nets.conv_likelihood")
def conv_likelihood(channels: int, shape: Sequence[int], parameters: int = 1, inner: int = 1) -> nn.Sequential:
    """From a state of the size of the image to the parameters of p(x|z), in the layout of the image.

    Arguments:
        channels: The channels of the state.
        shape: The image shape (H, W) or (H, W, C).
        parameters: The number of parameters for each value of the image.
        inner: How many numbers a parameter is for each value, such as one for each level of a categorical distribution.

    Raises:
        ShapeError: If the shape is not that of an image.
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> conv_likelihood(4, (7, 5, 3), parameters=2)(torch.zeros(2, 4, 7, 5)).shape
        torch.Size([2, 210])
    """
    _, _, colours = image_shape(shape)
    check_positive(channels, parameters, inner)
    last = nn.Conv2d(channels, colours * parameters * inner, 3, padding=1)
    return nn.Sequential(nn.SiLU(), last, Flat(parameters, inner))
