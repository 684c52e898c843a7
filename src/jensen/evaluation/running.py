"""Sums over draws of log-weights that never stand in memory all at once, and what follows from them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["RunningSums", "effective_sample_size", "log_mean_variance"]


def effective_sample_size(log_weight: Tensor) -> Tensor:
    r""":math:`(\sum_k w_k)^2 / \sum_k w_k^2` of log-weights of shape (K, ...), shape (...)."""
    return torch.exp(2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0))


def log_mean_variance(ess: Tensor, k: int) -> Tensor:
    r"""The Monte Carlo variance of the log-mean-exp of K log-weights by the delta method; unknown for one draw.

    .. math:: \mathrm{var}(\log \bar w) \approx \mathrm{var}(w) / (K \bar w^2)
    """
    if k == 1:
        return torch.full_like(ess, math.nan)
    return (1 / ess - 1 / k).clamp(min=0) * k / (k - 1)


class RunningSums:
    """Sums over samples of log w, its square, w and w², the last two kept as logarithms, in float64."""

    def __init__(self, rows: int) -> None:
        self.k = 0
        self.mean = torch.zeros(rows, dtype=torch.float64)
        self.squares = torch.zeros(rows, dtype=torch.float64)
        self.log_sum = torch.full((rows,), -math.inf, dtype=torch.float64)
        self.log_sum_squares = torch.full((rows,), -math.inf, dtype=torch.float64)

    def add(self, log_weight: Tensor) -> None:
        """Takes in the log-weights of some draws, shape (k, rows)."""
        before, added = self.k, len(log_weight)
        self.k += added
        mean = log_weight.mean(0)
        shift = mean - self.mean
        self.squares += (log_weight - mean).square().sum(0) + shift.square() * (before * added / self.k)
        # A weight of zero makes the mean minus infinity for good, which no shift leads to or away from.
        nothing = (self.mean == -math.inf) | (mean == -math.inf)
        self.mean = torch.where(nothing, self.mean + mean, self.mean + shift * (added / self.k))
        self.log_sum = torch.logaddexp(self.log_sum, log_weight.logsumexp(0))
        self.log_sum_squares = torch.logaddexp(self.log_sum_squares, (2 * log_weight).logsumexp(0))

    def results(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The mean of log w, the log-mean-exp, the variances of both, and the effective sample size."""
        k = self.k
        log_mean = self.log_sum - math.log(k)
        ess = torch.exp(2 * self.log_sum - self.log_sum_squares)
        elbo_variance = self.squares / (k - 1) / k if k > 1 else torch.full_like(self.mean, math.nan)
        return self.mean, log_mean, elbo_variance, log_mean_variance(ess, k), ess
