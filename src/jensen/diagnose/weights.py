"""What log-weights say about log p(x), and whether they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import OptionError
from ..evaluation import Bounds, effective_sample_size, log_mean_variance, summarise
from ..numbers import Number

__all__ = ["WeightReport", "jackknife", "weigh"]

_LEAST_DRAWS = 1000
_JACKKNIFE = 32


@dataclass(frozen=True)
class WeightReport:
    r"""Bounds and estimates of log p(x) from one set of S draws for each row.

    Arguments:
        elbo: The mean log-weight.
        bounds: The importance-weighted bound at each K, rising.
        jackknife: The jackknife estimates of order 1 and 2 at the same K, which are not bounds.
        ess: The effective sample size of each row at S draws, shape (N,).
        k_hat: The Pareto shape of each row, shape (N,); None for fewer than 1000 draws.
        threshold: The shape above which S draws are too few: :math:`\min(1 - 1 / \log_{10} S, 0.7)`.
        draws: The number of draws S.
    """

    elbo: Number
    bounds: dict[int, Number]
    jackknife: dict[int, Number]
    ess: Tensor
    k_hat: Tensor | None
    threshold: float
    draws: int

    @property
    def unreliable(self) -> float | None:
        """The share of rows whose Pareto shape is above the threshold; None where it is not known."""
        return None if self.k_hat is None else float((~(self.k_hat <= self.threshold)).double().mean())

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data."""
        known = None if self.k_hat is None else self.k_hat[self.k_hat.isfinite()]
        return {
            "elbo": self.elbo.to_json(),
            "bounds": {str(k): number.to_json() for k, number in self.bounds.items()},
            "jackknife": {f"JVI-{order}": number.to_json() for order, number in self.jackknife.items()},
            "ess_median": float(self.ess.median()),
            "k_hat_median": None if known is None or not len(known) else float(known.median()),
            "k_hat_threshold": self.threshold,
            "unreliable": self.unreliable,
            "draws": self.draws,
        }


def weigh(
    log_weight: Tensor,
    *,
    keys: Sequence[int] | None = None,
    ks: Sequence[int] = (),
    kind: Literal["lower", "predictive"] = "lower",
    measure: Literal["mass", "density"] = "density",
    split: str = "test",
    protocol: str = "",
) -> WeightReport:
    r"""Bounds at rising K, jackknife estimates, effective sample sizes and Pareto shapes from S draws for each row.

    A bound at K < S is the mean over S / K disjoint sets of draws.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance weighted autoencoders. Nowozin (2018), Debiasing evidence
        approximations. Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling.

    Arguments:
        log_weight: The log-weights, shape (S, N), nats.
        keys: The content key of each row, as of :func:`jensen.noise.row_keys`: equal rows share their noise.
        ks: The numbers of draws K; by default 1, 10, 100 and so on, and S.
        kind: What the bounds are with respect to log p(x).
        measure: Whether p(x) is a mass or a density.
        split: The name of the rows, for the result.
        protocol: How the rows were made, for the result.

    Raises:
        OptionError: If the shape is another one, or a K exceeds S.

    Example:
        >>> log_weight = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)).double()
        >>> [round(number.mean, 1) for number in weigh(log_weight).bounds.values()]
        [0.0, 0.4, 0.5, 0.5]
    """
    if log_weight.ndim != 2 or not log_weight.numel():
        raise OptionError(f"log-weights have shape (S, N), draws by rows; got {tuple(log_weight.shape)}.")
    draws, rows = log_weight.shape
    log_weight = log_weight.double()
    ks = sorted({*(ks or _powers(draws)), draws})
    if ks[0] < 1 or ks[-1] > draws:
        raise OptionError(f"a bound from {ks[-1]} draws needs as many; there are {draws}.")
    labels = {"kind": kind, "measure": measure, "split": split, "protocol": protocol}
    keys = list(range(rows)) if keys is None else list(keys)

    def number(k: int, function: Callable[[Tensor], Tensor], **more: Any) -> Number:
        values, variance, ess = _over_sets(log_weight, k, function)
        scores = Bounds(values, values, variance, variance, ess, keys, k)
        return summarise(values, variance, scores, **{**labels, **more})

    least = min(_JACKKNIFE, draws)
    orders = [order for order in (1, 2) if least > order]
    smoothed = _smoothed(log_weight)
    return WeightReport(
        elbo=number(1, lambda part: part.mean(0)),
        bounds={k: number(k, _log_mean) for k in ks},
        jackknife={
            order: number(least, lambda part, order=order: jackknife(part, order), kind="estimate")  # type: ignore[misc]
            for order in orders
        },
        ess=effective_sample_size(log_weight),
        k_hat=smoothed,
        threshold=min(1 - 1 / math.log10(max(draws, 2)), 0.7),
        draws=draws,
    )


