"""Distributions made by an invertible network."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints
from torch.types import _size

__all__ = ["ForwardFlow", "InverseFlow"]


class _Flow(Distribution):
    r"""What both directions share: a network T from x and a context to T(x) and the log-determinant there."""

    arg_constraints = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        network: nn.Module,
        loc: Tensor,
        scale: Tensor,
        context: Tensor | None = None,
        *,
        frozen: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        self.network, self.loc, self.scale, self.context, self.frozen = network, loc, scale, context, frozen
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: None = None) -> Self:
        loc, scale = (t.expand(*batch_shape, t.shape[-1]) for t in (self.loc, self.scale))
        context = None if self.context is None else self.context.expand(*batch_shape, self.context.shape[-1])
        return type(self)(self.network, loc, scale, context, frozen=self.frozen, validate_args=False)

    def detached(self) -> Self:
        """The same distribution with all its parameters, those of the network included, cut from the graph."""
        context = None if self.context is None else self.context.detach()
        loc, scale = self.loc.detach(), self.scale.detach()
        return type(self)(self.network, loc, scale, context, frozen=True, validate_args=False)

    def _map(self, value: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        if not self.frozen:
            moved: tuple[Tensor, Tensor] = self.network(value, self.context, inverse=inverse)
            return moved
        parameters = {name: p.detach() for name, p in self.network.named_parameters()}
        cut: tuple[Tensor, Tensor] = torch.func.functional_call(
            self.network, parameters, (value, self.context), {"inverse": inverse}
        )
        return cut

    def _noise(self, sample_shape: _size) -> Tensor:
        return torch.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)

    def _base(self, noise: Tensor) -> Tensor:
        return -0.5 * (noise.square().sum(-1) + noise.shape[-1] * math.log(2 * math.pi))


class InverseFlow(_Flow):
    r"""The distribution of :math:`z = \mu + \sigma \odot T(\epsilon; c)` for standard normal :math:`\epsilon`.

    Sampling takes one pass, and the log-density of a sample is known from it: it is looked up when ``log_prob`` is
    asked for the very tensor that was drawn last. Any other z is inverted, dimension by dimension.

    References:
        Kingma et al. (2016), Improving variational inference with inverse autoregressive flow.

    Arguments:
        network: The map T, such as :class:`jensen.nets.flow.AutoregressiveFlow`.
        loc: The location :math:`\mu`, shape (\*B, D).
        scale: The scale :math:`\sigma > 0`, shape (\*B, D).
        context: The context c, shape (\*B, C).
        frozen: Whether the parameters of the network count as constants.

    Example:
        >>> from jensen.nets.flow import AutoregressiveFlow
        >>> q = InverseFlow(AutoregressiveFlow(2), torch.zeros(5, 2), torch.ones(5, 2))
        >>> z = q.rsample((3,))
        >>> torch.allclose(q.log_prob(z), q.log_prob(z.clone()), atol=1e-5)
        True
    """

    _drawn: tuple[Tensor, Tensor, bool] | None = None

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        noise = self._noise(sample_shape)
        y, log_det = self._map(noise, inverse=False)
        z: Tensor = self.loc + self.scale * y
        log_prob = self._base(noise) - log_det - self.scale.log().sum(-1)
        self._drawn = (z, log_prob, torch.is_grad_enabled())
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        if self._drawn is not None and value is self._drawn[0]:
            # What was drawn without gradients has to be computed anew where gradients are wanted.
            _, known, recorded = self._drawn
            if recorded or not torch.is_grad_enabled():
                return known
        noise, log_det = self._map((value - self.loc) / self.scale, inverse=True)
        log_prob: Tensor = self._base(noise) + log_det - self.scale.log().sum(-1)
        return log_prob

    @property
    def mean(self) -> Tensor:
        """The image of the centre of the base, which stands in for the mean: that has no formula."""
        return self.loc + self.scale * self._map(torch.zeros_like(self.loc), inverse=False)[0]


class ForwardFlow(_Flow):
    r"""The distribution of z for which :math:`T((z - \mu) / \sigma; c)` is standard normal.

    The log-density takes one pass; a sample is made dimension by dimension. It has no formula for its mean.

    References:
        Papamakarios, Pavlakou, Murray (2017), Masked autoregressive flow for density estimation.

    Arguments:
        network: The map T, such as :class:`jensen.nets.flow.AutoregressiveFlow`.
        loc: The location :math:`\mu`, shape (\*B, D).
        scale: The scale :math:`\sigma > 0`, shape (\*B, D).
        context: The context c, shape (\*B, C).
        frozen: Whether the parameters of the network count as constants.

    Example:
        >>> from jensen.nets.flow import AutoregressiveFlow
        >>> p = ForwardFlow(AutoregressiveFlow(2), torch.zeros(2), torch.ones(2))
        >>> p.log_prob(p.sample((5,))).shape
        torch.Size([5])
    """

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        z: Tensor = self.loc + self.scale * self._map(self._noise(sample_shape), inverse=True)[0]
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        noise, log_det = self._map((value - self.loc) / self.scale, inverse=False)
        log_prob: Tensor = self._base(noise) + log_det - self.scale.log().sum(-1)
        return log_prob
