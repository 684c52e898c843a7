"""A transformer over the pixels of a small image, in raster order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError, ShapeError
from ..spec import declared

__all__ = ["CausalTransformer"]


class _Block(nn.Module):
    """Attention to what comes before, then a dense layer, each added to what there is."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_dense = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.project(self.before_attention(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        x = x + self.join(seen.transpose(1, 2).flatten(2))
        after: Tensor = x + self.dense(self.before_dense(x))
        return after


@declared("nets.CausalTransformer")
class CausalTransformer(nn.Module):
    r"""A transformer whose outputs at a pixel depend on all pixels before it in raster order.

    It has the same two parts as :class:`GatedPixelCNN`, but computes all rows again for each pixel that is drawn, so
    it suits grids of codes rather than images.

    References:
        Vaswani et al. (2017), Attention is all you need.

    Arguments:
        shape: The height and the width of the largest image.
        channels: The number of input channels.
        outputs: The number of outputs for each pixel.
        width: The number of features, a multiple of ``heads``.
        layers: The number of blocks.
        heads: The number of heads of each attention.
        context: The number of channels of a map (N, context, H, W) that is added to the inputs; 0 for none.

    Raises:
        OptionError: If a size is not positive, or the width is no multiple of the number of heads.

    Example:
        >>> CausalTransformer((4, 4), 2, 10, width=8, heads=2)(torch.zeros(5, 2, 4, 4)).shape
        torch.Size([5, 10, 4, 4])
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: int,
        outputs: int,
        width: int = 64,
        layers: int = 3,
        heads: int = 4,
        context: int = 0,
    ) -> None:
        super().__init__()
        if len(shape) != 2 or min(*shape, channels, outputs, width, layers, heads, context + 1) < 1:
            raise OptionError(
                f"a transformer over pixels needs positive sizes; got shape={tuple(shape)}, channels={channels}, "
                f"outputs={outputs}, width={width}, layers={layers}, heads={heads}, context={context}."
            )
        if width % heads:
            raise OptionError(f"the width is a multiple of the number of heads; got width={width}, heads={heads}.")
        self.positions = nn.Parameter(0.02 * torch.randn(shape[0] * shape[1], width))
        self.embed = nn.Linear(channels, width)
        self.context = nn.Linear(context, width, bias=False) if context else None
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(layers)), nn.LayerNorm(width))
        last = nn.Linear(width, outputs)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.head = nn.Sequential(last)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        pixels = x.flatten(2).transpose(1, 2)
        if pixels.shape[1] > len(self.positions):
            raise ShapeError(f"expected at most {len(self.positions)} pixels; got {pixels.shape[1]}.")
        # Each pixel is shown the one before it.
        inputs = F.pad(self.embed(pixels), (0, 0, 1, -1)) + self.positions[: pixels.shape[1]]
        if self.context is not None and context is not None:
            inputs = inputs + self.context(context.flatten(2).transpose(1, 2))
        outputs: Tensor = self.head(self.blocks(inputs)).transpose(1, 2)
        return outputs.reshape(*outputs.shape[:2], *x.shape[2:])

    def above(self, x: Tensor, context: Tensor | None = None) -> list[Tensor]:
        """The rows x themselves, shape (N, C, r, W), and the context of one row more."""
        return [x] if context is None else [x, context[:, :, : x.shape[2] + 1]]

    def along(self, row: Tensor, above: list[Tensor]) -> Tensor:
        """The outputs for the pixels of a row of shape (N, C, 1, W)."""
        x, *context = above
        outputs: Tensor = self(torch.cat([x, row], 2), *context)
        return outputs[:, :, -1:]
