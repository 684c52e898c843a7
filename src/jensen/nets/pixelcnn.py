"""Gated masked convolutions over images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError
from ..spec import declared
from .masked import Above, Left, check_sizes, gated, head

__all__ = ["GatedPixelCNN"]


class _Layer(nn.Module):
    """A vertical stack, which sees the rows above, and a horizontal one, which sees the own row and the first stack."""

    def __init__(self, inputs: int, width: int, kernel: int, context: int, dilation: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.above = Above(inputs, 2 * width, kernel, dilation, own_row=not first)
        self.left = Left(inputs, 2 * width, kernel, dilation, itself=not first)
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        self.context = nn.Conv2d(context, 4 * width, 1, bias=False) if context else None

    def down(self, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The next features of the rows above, and what they add to the gates of the own row."""
        gates = self.above(v)
        side = self.across(gates)
        if self.context is not None and context is not None:
            own, other = self.context(context).chunk(2, 1)
            gates, side = gates + own, side + other
        features = gated(gates)
        return (features if self.first else v + features), side

    def right(self, h: Tensor, side: Tensor) -> Tensor:
        """The next features of the own row."""
        features: Tensor = self.out(gated(self.left(h) + side))
        return features if self.first else h + features


@declared("nets.GatedPixelCNN")
class GatedPixelCNN(nn.Module):
    r"""Convolutions whose outputs at a pixel depend on the pixels before it in raster order, on all within reach.

    A vertical stack sees the rows above, a horizontal one the row itself, so that there is no blind spot. Networks of
    this kind have two parts: ``above(x, context)`` is what the row after the given ones sees of them, and
    ``along(row, above)`` the outputs of that row; ``forward`` gives those of all rows at once.

    References:
        Van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves, Kavukcuoglu (2016), Conditional image generation with
        PixelCNN decoders. Yu, Koltun (2016), Multi-scale context aggregation by dilated convolutions.

    Arguments:
        channels: The number of input channels.
        outputs: The number of outputs for each pixel.
        width: The number of features.
        layers: The number of layers.
        kernel: The width of the convolutions from the second layer on; see ``first_kernel``.
        context: The number of channels of a map (N, context, H, W) that all layers see; 0 for none.
        first_kernel: The width of the first convolution, which sees the pixels themselves.
        dilations: The spacing, in pixels, of what each layer's convolution sees, repeated where there are more layers.

    Raises:
        OptionError: If a size is not positive, a kernel is even, or dilations are none or more than layers.

    Example:
        >>> import torch
        >>> GatedPixelCNN(2, 1, width=8, layers=2)(torch.zeros(5, 2, 28, 20)).shape
        torch.Size([5, 1, 28, 20])
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        width: int = 32,
        layers: int = 7,
        kernel: int = 3,
        context: int = 0,
        first_kernel: int = 7,
        dilations: Sequence[int] = (1,),
    ) -> None:
        super().__init__()
        check_sizes(
            (kernel, first_kernel),
            channels=channels,
            outputs=outputs,
            width=width,
            layers=layers,
            context=context + 1,
            dilations=min(dilations, default=0),
        )
        if len(dilations) > layers:
            raise OptionError(f"expected at most one dilation for each of {layers} layers; got {len(dilations)}.")
        first = _Layer(channels, width, first_kernel, context, dilations[0], first=True)
        others = (
            _Layer(width, width, kernel, context, dilations[i % len(dilations)], first=False) for i in range(1, layers)
        )
        self.layers = nn.ModuleList([first, *others])
        self.head = head(width, outputs)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.along(x, self._sides(x, context))

    def _sides(self, x: Tensor, context: Tensor | None) -> list[Tensor]:
        sides, v = [], x
        for layer in self.layers:
            v, side = layer.down(v, context)  # type: ignore[operator]
            sides.append(side)
        return sides

    def above(self, x: Tensor, context: Tensor | None = None) -> list[Tensor]:
        """What the row after those of x, shape (N, C, r, W), sees of them; the context has all rows."""
        rows = x.shape[2] + 1
        sides = self._sides(F.pad(x, (0, 0, 0, 1)), None if context is None else context[:, :, :rows])
        return [side[:, :, -1:] for side in sides]

    def along(self, row: Tensor, above: list[Tensor]) -> Tensor:
        """The outputs for the pixels of a row of shape (N, C, 1, W), each from those to its left."""
        h = row
        for layer, side in zip(self.layers, above, strict=True):
            h = layer.right(h, side)  # type: ignore[operator]
        outputs: Tensor = self.head(h)
        return outputs
