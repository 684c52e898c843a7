"""Dense networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from ..errors import OptionError
from ..spec import declared
from .linear import Linear

__all__ = ["Residual", "gated_mlp", "mlp", "residual_mlp"]


@declared("nets.mlp")
def mlp(in_features: int, out_features: int, hidden: Sequence[int] = (500, 500)) -> nn.Sequential:
    r"""A dense network with SiLU units; with no hidden layer it is an affine map.

    Weights of hidden layers start at :math:`N(0, 1/D)` for D inputs, which keeps the variance of what goes through;
    torch starts at a third of that, and a VAE then spends its first epochs on making them larger.

    References:
        LeCun, Bottou, Orr, Müller (1998), Efficient BackProp.

    Arguments:
        in_features: The number of inputs; inputs of shape (N, *X) are flattened to it.
        out_features: The number of outputs.
        hidden: The width of each hidden layer.

    Raises:
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> mlp(64, 10, hidden=(32,))(torch.zeros(5, 8, 8)).shape
        torch.Size([5, 10])
    """
    return _stack(in_features, out_features, hidden, lambda before, after: [_started(before, after), nn.SiLU()])


class _Gated(nn.Module):
    """(W x + b) σ(V x + c), both products in one."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.both = _started(in_features, 2 * out_features)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.glu(self.both(x))


class Residual(nn.Module):
    """x + W SiLU(norm(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.linear(nn.functional.silu(self.norm(x)))
        return x + changed


@declared("nets.gated_mlp")
def gated_mlp(in_features: int, out_features: int, hidden: Sequence[int] = (300, 300)) -> nn.Sequential:
    r"""A dense network whose hidden layers are gated: :math:`(W x + b) \odot \sigma(V x + c)`.

    They start as those of :func:`mlp`.

    References:
        Dauphin, Fan, Auli, Grangier (2017), Language modeling with gated convolutional networks.

    Arguments:
        in_features: The number of inputs; inputs of shape (N, \*X) are flattened to it.
        out_features: The number of outputs.
        hidden: The width of each hidden layer; a layer has two matrices of that width.

    Raises:
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> gated_mlp(64, 10, hidden=(32,))(torch.zeros(5, 8, 8)).shape
        torch.Size([5, 10])
    """
    return _stack(in_features, out_features, hidden, lambda before, after: [_Gated(before, after)])


@declared("nets.residual_mlp")
def residual_mlp(in_features: int, out_features: int, width: int = 500, blocks: int = 2) -> nn.Sequential:
    r"""A dense network of residual blocks :math:`h + W \, \mathrm{SiLU}(\mathrm{norm}(h))` of one width.

    References:
        He, Zhang, Ren, Sun (2016), Identity mappings in deep residual networks.

    Arguments:
        in_features: The number of inputs; inputs of shape (N, \*X) are flattened to it.
        out_features: The number of outputs.
        width: The width of the blocks.
        blocks: The number of blocks.

    Raises:
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> residual_mlp(64, 10, width=32)(torch.zeros(5, 8, 8)).shape
        torch.Size([5, 10])
    """
    _check(in_features, out_features, [width, blocks])
    first = [nn.Flatten(), Linear(in_features, width)]
    return nn.Sequential(*first, *(Residual(width) for _ in range(blocks)), nn.SiLU(), Linear(width, out_features))


def _stack(
    in_features: int, out_features: int, hidden: Sequence[int], layer: Callable[[int, int], list[nn.Module]]
) -> nn.Sequential:
    """Hidden layers of a kind, then an affine map."""
    _check(in_features, out_features, hidden)
    sizes = [in_features, *hidden]
    layers = [module for before, after in pairwise(sizes) for module in layer(before, after)]
    return nn.Sequential(nn.Flatten(), *layers, Linear(sizes[-1], out_features))


def _started(in_features: int, out_features: int) -> Linear:
    """A layer that keeps the variance of what goes through."""
    layer = Linear(in_features, out_features)
    nn.init.normal_(layer.weight, 0.0, in_features**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


def _check(in_features: int, out_features: int, hidden: Sequence[int]) -> None:
    if min(in_features, out_features, *hidden) < 1:
        raise OptionError(f"layer sizes are positive; got in={in_features}, hidden={list(hidden)}, out={out_features}.")
