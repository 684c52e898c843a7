"""Dense networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import OptionError
from ..spec import declared

__all__ = ["mlp"]


@declared("nets.mlp")
def mlp(in_features: int, out_features: int, hidden: Sequence[int] = (500, 500)) -> nn.Sequential:
    """A dense network with SiLU units; with no hidden layer it is an affine map.

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
    if min(in_features, out_features, *hidden) < 1:
        raise OptionError(f"layer sizes are positive; got in={in_features}, hidden={list(hidden)}, out={out_features}.")
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers += [nn.Linear(in_features, width), nn.SiLU()]
        in_features = width
    return nn.Sequential(*layers, nn.Linear(in_features, out_features))
