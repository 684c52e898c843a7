"""Normal families."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, constraints
from torch.distributions import Normal as TorchNormal

from ..distributions import RowwiseNormal, bounded_scale, diagonal_normal
from ..spec import declared
from .base import Measure, event_shape_of
from .location_scale import LocationScale

__all__ = ["FullNormal", "Normal"]


@declared("families.Normal")
class Normal(LocationScale):
    r"""Independent normals :math:`\prod_d N(x_d; \mu_d, \sigma_d^2)`.

    With a fixed scale its log-likelihood is the squared error up to a constant:

    .. math:: \log p(x) = -\frac{\|x - \mu\|^2}{2 \sigma^2} - \frac{D}{2} \log (2 \pi \sigma^2)

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes.

    Arguments:
        shape: The event shape; an integer D means (D,).
        scale: Where :math:`\sigma` comes from; by default one learned number. A posterior uses ``PredictedScale()``.

    Example:
        >>> import math
        >>> from jensen.families import FixedScale
        >>> x, mu, sigma = torch.tensor([0.2, 0.9]), torch.tensor([0.0, 1.0]), 0.5
        >>> log_p = Normal(2, scale=FixedScale(sigma))(mu).log_prob(x)
        >>> mse = (x - mu).square().sum()
        >>> constant = 2 / 2 * math.log(2 * math.pi * sigma**2)
        >>> torch.allclose(log_p, -mse / (2 * sigma**2) - constant)
        True
    """

    support: ClassVar[constraints.Constraint] = constraints.real

    def forward(self, loc: Tensor, raw_scale: Tensor | None = None) -> Independent[TorchNormal]:
        return diagonal_normal(loc, self.scale(raw_scale).expand_as(loc), len(self.event_shape))

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """The mean of each dimension and, where the network predicts the scale, a scale that covers the spread."""
        return self.start(x.mean(0), x.std(0, correction=0))


@declared("families.FullNormal")
class FullNormal(nn.Module):
    r"""A normal with full covariance :math:`N(z; \mu, L L^\top)`, :math:`L` lower triangular.

    Network outputs below the diagonal of L are divided by :math:`\sqrt D`: whatever D, a network that has not learned
    anything yet gives a covariance that is close to diagonal, and no latent is given up for its noise.

    Arguments:
        size: The number of dimensions D.

    Example:
        >>> FullNormal(3).parameter_shapes
        ((3,), (3,), (3,))
        >>> FullNormal(2)(torch.zeros(2), torch.zeros(2), torch.full((1,), 2**0.5)).covariance_matrix
        tensor([[1., 1.],
                [1., 2.]])
    """

    support: ClassVar[constraints.Constraint] = constraints.real
    measure: Measure = "density"
    _below: Tensor
    _diagonal: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.event_shape = event_shape_of(size)
        self.size = size
        self.parameter_shapes: tuple[tuple[int, ...], ...] = ((size,), (size,), (size * (size - 1) // 2,))
        row, column = torch.tril_indices(size, size, offset=-1)
        self.register_buffer("_below", row * size + column, persistent=False)
        self.register_buffer("_diagonal", torch.arange(size) * (size + 1), persistent=False)

    def forward(self, loc: Tensor, raw_diagonal: Tensor, below: Tensor) -> MultivariateNormal:
        flat = below.new_zeros(*below.shape[:-1], self.size**2)
        flat = flat.index_copy(-1, self._below, below / self.size**0.5).index_copy(
            -1, self._diagonal, bounded_scale(raw_diagonal)
        )
        return RowwiseNormal(loc, scale_tril=flat.unflatten(-1, (self.size, self.size)), validate_args=False)
