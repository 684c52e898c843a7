"""Normal distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

__all__ = ["RowwiseNormal", "diagonal_normal"]


def diagonal_normal(loc: Tensor, scale: Tensor, event_dims: int) -> Independent[Normal]:
    """Independent normals, the last ``event_dims`` dimensions being one event."""
    return Independent(Normal(loc, scale, validate_args=False), event_dims, validate_args=False)


class RowwiseNormal(MultivariateNormal):
    """A normal with full covariance whose ``log_prob`` does not depend, to the last bit, on where a row stands.

    Example:
        >>> RowwiseNormal(torch.zeros(2), scale_tril=torch.eye(2)).log_prob(torch.zeros(2))
        tensor(-1.8379)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        factor = self.scale_tril
        # With several right-hand sides at once, rounding depends on where a matrix lies in memory.
        centred = (value - self.loc)[..., None]
        white = torch.linalg.solve_triangular(factor, centred, upper=False)[..., 0]
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        size = self.loc.shape[-1]
        log_prob: Tensor = -0.5 * (white.square().sum(-1) + size * math.log(2 * math.pi)) - log_det
        return log_prob