def _powers(draws: int) -> list[int]:
    return [10**power for power in range(int(math.log10(draws)) + 1)]


def _log_mean(log_weight: Tensor) -> Tensor:
    return log_weight.logsumexp(0) - math.log(len(log_weight))


def _smoothed(log_weight: Tensor) -> Tensor | None:
    from ..inference import psis

    return psis(log_weight).k_hat if len(log_weight) >= _LEAST_DRAWS else None


def _over_sets(log_weight: Tensor, k: int, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The mean over disjoint sets of K draws of a function of them, its Monte Carlo variance, and the mean ESS."""
    sets = len(log_weight) // k
    parts = log_weight[: sets * k].unflatten(0, (sets, k)).unbind(0)
    values = torch.stack([function(part) for part in parts])
    ess = torch.stack([effective_sample_size(part) for part in parts]).mean(0)
    if sets > 1:
        return values.mean(0), values.var(0) / sets, ess
    return values[0], log_mean_variance(ess, k), ess


def jackknife(log_weight: Tensor, order: int = 1) -> Tensor:
    r"""The jackknife variational estimate of log p(x) of order m, an estimate whose bias falls as :math:`K^{-(m+1)}`.

    .. math:: L^{(m)} = \sum_{j=0}^m (-1)^j \frac{(K - j)^m}{(m - j)! \, j!} \bar L_{K - j}

    :math:`\bar L_{K-j}` being the mean over all ways to leave out j of the K draws. It is not a bound.

    References:
        Nowozin (2018), Debiasing evidence approximations: on importance-weighted autoencoders and jackknife
        variational inference.

    Arguments:
        log_weight: The log-weights, shape (K, N), nats.
        order: 1 or 2.

    Raises:
        OptionError: If the order is another one, or there are not more draws than it says.

    Example:
        >>> bool(jackknife(torch.ones(5, 2, dtype=torch.float64), order=2).sub(1).abs().max() < 1e-12)
        True
    """
    if order not in (1, 2) or len(log_weight) <= order:
        raise OptionError(f"the jackknife has order 1 or 2 and more draws; got {order} with {len(log_weight)} draws.")
    k, log_weight = len(log_weight), log_weight.double()
    whole, one_less = _log_mean(log_weight), _leave_one_out(log_weight).mean(0) - math.log(k - 1)
    if order == 1:
        return k * whole - (k - 1) * one_less
    two_less = _leave_two_out(log_weight).mean(0) - math.log(k - 2)
    return k**2 / 2 * whole - (k - 1) ** 2 * one_less + (k - 2) ** 2 / 2 * two_less


def _leave_one_out(log_weight: Tensor) -> Tensor:
    """The logarithm of the sum of all weights but one, for each of them, shape (K, N)."""
    ordered = log_weight.sort(0, descending=True).values
    # Without the largest the sum is taken anew; the others are at most half of the sum, and may be subtracted.
    rest = ordered[1:].logsumexp(0, keepdim=True)
    total = ordered.logsumexp(0)
    return torch.cat([rest, total + torch.log1p(-(ordered[1:] - total).exp())])


def _leave_two_out(log_weight: Tensor) -> Tensor:
    """The logarithm of the sum of all weights but two, for each pair, shape (K (K - 1) / 2, N)."""
    ordered = log_weight.sort(0, descending=True).values
    first, second = torch.triu_indices(len(ordered) - 1, len(ordered) - 1, offset=1) + 1
    total = ordered.logsumexp(0)
    share = (ordered - total).exp()
    # Neither of these is the largest, so together they are at most two thirds of the sum.
    others = total + torch.log1p(-(share[first] + share[second]))
    return torch.cat([_leave_one_out(ordered[1:]), others])
