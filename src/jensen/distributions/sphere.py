"""Distributions on the unit sphere."""

from __future__ import annotations

import math

import torch
from torch import Size, Tensor
from torch.distributions import Dirichlet, Distribution, constraints
from torch.types import _size

__all__ = ["PowerSpherical", "UniformSphere", "UnitSphere"]


class UnitSphere(constraints.Constraint):
    """The vectors of length 1.

    Example:
        >>> UnitSphere().check(torch.tensor([[0.6, 0.8], [1.0, 1.0]]))
        tensor([ True, False])
    """

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(value, dim=-1)
        return (length - 1).abs() < 1e-4


class UniformSphere(Distribution):
    r"""The uniform distribution on the unit sphere in :math:`R^D`, with respect to its area.

    .. math:: p(z) = \frac{\Gamma(D / 2)}{2 \pi^{D / 2}}

    Arguments:
        size: The dimension D of the space around.
        like: A tensor whose type and device samples have.

    Example:
        >>> density = UniformSphere(3, torch.zeros(())).log_prob(torch.tensor([1.0, 0.0, 0.0])).exp()
        >>> round(float(density * 4 * torch.pi), 6)
        1.0
    """

    arg_constraints = {}
    support = UnitSphere()
    has_rsample = True

    def __init__(self, size: int, like: Tensor, *, validate_args: bool | None = None) -> None:
        self.like = like
        super().__init__(Size(), Size((size,)), validate_args=validate_args)

    @property
    def log_area(self) -> float:
        """The logarithm of the area of the sphere."""
        half = self.event_shape[0] / 2
        return math.log(2) + half * math.log(math.pi) - math.lgamma(half)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return torch.full_like(value[..., 0], -self.log_area)

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        z = torch.randn(self._extended_shape(sample_shape), dtype=self.like.dtype, device=self.like.device)
        unit: Tensor = z / torch.linalg.vector_norm(z, dim=-1, keepdim=True)
        return unit

    @property
    def mean(self) -> Tensor:
        return self.like.new_zeros(self.event_shape)

    def entropy(self) -> Tensor:
        return self.like.new_tensor(self.log_area)


class PowerSpherical(Distribution):
    r"""A bump on the unit sphere around a direction: :math:`q(z) \propto (1 + \mu^\top z)^\kappa`.

    Unlike the von Mises-Fisher distribution it needs no Bessel functions and no rejection. The share of a sample along
    :math:`\mu` is :math:`2 y - 1` with y from a beta distribution, and the rest is uniform around it. The gradient
    carries a sample along when :math:`\mu` turns.

    References:
        De Cao, Aziz (2020), The power spherical distribution.

    Arguments:
        direction: The unit vector :math:`\mu`, shape (\*B, D).
        concentration: The concentration :math:`\kappa > 0`, shape (\*B,).

    Example:
        >>> d = PowerSpherical(torch.tensor([1.0, 0.0, 0.0]), torch.tensor(2.0))
        >>> d.mean
        tensor([0.5000, 0.0000, 0.0000])
    """

    arg_constraints = {"concentration": constraints.positive}
    support = UnitSphere()
    has_rsample = True

    def __init__(self, direction: Tensor, concentration: Tensor, *, validate_args: bool | None = None) -> None:
        self.direction, self.concentration = direction, concentration
        super().__init__(direction.shape[:-1], direction.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: None = None) -> PowerSpherical:
        direction = self.direction.expand(*batch_shape, self.direction.shape[-1])
        return PowerSpherical(direction, self.concentration.expand(batch_shape), validate_args=False)

    @property
    def _half(self) -> float:
        """Half the dimension of the sphere, the second parameter of the beta distribution."""
        return (self.direction.shape[-1] - 1) / 2

    def _log_normaliser(self) -> Tensor:
        r"""The logarithm of :math:`\int ((1 + \mu^\top z) / 2)^\kappa dz`, in float64."""
        alpha = self._half + self.concentration.double()
        constant = 2 * self._half * math.log(2) + self._half * math.log(math.pi)
        return constant + torch.lgamma(alpha) - torch.lgamma(alpha + self._half)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        # (1 + cos) / 2 = 1 - |z - mu|^2 / 4, which keeps its digits where z is close to mu.
        apart = (value - self.direction).square().sum(-1) / 4
        log_power = torch.log1p(-apart.clamp(max=1 - torch.finfo(apart.dtype).eps))
        return self.concentration * log_power - self._log_normaliser().to(log_power.dtype)

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        shape = self._extended_shape(sample_shape)
        half = torch.full_like(self.concentration, self._half)
        shares = Dirichlet(torch.stack([half + self.concentration, half], -1), validate_args=False)
        along, away = shares.rsample(sample_shape).unbind(-1)
        tiny = torch.finfo(along.dtype).tiny
        radius = 2 * (along.clamp(min=tiny).sqrt() * away.clamp(min=tiny).sqrt())
        with torch.no_grad():
            noise = torch.randn(shape, dtype=along.dtype, device=along.device)
            noise = noise - (noise * self.direction).sum(-1, keepdim=True) * self.direction
            tangent = noise / torch.linalg.vector_norm(noise, dim=-1, keepdim=True).clamp(min=tiny)
        # The value of the product is zero; its gradient turns the tangent with the direction.
        tangent = tangent - (tangent * self.direction).sum(-1, keepdim=True) * self.direction
        z = (along - away)[..., None] * self.direction + radius[..., None] * tangent
        # Where noise and direction are nearly parallel little is left of the tangent but rounding.
        unit: Tensor = z / torch.linalg.vector_norm(z.detach(), dim=-1, keepdim=True)
        return unit

    @property
    def code(self) -> Tensor:
        """The direction: unlike the mean it lies on the sphere."""
        return self.direction

    @property
    def mean(self) -> Tensor:
        share = self.concentration / (2 * self._half + self.concentration)
        return share[..., None] * self.direction

    @property
    def mode(self) -> Tensor:
        return self.direction

    def entropy(self) -> Tensor:
        alpha = self._half + self.concentration.double()
        power = self.concentration * (torch.digamma(alpha) - torch.digamma(alpha + self._half))
        return (self._log_normaliser() - power).to(self.concentration.dtype)
