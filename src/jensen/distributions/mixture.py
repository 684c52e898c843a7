"""A mixture of normals that can be reparameterised."""

from __future__ import annotations

import math

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

from .categorical import Categorical

__all__ = ["NormalMixture"]


class NormalMixture(Distribution):
    r"""A mixture of diagonal normals :math:`\sum_c \pi_c \prod_d N(z_d; \mu_{cd}, \sigma_{cd}^2)`.

    A sample has a gradient in all parameters, the weights included, by implicit reparameterisation, one dimension after
    the other: with the conditional distribution function F of :math:`z_d` given :math:`z_{<d}` and its density f,

    .. math:: \nabla z_d = - \frac{\nabla F(z_d | z_{<d})}{f(z_d | z_{<d})}.

    References:
        Figurnov, Mohamed, Mnih (2018), Implicit reparameterization gradients. Graves (2016), Stochastic backpropagation
        through mixture density distributions.

    Arguments:
        logits: The logarithms of the weights up to a constant, shape (\*B, C).
        loc: The means, shape (\*B, C, D).
        scale: The standard deviations, shape (\*B, C, D).

    Example:
        >>> d = NormalMixture(torch.zeros(2), torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1))
        >>> d.mean, d.variance
        (tensor([0.]), tensor([2.]))
        >>> d.log_prob(torch.zeros(1))
        tensor(-1.4189)
    """

    arg_constraints = {
        "logits": constraints.real_vector,
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits, self.loc, self.scale = logits, loc, scale
        super().__init__(logits.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: None = None) -> NormalMixture:
        shape, inner = tuple(batch_shape), self.loc.shape[-2:]
        loc, scale = self.loc.expand(*shape, *inner), self.scale.expand(*shape, *inner)
        return NormalMixture(self.logits.expand(*shape, inner[0]), loc, scale, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        y = (value[..., None, :] - self.loc) / self.scale
        constant = self.scale.log().sum(-1) + 0.5 * self.loc.shape[-1] * math.log(2 * math.pi)
        return (self.logits.log_softmax(-1) - 0.5 * y.square().sum(-1) - constant).logsumexp(-1)

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        with torch.no_grad():
            chosen = Categorical(logits=self.logits, validate_args=False).sample(sample_shape)
            shape = self._extended_shape(sample_shape)
            index = chosen[..., None, None].expand(*shape[:-1], 1, shape[-1])
            wide = (*shape[:-1], *self.loc.shape[-2:])
            loc, scale = (t.expand(wide).gather(-2, index)[..., 0, :] for t in (self.loc, self.scale))
            z = loc + scale * torch.randn(shape, dtype=loc.dtype, device=loc.device)
        tracked = any(t.requires_grad for t in (self.logits, self.loc, self.scale))
        return self._with_gradient(z) if tracked and torch.is_grad_enabled() else z

    def _with_gradient(self, z: Tensor) -> Tensor:
        log_weight = self.logits.log_softmax(-1)
        dimensions = []
        for d in range(z.shape[-1]):
            weight, loc, scale = log_weight.softmax(-1), self.loc[..., d], self.scale[..., d]
            y = (z[..., d, None] - loc) / scale
            share = (weight * torch.special.ndtr(y)).sum(-1)
            density = (weight * torch.exp(-0.5 * y.square()) / scale).sum(-1).detach() / math.sqrt(2 * math.pi)
            moved = z[..., d] - (share - share.detach()) / density.clamp(min=torch.finfo(z.dtype).tiny)
            dimensions.append(moved)
            log_weight = log_weight - 0.5 * ((moved[..., None] - loc) / scale).square() - scale.log()
        return torch.stack(dimensions, -1)

    @property
    def mean(self) -> Tensor:
        return (self.logits.softmax(-1)[..., None] * self.loc).sum(-2)

    @property
    def variance(self) -> Tensor:
        weight = self.logits.softmax(-1)[..., None]
        around = self.loc - self.mean[..., None, :]
        return (weight * (self.scale.square() + around.square())).sum(-2)
