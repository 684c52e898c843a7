"""A normal whose covariance is a diagonal plus a matrix of low rank."""

from __future__ import annotations

import math

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import lazy_property
from torch.types import _size

__all__ = ["LowRankNormal"]


class LowRankNormal(Distribution):
    r"""The normal :math:`N(\mu, W W^\top + \mathrm{diag}(\sigma^2))`, :math:`W` with few columns.

    Only matrices of the size of the rank are factorised, and nothing depends, to the last bit, on where a row stands.

    References:
        Ong, Nott, Smith (2018), Gaussian variational approximation with a factor covariance structure.

    Arguments:
        loc: The mean :math:`\mu`, shape (\*B, D).
        factor: The matrix W, shape (\*B, D, R).
        scale: The standard deviation :math:`\sigma` of the independent part, shape (\*B, D).

    Example:
        >>> d = LowRankNormal(torch.zeros(2), torch.ones(2, 1), torch.ones(2))
        >>> d.covariance_matrix
        tensor([[2., 1.],
                [1., 2.]])
        >>> d.log_prob(torch.zeros(2))
        tensor(-2.3872)
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "factor": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, factor: Tensor, scale: Tensor, *, validate_args: bool | None = None) -> None:
        self.loc, self.factor, self.scale = loc, factor, scale
        self.rank = factor.shape[-1]
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: None = None) -> LowRankNormal:
        shape, size = tuple(batch_shape), self.loc.shape[-1]
        loc, scale = self.loc.expand(*shape, size), self.scale.expand(*shape, size)
        return LowRankNormal(loc, self.factor.expand(*shape, size, self.rank), scale, validate_args=False)

    @lazy_property
    def _white_factor(self) -> Tensor:
        r"""The matrix :math:`A = \mathrm{diag}(\sigma)^{-1} W`."""
        return self.factor / self.scale[..., None]

    @lazy_property
    def capacitance_tril(self) -> Tensor:
        r"""The Cholesky factor of :math:`I + A^\top A`, shape (\*B, R, R)."""
        a = self._white_factor
        # A sum of products instead of a product of matrices, whose rounding may depend on the rows around.
        gram = (a[..., :, None] * a[..., None, :]).sum(-3)
        factor: Tensor = torch.linalg.cholesky(gram + torch.eye(self.rank, dtype=a.dtype, device=a.device))
        return factor

    @property
    def log_det(self) -> Tensor:
        r"""The logarithm of the determinant of the covariance, shape (\*B,)."""
        inner = self.capacitance_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return 2 * (self.scale.log().sum(-1) + inner)

    def _columns(self, weights: Tensor, matrix: Tensor) -> Tensor:
        """The columns of a matrix added up with weights, one after the other."""
        total = matrix[..., 0] * weights[..., :1]
        for column in range(1, self.rank):
            total = total + matrix[..., column] * weights[..., column : column + 1]
        return total

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        y = (value - self.loc) / self.scale
        a = self._white_factor
        projected = torch.stack([(y * a[..., column]).sum(-1) for column in range(self.rank)], -1)
        lower = self.capacitance_tril.expand(*projected.shape, self.rank)
        half = torch.linalg.solve_triangular(lower, projected[..., None], upper=False)
        m = torch.linalg.solve_triangular(lower.mT, half, upper=True)[..., 0]
        # |y - A m|^2 + |m|^2 at its minimum is the Mahalanobis distance: a sum, where Woodbury's formula subtracts.
        distance = (y - self._columns(m, a)).square().sum(-1) + m.square().sum(-1)
        log_prob: Tensor = -0.5 * (distance + self.loc.shape[-1] * math.log(2 * math.pi) + self.log_det)
        return log_prob

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        shape, loc = self._extended_shape(sample_shape), self.loc
        noise = torch.randn(shape, dtype=loc.dtype, device=loc.device)
        common = torch.randn((*shape[:-1], self.rank), dtype=loc.dtype, device=loc.device)
        return loc + self.scale * noise + self._columns(common, self.factor)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() + self.factor.square().sum(-1)

    @property
    def covariance_matrix(self) -> Tensor:
        r"""The whole covariance, shape (\*B, D, D)."""
        return self.factor @ self.factor.mT + torch.diag_embed(self.scale.square())

    def entropy(self) -> Tensor:
        return 0.5 * (self.loc.shape[-1] * (1 + math.log(2 * math.pi)) + self.log_det)
