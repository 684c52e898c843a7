"""Averages of per-row bounds, with their errors over rows and over draws."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..numbers import Number, Precision, mean_and_se
from .checks import draws_alike, evidence_of, measure_of
from .per_row import Bounds, bounds

__all__ = ["elbo", "kind_of", "log_likelihood", "summarise"]


def summarise(values: Tensor, variance: Tensor, scores: Bounds, **labels: Any) -> Number:
    """The mean over examples of a per-example bound, with both its errors.

    Equal rows share their noise, so their Monte Carlo errors are added up before they are squared.
    """
    n = len(values)
    counts: dict[int, list[int]] = {}
    for row, key in enumerate(scores.keys):
        counts.setdefault(key, []).append(row)
    variances = variance.tolist()
    mc_variance = math.fsum(variances[rows[0]] * len(rows) ** 2 for rows in counts.values()) / n**2
    mean, se = mean_and_se(values)
    ess = float(scores.ess.median())
    labels = {"k": scores.k, **labels}
    if labels.get("kind") == "exact":
        mc_variance = 0.0
    if labels.get("kind") == "predictive":  # rows share draws, so their errors may all point the same way
        mc_variance = (math.fsum(value**0.5 for value in variances) / n) ** 2
    return Number(mean, se, math.sqrt(mc_variance), n, ess=ess, **labels)


def kind_of(model: Any, scores: Bounds) -> dict[str, Any]:
    """What a number from scores is: its kind with respect to log p(x), its K, of masses or densities, its precision."""
    k = None if draws_alike(model) else scores.k
    return {"kind": evidence_of(model), "k": k, "measure": measure_of(model), "precision": scores.precision}


def elbo(
    model: Any, x: Tensor, *, k: int = 1, seed: int = 0, split: str = "test", precision: Precision = "fp32"
) -> Number:
    r"""The evidence lower bound :math:`E_q[\log p(x, z) - \log q(z|x)]`, averaged over K draws and all rows.

    It has no β, no schedule and no mode: what was optimised, and how, does not enter.

    Arguments:
        model: A model.
        x: Rows in the values that the model sees, shape (N, \*X).
        k: The number of draws averaged for each row.
        seed: The seed of the noise.
        split: The name of the rows, for the result.
        precision: What networks compute in.

    Example:
        >>> import torch
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> print(elbo(oracle.model, torch.zeros(4, 3, dtype=torch.float64)))
        ≥ -2.29 ± 0.00 nats/example (K=1)
    """
    scores = bounds(model, x, k=k, seed=seed, precision=precision)
    return summarise(scores.elbo, scores.elbo_variance, scores, split=split, **kind_of(model, scores))


def log_likelihood(
    model: Any, x: Tensor, *, k: int = 1000, seed: int = 0, split: str = "test", precision: Precision = "fp32"
) -> Number:
    r"""The lower bound :math:`\log \frac1K \sum_k w_k` on log p(x), averaged over all rows; it rises with K.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance weighted autoencoders.

    Arguments:
        model: A model.
        x: Rows in the values that the model sees, shape (N, \*X).
        k: The number of draws K for each row.
        seed: The seed of the noise.
        split: The name of the rows, for the result.
        precision: What networks compute in.

    Example:
        >>> import torch
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> log_likelihood(oracle.model, torch.zeros(4, 3, dtype=torch.float64), k=10).kind
        'lower'
    """
    scores = bounds(model, x, k=k, seed=seed, precision=precision)
    variance = scores.log_likelihood_variance
    return summarise(scores.log_likelihood, variance, scores, split=split, **kind_of(model, scores))
