"""A recurrent network over the rows of an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spec import declared
from .masked import Above, Left, check_sizes, head

__all__ = ["RowLSTM"]


class _Layer(nn.Module):
    """An LSTM from row to row whose state is a row of features; its products are convolutions along rows."""

    def __init__(self, width: int, kernel: int, context: int) -> None:
        super().__init__()
        self.inputs = Left(width, 4 * width, kernel, itself=True)
        self.state = nn.Conv2d(width, 4 * width, (1, kernel), padding=(0, kernel // 2), bias=False)
        self.context = nn.Conv2d(context, 4 * width, 1, bias=False) if context else None

    def gates(self, x: Tensor, context: Tensor | None) -> Tensor:
        """What the inputs and the context add to the gates of all rows."""
        gates: Tensor = self.inputs(x)
        return gates if self.context is None or context is None else gates + self.context(context)

    def step(self, gates: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The state after a row."""
        write, keep, value, read = (gates + self.state(h)).chunk(4, 1)
        c = torch.sigmoid(keep + 1.0) * c + torch.sigmoid(write) * torch.tanh(value)
        return torch.sigmoid(read) * torch.tanh(c), c


@declared("nets.RowLSTM")
class RowLSTM(nn.Module):
    r"""LSTMs that go down an image row by row, after one masked convolution.

    The state of a row sees the state of the row above through a convolution: it reaches up to the first row, in a
    triangle. It has the same two parts as :class:`GatedPixelCNN`.

    References:
        Van den Oord, Kalchbrenner, Kavukcuoglu (2016), Pixel recurrent neural networks.

    Arguments:
        channels: The number of input channels.
        outputs: The number of outputs for each pixel.
        width: The number of features.
        layers: The number of LSTMs.
        kernel: The width of the convolutions along rows; see ``first_kernel``.
        context: The number of channels of a map (N, context, H, W) that all layers see; 0 for none.
        first_kernel: The width of the first convolution, which sees the pixels themselves.

    Raises:
        OptionError: If a size is not positive, or a kernel is even.

    Example:
        >>> RowLSTM(2, 1, width=8, layers=2)(torch.zeros(5, 2, 28, 20)).shape
        torch.Size([5, 1, 28, 20])
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        width: int = 32,
        layers: int = 2,
        kernel: int = 3,
        context: int = 0,
        first_kernel: int = 7,
    ) -> None:
        super().__init__()
        check_sizes(
            (kernel, first_kernel), channels=channels, outputs=outputs, width=width, layers=layers, context=context + 1
        )
        self.first_above = Above(channels, width, first_kernel, own_row=False)
        self.first_left = Left(channels, width, first_kernel, itself=False)
        self.layers = nn.ModuleList(_Layer(width, kernel, context) for _ in range(layers))
        self.head = head(width, outputs)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        features = self._run(x, context)[0]
        outputs: Tensor = self.head(features)
        return outputs

    def _run(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """The features of all rows, and the states after the last of them, h and c of each layer."""
        features = self.first_above(x) + self.first_left(x)
        states = []
        for layer in self.layers:
            gates = layer.gates(features, context)  # type: ignore[operator]
            h = c = torch.zeros_like(features[:, :, :1])
            rows = []
            for row in gates.split(1, 2):
                h, c = layer.step(row, h, c)  # type: ignore[operator]
                rows.append(h)
            features = features + torch.cat(rows, 2)
            states += [h, c]
        return features, states

    def above(self, x: Tensor, context: Tensor | None = None) -> list[Tensor]:
        """What the row after those of x, shape (N, C, r, W), sees of them; the context has all rows."""
        rows = x.shape[2]
        seen = self.first_above(F.pad(x, (0, 0, 0, 1)))[:, :, -1:]
        contexts = [] if context is None else [context[:, :, rows : rows + 1]]
        if rows:
            states = self._run(x, None if context is None else context[:, :, :rows])[1]
        else:
            states = [torch.zeros_like(seen)] * 2 * len(self.layers)
        return [seen, *states, *contexts]

    def along(self, row: Tensor, above: list[Tensor]) -> Tensor:
        """The outputs for the pixels of a row of shape (N, C, 1, W), each from those to its left."""
        seen, *states = above
        context = states.pop() if len(states) % 2 else None
        features = seen + self.first_left(row)
        for i, layer in enumerate(self.layers):
            gates = layer.gates(features, context)  # type: ignore[operator]
            features = features + layer.step(gates, *states[2 * i : 2 * i + 2])[0]  # type: ignore[operator]
        outputs: Tensor = self.head(features)
        return outputs
