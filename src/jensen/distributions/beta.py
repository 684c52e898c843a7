"""The beta distribution and its normaliser, computed in double precision."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Beta as TorchBeta

__all__ = ["Beta", "log_beta"]


class Beta(TorchBeta):
    r"""The beta distribution :math:`p(v) = v^{a - 1} (1 - v)^{b - 1} / B(a, b)`.

    Its logarithm is a sum of large numbers that nearly cancel where a or b is large: in single precision torch's own is
    off by half a nat for a = 1e6 and b = 1.

    Example:
        >>> Beta(torch.tensor(2.0), torch.tensor(1.0)).log_prob(torch.tensor(0.5))
        tensor(0.)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b, v = self.concentration1.double(), self.concentration0.double(), value.double()
        log_prob: Tensor = torch.xlogy(a - 1, v) + torch.special.xlog1py(b - 1, -v) - log_beta(a, b)
        return log_prob.to(value.dtype)


def log_beta(x: Tensor, y: Tensor) -> Tensor:
    r""":math:`\log B(x, y)`, computed in double precision, since logarithms of large factorials cancel.

    Example:
        >>> log_beta(torch.tensor(1e6), torch.tensor(1.0))
        tensor(-13.8155)
    """
    a, b = x.double(), y.double()
    return (torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)).to(x.dtype)
