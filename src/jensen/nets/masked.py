"""Convolutions that see nothing but what comes before a pixel in raster order: row by row, from left to right."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError

__all__ = ["Above", "Left", "gated", "head"]


class Above(nn.Module):
    """A convolution over the rows above a pixel and, where ``own_row``, its own row: height k // 2 + 1, width k.

    With a dilation d it sees every d-th row and column only.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, *, own_row: bool) -> None:
        super().__init__()
        reach = kernel // 2 * dilation
        # A first layer is moved down by a row, which is cheaper than a mask.
        self.pads = (reach, reach, reach, 0) if own_row else (reach, reach, reach + 1, -1)
        self.conv = nn.Conv2d(inputs, outputs, (kernel // 2 + 1, kernel), dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = self.conv(F.pad(x, self.pads))
        return convolved


class Left(nn.Module):
    """A convolution over the pixels to the left in the same row and, where ``itself``, the pixel: width k // 2 + 1.

    With a dilation d it sees every d-th pixel only.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, *, itself: bool) -> None:
        super().__init__()
        reach = kernel // 2 * dilation
        self.pads = (reach, 0) if itself else (reach + 1, -1)
        self.conv = nn.Conv2d(inputs, outputs, (1, kernel // 2 + 1), dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = self.conv(F.pad(x, self.pads))
        return convolved


def gated(x: Tensor) -> Tensor:
    """tanh(a) σ(b) of the two halves a, b of the channels."""
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


def head(width: int, outputs: int) -> nn.Sequential:
    """From features to the outputs of each pixel; it starts at zero, so that its last bias alone decides at first."""
    last = nn.Conv2d(width, outputs, 1)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 1), nn.SiLU(), last)


def check_sizes(kernels: tuple[int, ...], **sizes: int) -> None:
    """Checks the sizes of a network over pixels.

    Raises:
        OptionError: If a size is not positive, or a kernel is even.
    """
    for kernel in kernels:
        if kernel % 2 == 0 or kernel < 3:
            raise OptionError(f"a kernel is an odd number from 3 on, so that it has a middle; got {kernel}.")
    for name, size in sizes.items():
        if size < 1:
            raise OptionError(f"{name} must be positive; got {size}.")
