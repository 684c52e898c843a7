"""Student's t, stable in single precision."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import StudentT as TorchStudentT
from torch.types import _size

__all__ = ["StudentT"]


class StudentT(TorchStudentT):
    r"""Student's t with the logarithm of its normaliser computed in float64.

    .. math:: p(x) = \frac{\Gamma(\frac{\nu + 1}{2})}{\Gamma(\frac\nu2) \sqrt{\pi \nu} \, \sigma}
              \Bigl(1 + \frac{(x - \mu)^2}{\nu \sigma^2}\Bigr)^{-\frac{\nu + 1}{2}}

    In float32 the difference of the two log-gammas at :math:`\nu = 10^4` is wrong by thousandths of a nat.

    Arguments:
        df: The degrees of freedom :math:`\nu`, any shape.
        loc: The location :math:`\mu`, broadcastable.
        scale: The scale :math:`\sigma > 0`, broadcastable.

    Example:
        >>> StudentT(torch.tensor(1e4), torch.tensor(0.0), torch.tensor(1.0)).log_prob(torch.tensor(0.0))
        tensor(-0.9190)
    """

    def expand(self, batch_shape: _size, _instance: None = None) -> StudentT:
        df, loc, scale = (t.expand(batch_shape) for t in (self.df, self.loc, self.scale))
        return StudentT(df, loc, scale, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        df = self.df.double()
        log_normaliser = torch.lgamma(0.5 * df) - torch.lgamma(0.5 * (df + 1)) + 0.5 * torch.log(math.pi * df)
        y = (value - self.loc) / self.scale
        return (
            -0.5 * (self.df + 1) * torch.log1p(y.square() / self.df)
            - self.scale.log()
            - log_normaliser.to(self.loc.dtype)
        )
