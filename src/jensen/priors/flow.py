"""Flow priors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..distributions import ForwardFlow, bounded_scale, unbounded_scale
from ..errors import ShapeError
from ..nets.flow import AutoregressiveFlow
from ..roles import Given
from ..spec import declared

__all__ = ["Flow"]


@declared("priors.Flow")
class Flow(nn.Module):
    r"""A learned prior: the distribution of z for which :math:`T((z - \mu) / \sigma)` is standard normal.

    With ``bins=None`` the steps of T are affine: a masked autoregressive flow. Its log-density takes one pass; a sample
    takes one for each latent.

    References:
        Chen et al. (2017), Variational lossy autoencoder. Papamakarios, Pavlakou, Murray (2017), Masked autoregressive
        flow for density estimation. Durkan et al. (2019), Neural spline flows.

    Arguments:
        size: The number of latents.
        transforms: The number of autoregressive steps.
        hidden: The widths of the hidden layers of each step's network.
        bins: The number of bins of the splines of which the steps are made; None for affine steps.

    Raises:
        OptionError: If an argument is out of range.

    Example:
        >>> Flow(2)().log_prob(torch.zeros(3, 5, 2)).shape
        torch.Size([3, 5])
    """

    def __init__(
        self, size: int, transforms: int = 3, hidden: Sequence[int] = (64, 64), bins: int | None = None
    ) -> None:
        super().__init__()
        self.flow = AutoregressiveFlow(size, 0, transforms, hidden, bins)
        self.loc = nn.Parameter(torch.zeros(size))
        self.raw_scale = nn.Parameter(torch.zeros(size))

    @torch.no_grad()
    def start_at(self, codes: Tensor) -> None:
        """Sets location and scale to those of codes, shape (N, Z), so that splines cover them."""
        if codes.ndim != 2 or codes.shape[1:] != self.loc.shape:
            raise ShapeError(f"expected codes of shape (N, {len(self.loc)}); got {tuple(codes.shape)}.")
        self.loc.copy_(codes.mean(0))
        self.raw_scale.copy_(unbounded_scale(codes.std(0, correction=0).clamp(1e-3, 1e3)))

    def forward(self, given: Given | None = None) -> ForwardFlow:
        return ForwardFlow(self.flow, self.loc, bounded_scale(self.raw_scale), validate_args=False)
