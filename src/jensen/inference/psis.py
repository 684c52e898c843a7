"""Pareto-smoothed importance sampling: whether importance weights can be trusted, row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import OptionError
from ..evaluation import effective_sample_size, log_mean_variance
from ..numbers import Number, mean_and_se
from .proposals import check_weights

__all__ = ["Smoothed", "psis"]

Array = np.ndarray[Any, np.dtype[np.float64]]

_LEAST_DRAWS = 1000
_FLAT = 1e-10


@dataclass(frozen=True)
class Smoothed:
    r"""Smoothed importance weights.

    Arguments:
        k_hat: The fitted shape :math:`\hat k` of the tail of each row's weights, shape (B,); minus infinity where the
            weights have no tail, since all large ones are equal; nan where none can be fitted.
        threshold: The :math:`\hat k` above which S draws are too few.
        log_likelihood: The logarithm of the mean smoothed weight, shape (B,), nats: an estimate, not a bound.
        ess: The effective sample size of the smoothed weights, shape (B,).
        log_weight: The smoothed log-weights, shape (S, B), nats.
    """

    k_hat: Tensor
    threshold: float
    log_likelihood: Tensor
    ess: Tensor
    log_weight: Tensor

    @property
    def reliable(self) -> Tensor:
        r"""Where :math:`\hat k` is at most the threshold, shape (B,)."""
        return self.k_hat <= self.threshold

    def number(self, split: str = "test", *, measure: Literal["mass", "density"] = "density") -> Number:
        """The mean of log p(x) over rows, as an estimate."""
        draws, rows = self.log_weight.shape
        mean, se = mean_and_se(self.log_likelihood)
        variances = log_mean_variance(self.ess, draws).tolist()
        mc_se = math.sqrt(math.fsum(variances)) / rows
        ess = float(self.ess.median())
        return Number(mean, se, mc_se, rows, draws, ess, kind="estimate", measure=measure, split=split)


def psis(log_weight: Tensor) -> Smoothed:
    r"""Pareto-smoothed importance sampling of log p(x), with the diagnostic :math:`\hat k` of each row.

    A generalised Pareto distribution is fitted to the largest :math:`3 \sqrt S` weights of each row, which are then
    replaced by its quantiles. Its shape :math:`\hat k` says how many moments the weights have:

    .. math:: \hat k \le \min(1 - 1 / \log_{10} S, 0.7)

    is what S draws need to be relied on.

    References:
        Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling. Yao, Vehtari, Simpson, Gelman
        (2018), Yes, but did it work? Evaluating variational inference.

    Arguments:
        log_weight: The log-weights of S independent draws for each of B rows, shape (S, B), nats, such as
            ``inference.importance(model, x, model.posterior).log_weight``.

    Raises:
        OptionError: If the shape is another one or S < 1000.
        NonFiniteError: If a log-weight is not a number, or infinitely large.

    Example:
        >>> log_weight = torch.randn(2000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> found = psis(log_weight)
        >>> found.reliable, (found.log_likelihood - 0.5).abs().max() < 0.2
        (tensor([True, True, True]), tensor(True))
    """
    if log_weight.ndim != 2:
        raise OptionError(f"log-weights have shape {tuple(log_weight.shape)}; expected (S, B): draws, rows.")
    draws = len(log_weight)
    if draws < _LEAST_DRAWS:
        raise OptionError(
            f"k-hat needs at least {_LEAST_DRAWS} draws for each row, got {draws}: with fewer, the tail that it is "
            "fitted to holds too few weights to tell its shape."
        )
    check_weights(log_weight)
    values = log_weight.detach().double().cpu()
    smoothed, shapes = zip(*(_smooth(row.numpy()) for row in values.unbind(1)), strict=True)
    result = torch.from_numpy(np.stack(smoothed, 1))
    return Smoothed(
        k_hat=torch.tensor(shapes, dtype=torch.float64),
        threshold=min(1 - 1 / math.log10(draws), 0.7),
        log_likelihood=result.logsumexp(0) - math.log(draws),
        ess=effective_sample_size(result),
        log_weight=result,
    )


def _smooth(row: Array) -> tuple[Array, float]:
    """The smoothed log-weights of one row, not normalised, and its k-hat."""
    from arviz_stats.base.array import array_stats

    fit: Any = array_stats.psislw
    ordered = np.sort(row)
    tail = int(3 * math.sqrt(len(row)))
    below, largest = ordered[-tail - 1], ordered[-1]
    if not math.isfinite(below):
        return row, math.nan
    if largest - below <= _FLAT * max(1.0, abs(largest)):
        return row, -math.inf
    # The fit starts from the first quartile of the tail; where that is a tie with what lies below, there is no fit.
    if ordered[-tail + tail // 4] == below:
        return row, math.nan
    with np.errstate(all="ignore"):
        # It takes log-likelihoods, the negative of log-weights, and gives weights that sum to 1.
        normalised, shape = fit(-row)
    # Weights below the tail are as before, up to the constant of the normalisation.
    least = int(np.where(np.isfinite(row), row, np.inf).argmin())
    constant = row[least] - normalised[least]
    return normalised + constant, float(shape)
