"""Dense networks of a ladder: features from the bottom up, states from the top down."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import OptionError
from ..spec import declared
from .linear import Linear
from .mlp import Residual

__all__ = ["ResidualUpdate", "residual_features"]


@declared("nets.residual_features")
def residual_features(in_features: int, width: int, blocks: int = 1) -> nn.Sequential:
    r"""Dense features of inputs of shape (N, \*X): an affine map and residual blocks, without a last layer.

    References:
        He, Zhang, Ren, Sun (2016), Identity mappings in deep residual networks.

    Arguments:
        in_features: The number of inputs.
        width: The number of features.
        blocks: The number of residual blocks.

    Raises:
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> residual_features(64, 32)(torch.zeros(5, 8, 8)).shape
        torch.Size([5, 32])
    """
    if min(in_features, width, blocks) < 1:
        raise OptionError(f"sizes are positive; got in={in_features}, width={width}, blocks={blocks}.")
    return nn.Sequential(nn.Flatten(), Linear(in_features, width), *(Residual(width) for _ in range(blocks)), nn.SiLU())


@declared("nets.ResidualUpdate")
class ResidualUpdate(nn.Module):
    r"""The state below a group of latents: :math:`h + W z`, then residual blocks.

    References:
        Child (2021), Very deep VAEs generalize autoregressive models and can outperform them on images.

    Arguments:
        latents: The number of values in z.
        width: The width of the state.
        blocks: The number of residual blocks.

    Raises:
        OptionError: If a size is not positive.

    Example:
        >>> import torch
        >>> update = ResidualUpdate(2, 8)
        >>> update(update(torch.zeros(5, 2)), torch.zeros(5, 2)).shape
        torch.Size([5, 8])
    """

    def __init__(self, latents: int, width: int, blocks: int = 1) -> None:
        super().__init__()
        if min(latents, width, blocks) < 1:
            raise OptionError(f"sizes are positive; got latents={latents}, width={width}, blocks={blocks}.")
        self.enter = Linear(latents, width)
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(blocks)))

    def forward(self, state: Tensor, z: Tensor | None = None) -> Tensor:
        # At the top there is no state yet.
        entered = self.enter(state.flatten(1)) if z is None else state + self.enter(z.flatten(1))
        below: Tensor = self.blocks(entered)
        return below
