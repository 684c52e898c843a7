"""The Bernoulli distribution with a log-probability that reads and writes less memory than torch's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli

__all__ = ["Bernoulli", "softplus"]

_LINEAR = 40.0  # from here on log(1 + exp(l)) is l in double precision too


def softplus(logits: Tensor) -> Tensor:
    r""":math:`\log(1 + e^\ell)` to the last digits in double precision too.

    Example:
        >>> softplus(torch.tensor(0.0))
        tensor(0.6931)
    """
    return F.softplus(logits, threshold=_LINEAR)


class Bernoulli(TorchBernoulli):
    r"""Coin flips, :math:`\log p(x) = \log \sigma(\ell) - (1 - x) \ell` for the logit ℓ.

    Example:
        >>> Bernoulli(logits=torch.tensor(0.0)).log_prob(torch.tensor(1.0))
        tensor(-0.6931)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        logits = self.logits
        if logits.dtype.itemsize < torch.float32.itemsize:
            logits = logits.float()  # the difference would keep no digits of a small log-probability
        logits = logits.expand(torch.broadcast_shapes(logits.shape, value.shape))
        # log σ(l) is -softplus(-l) in one pass; what is left takes one more over memory that is there already.
        log_sigmoid = F.softplus(logits, beta=-1.0, threshold=_LINEAR)
        return log_sigmoid.addcmul_(value.to(logits.dtype) - 1, logits)
