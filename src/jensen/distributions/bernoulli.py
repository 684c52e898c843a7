"""The Bernoulli distribution with a log-probability that reads and writes less memory than torch's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli

__all__ = ["Bernoulli"]

_LINEAR = 40.0  # from here on log(1 + exp(l)) is l in double precision too


class Bernoulli(TorchBernoulli):
    r"""Coin flips, :math:`\log p(x) = x \ell - \log(1 + e^\ell)` for the logit ℓ.

    Example:
        >>> import torch
        >>> Bernoulli(logits=torch.tensor(0.0)).log_prob(torch.tensor(1.0))
        tensor(-0.6931)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        log_prob: Tensor = (value * self.logits).sub_(F.softplus(self.logits, threshold=_LINEAR))
        return log_prob
