"""Discrete distributions whose log-mass has a gradient in the code, and relaxations that train through it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import OneHotCategorical as TorchOneHotCategorical
from torch.distributions import constraints
from torch.types import _size

from .bernoulli import Bernoulli
from .categorical import Categorical
from .logistic import Logistic

__all__ = ["OneHot", "OneHotCategorical", "StraightThroughBernoulli", "StraightThroughCategorical"]


class OneHot(constraints.Constraint):
    """Vectors with a single one; each entry of a vector gets the verdict on the whole.

    Example:
        >>> OneHot().check(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
        tensor([[ True,  True],
                [False, False]])
    """

    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        boolean = ((value == 0) | (value == 1)).all(-1, keepdim=True)
        return (boolean & (value.sum(-1, keepdim=True) == 1)).expand_as(value)


class OneHotCategorical(TorchOneHotCategorical):
    r"""One-hot codes with a log-mass that is linear in the code, :math:`\log P(z) = \sum_c z_c \log p_c`.

    Arguments:
        logits: The unnormalised log-probabilities, shape (\*B, C).

    Example:
        >>> OneHotCategorical(torch.zeros(4)).log_prob(torch.tensor([0.0, 1.0, 0.0, 0.0])).exp()
        tensor(0.2500)
    """

    def __init__(self, logits: Tensor, *, validate_args: bool | None = None) -> None:
        super().__init__(logits=logits, validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: None = None) -> OneHotCategorical:
        return OneHotCategorical(self.logits.expand(*batch_shape, self.logits.shape[-1]), validate_args=False)

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        index = Categorical(logits=self.logits, validate_args=False).sample(sample_shape)
        return F.one_hot(index, self.logits.shape[-1]).to(self.logits)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        # An impossible entry that is not chosen counts for nothing; all others stay linear in the code.
        empty = (value == 0) & (self.logits == -math.inf)
        return (value * self.logits.masked_fill(empty, 0.0)).sum(-1)


class StraightThroughBernoulli(Bernoulli):
    r"""Coin flips whose samples are hard and have the gradient of a relaxed sample.

    With logistic noise g and :math:`s = \sigma((a + g) / \tau)`, a sample is :math:`z = 1[a + g > 0]`, of which exactly
    the Bernoulli distribution is true, and :math:`\nabla z` is taken to be :math:`\nabla s`. That is biased.

    References:
        Jang, Gu, Poole (2017), Categorical reparameterization with Gumbel-softmax. Maddison, Mnih, Teh (2017), The
        concrete distribution.

    Arguments:
        logits: The logits a, any shape.
        temperature: The temperature :math:`\tau > 0`.
        relaxed: Whether there are such gradients; without, it is a Bernoulli distribution.

    Example:
        >>> a = torch.zeros(3, requires_grad=True)
        >>> z = StraightThroughBernoulli(a, 0.5).rsample()
        >>> ((z == 0) | (z == 1)).all(), z.requires_grad
        (tensor(True), True)
    """

    def __init__(
        self, logits: Tensor, temperature: float, *, relaxed: bool = True, validate_args: bool | None = None
    ) -> None:
        self.temperature = temperature
        self.has_rsample = relaxed
        super().__init__(logits=logits, validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: None = None) -> StraightThroughBernoulli:
        logits = self.logits.expand(batch_shape)
        return StraightThroughBernoulli(logits, self.temperature, relaxed=self.has_rsample, validate_args=False)

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        noisy = Logistic(self.logits, torch.ones_like(self.logits), validate_args=False).rsample(sample_shape)
        soft = torch.sigmoid(noisy / self.temperature)
        return (noisy > 0).to(soft.dtype) + (soft - soft.detach())


class StraightThroughCategorical(OneHotCategorical):
    r"""One-hot codes whose samples are hard and have the gradient of a relaxed sample.

    With Gumbel noise g and :math:`s = \mathrm{softmax}((a + g) / \tau)`, a sample is the one-hot vector of the largest
    entry, which exactly the categorical distribution is true of, and its gradient is taken to be that of s.

    References:
        Jang, Gu, Poole (2017), Categorical reparameterization with Gumbel-softmax. Maddison, Mnih, Teh (2017), The
        concrete distribution.

    Arguments:
        logits: The unnormalised log-probabilities a, shape (\*B, C).
        temperature: The temperature :math:`\tau > 0`.
        relaxed: Whether there are such gradients; without, it is a categorical distribution.

    Example:
        >>> a = torch.zeros(5, 3, requires_grad=True)
        >>> StraightThroughCategorical(a, 0.5).rsample().sum(-1)
        tensor([1., 1., 1., 1., 1.], grad_fn=<SumBackward1>)
    """

    def __init__(
        self, logits: Tensor, temperature: float, *, relaxed: bool = True, validate_args: bool | None = None
    ) -> None:
        self.temperature = temperature
        self.has_rsample = relaxed
        super().__init__(logits, validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: None = None) -> StraightThroughCategorical:
        logits = self.logits.expand(*batch_shape, self.logits.shape[-1])
        return StraightThroughCategorical(logits, self.temperature, relaxed=self.has_rsample, validate_args=False)

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        u = torch.rand(self._extended_shape(sample_shape), dtype=self.logits.dtype, device=self.logits.device)
        eps = torch.finfo(u.dtype).eps
        noisy = self.logits - torch.log(-torch.log(u.clamp(eps, 1 - eps)))
        soft = torch.softmax(noisy / self.temperature, -1)
        hard = F.one_hot(noisy.argmax(-1), noisy.shape[-1]).to(soft.dtype)
        return hard + (soft - soft.detach())
