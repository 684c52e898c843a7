"""Priors on the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import distributions
from ..errors import OptionError
from ..roles import Given
from ..spec import declared

__all__ = ["UniformSphere"]


@declared("priors.UniformSphere")
class UniformSphere(nn.Module):
    r"""The uniform distribution on the unit sphere in :math:`R^D`, for a posterior such as ``families.PowerSpherical``.

    References:
        Davidson et al. (2018), Hyperspherical variational auto-encoders.

    Arguments:
        size: The dimension D of the space around, at least 2.

    Raises:
        OptionError: If ``size`` is below 2.

    Example:
        >>> torch.allclose(UniformSphere(3)().sample((4,)).square().sum(-1), torch.ones(4))
        True
    """

    like: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 2:
            raise OptionError(f"a sphere lies in a space of at least 2 dimensions; got size={size}.")
        self.size = size
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def forward(self, given: Given | None = None) -> distributions.UniformSphere:
        return distributions.UniformSphere(self.size, self.like, validate_args=False)
