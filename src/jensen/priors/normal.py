"""Normal priors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from ..distributions import diagonal_normal
from ..errors import OptionError
from ..roles import Given
from ..spec import declared

__all__ = ["StandardNormal"]


@declared("priors.StandardNormal")
class StandardNormal(nn.Module):
    r"""The prior :math:`p(z) = N(z; 0, I)`.

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes.

    Arguments:
        size: The number of latents, or the shape of one z.

    Example:
        >>> StandardNormal(2)().log_prob(torch.zeros(2))
        tensor(-1.8379)
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, size: int | Sequence[int]) -> None:
        super().__init__()
        shape = (size,) if isinstance(size, int) else tuple(size)
        if not shape or min(shape) < 1:
            raise OptionError(f"a prior needs at least 1 latent; got size={size}.")
        self.register_buffer("loc", torch.zeros(shape), persistent=False)
        self.register_buffer("scale", torch.ones(shape), persistent=False)

    def forward(self, given: Given | None = None) -> Independent[Normal]:
        return diagonal_normal(self.loc, self.scale, self.loc.ndim)
