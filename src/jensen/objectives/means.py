r"""From K log-weights to one number for each example: means of :math:`\log w` and what their gradients need."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import OptionError

__all__ = ["MixedMean", "PowerMean", "WeightMean"]


@dataclass(frozen=True)
class PowerMean:
    r"""The mean over M groups of the logarithm of a power mean over K log-weights:

    .. math:: \frac1M \sum_m \frac{1}{1 - \alpha} \log \frac1K \sum_k w_{mk}^{1 - \alpha}

    With :math:`\alpha = 0` it is the bound of Burda et al.; :math:`\alpha \to 1` is the mean of the log-weights, the
    ELBO. For :math:`\alpha \ge 0` its expectation is a lower bound of log p(x), since no such power mean of weights
    exceeds their arithmetic mean.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance weighted autoencoders. Li, Turner (2016), Rényi divergence
        variational inference. Rainforth et al. (2018), Tighter variational bounds are not necessarily better.

    Arguments:
        alpha: The order :math:`\alpha`.
        groups: The number of groups M.

    Example:
        >>> PowerMean(alpha=0.0).value(torch.tensor([[0.0], [0.0]]))
        tensor([0.])
    """

    alpha: float = 0.0
    groups: int = 1

    def _grouped(self, log_weight: Tensor) -> Tensor:
        """(M, K, B) from (M K, B)."""
        if len(log_weight) % self.groups:
            raise OptionError(f"{len(log_weight)} samples cannot be cut into {self.groups} equal groups.")
        grouped: Tensor = log_weight.unflatten(0, (self.groups, -1))
        return grouped

    def value(self, log_weight: Tensor) -> Tensor:
        """The mean, shape (B,), from log-weights of shape (M K, B)."""
        if self.alpha == 1:
            return log_weight.mean(0)
        grouped = self._grouped(log_weight)
        power = 1 - self.alpha
        each = ((power * grouped).logsumexp(1) - math.log(grouped.shape[1])) / power
        return each.mean(0)

    def weights(self, log_weight: Tensor) -> Tensor:
        r"""The derivatives :math:`v_k` of the mean by the log-weights, shape (M K, B)."""
        if self.alpha == 1:
            return torch.full_like(log_weight, 1 / len(log_weight))
        grouped = self._grouped(log_weight)
        return ((1 - self.alpha) * grouped).softmax(1).flatten(0, 1) / self.groups

    def path_weights(self, log_weight: Tensor) -> Tensor:
        r"""The weights :math:`v_k - \partial^2 / \partial (\log w_k)^2` of the doubly reparameterised gradient.

        Within a group with weights v they are :math:`\alpha v + (1 - \alpha) v^2`.
        """
        v = self.weights(log_weight)
        return self.alpha * v + (1 - self.alpha) * v.square() * self.groups


@dataclass(frozen=True)
class MixedMean:
    r"""A convex combination :math:`s \cdot \text{first} + (1 - s) \cdot \text{second}` of two means.

    References:
        Rainforth et al. (2018), Tighter variational bounds are not necessarily better.

    Arguments:
        first: The first mean.
        second: The second mean.
        share: The share s of the first.

    Example:
        >>> MixedMean(PowerMean(1.0), PowerMean(0.0), 0.5).value(torch.zeros(4, 1))
        tensor([0.])
    """

    first: PowerMean
    second: PowerMean
    share: float

    def _mix(self, a: Tensor, b: Tensor) -> Tensor:
        if self.share in (0.0, 1.0):  # the other mean may be infinite
            return a if self.share else b
        return self.share * a + (1 - self.share) * b

    def value(self, log_weight: Tensor) -> Tensor:
        """The mean, shape (B,), from log-weights of shape (K, B)."""
        return self._mix(self.first.value(log_weight), self.second.value(log_weight))

    def weights(self, log_weight: Tensor) -> Tensor:
        """The derivatives of the mean by the log-weights, shape (K, B)."""
        return self._mix(self.first.weights(log_weight), self.second.weights(log_weight))

    def path_weights(self, log_weight: Tensor) -> Tensor:
        """The weights of the doubly reparameterised gradient, shape (K, B)."""
        return self._mix(self.first.path_weights(log_weight), self.second.path_weights(log_weight))


WeightMean = PowerMean | MixedMean
