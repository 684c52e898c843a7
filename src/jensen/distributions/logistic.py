"""The logistic distribution, which is that of the log-odds of a relaxed coin."""

from __future__ import annotations

import math

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, constraints
from torch.types import _size

from .bernoulli import softplus

__all__ = ["Logistic", "relaxed_coins"]


class Logistic(Distribution):
    r"""The distribution of :math:`y = \mu + s \, \mathrm{logit}\, u` with uniform u, whose density is

    .. math:: p(y) = \frac{1}{s} \, \sigma(t) \, \sigma(-t), \quad t = \frac{y - \mu}{s}

    Arguments:
        loc: The mean μ, any shape.
        scale: The scale s, of a shape that fits; positive.

    Example:
        >>> Logistic(torch.tensor(1.0), torch.tensor(2.0)).log_prob(torch.tensor(1.0)).exp()
        tensor(0.1250)
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Tensor, scale: Tensor, *, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: None = None) -> Logistic:
        return Logistic(self.loc.expand(batch_shape), self.scale.expand(batch_shape), validate_args=False)

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        u = torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.scale * torch.logit(u, eps=torch.finfo(u.dtype).eps)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        t = (value - self.loc) / self.scale
        return -t - 2 * softplus(-t) - self.scale.log()

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (math.pi * self.scale).square() / 3


def relaxed_coins(logits: Tensor, temperature: float) -> Independent[Logistic]:
    r"""The log-odds :math:`y = (a + \mathrm{logit}\, u) / \tau` of relaxed coins :math:`\sigma(y)`.

    The density is that of y: in single precision :math:`\sigma(y)` is rounded to 1 where y is above 16, and what it was
    can no longer be told. A KL is the same for y and for :math:`\sigma(y)`.

    References:
        Maddison, Mnih, Teh (2017), The concrete distribution, appendix C.3.

    Arguments:
        logits: The logits a, shape (\*B, T).
        temperature: The temperature τ > 0.

    Example:
        >>> relaxed_coins(torch.zeros(3), 0.5).sample((2,)).shape
        torch.Size([2, 3])
    """
    coins = Logistic(logits / temperature, logits.new_full(logits.shape, 1 / temperature), validate_args=False)
    return Independent(coins, 1, validate_args=False)
