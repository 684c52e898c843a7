"""Scores of each row: bounds on log p(x) from K draws, which are summed block by block, and reconstructions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import JensenError, NonFiniteError
from ..noise import RowNoise, mix, row_keys, seeded
from ..numbers import Precision, whole
from ..precision import conditionals_of, networks_in
from ..roles import Given
from .checks import check_data, draws_alike, evidence_of
from .chunks import CHUNK_ROWS, device_of, evaluation_mode, given_padded, in_chunks, padded
from .running import RunningSums

__all__ = ["Bounds", "bounds", "reconstructions"]

_BLOCK_SAMPLES = 64
_BLOCK_VALUES = 2**22


@dataclass(frozen=True)
class Bounds:
    r"""Per-example bounds from one set of K draws; all tensors have shape (N,) and are float64.

    Arguments:
        elbo: :math:`\mathrm{mean}_k \log w_k`, nats.
        log_likelihood: :math:`\log \mathrm{mean}_k w_k`, nats; at least ``elbo``, by Jensen's inequality.
        elbo_variance: Monte Carlo variance of ``elbo``.
        log_likelihood_variance: Monte Carlo variance of ``log_likelihood`` by the delta method.
        ess: The effective sample size :math:`(\sum w)^2 / \sum w^2`.
        keys: The content key of each row.
        k: The number of draws K.
        precision: What networks computed in.
    """

    elbo: Tensor
    log_likelihood: Tensor
    elbo_variance: Tensor
    log_likelihood_variance: Tensor
    ess: Tensor
    keys: list[int]
    k: int
    precision: Precision = "fp32"


def bounds(
    model: Any,
    x: Tensor,
    *,
    k: int = 1000,
    seed: int = 0,
    given: Given | None = None,
    precision: Precision = "fp32",
) -> Bounds:
    r"""The ELBO and the log-mean-exp bound of each row from the same K draws.

    .. math:: \frac1K \sum_k \log w_k \;\le\; \log \frac1K \sum_k w_k, \quad w_k = \frac{p(x, z_k)}{q(z_k|x)}

    The noise of a row depends on its content and the seed alone, and rows are computed in chunks of one fixed size, so
    a row's bounds do not depend on the rows around it. β, schedules and the mode of the model have no influence.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance weighted autoencoders.

    Arguments:
        model: A model.
        x: Rows in the values that the model sees, shape (N, \*X).
        k: The number of draws K for each row.
        seed: The seed of the noise.
        given: What is known beside each row; the bounds are then on log p(x) given that.
        precision: What networks compute in. In bf16, which hardware may be much faster at, they are bounds for the
            model with its networks rounded so; densities and sums are what they were.

    Raises:
        OptionError: If ``k`` is not positive, or there is no such precision.
        DataError: If the rows cannot be scored.
        JensenError: If the model defines no log p(x).
        NonFiniteError: If a log-weight is not a number, or infinitely large.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> x = torch.zeros(4, 3, dtype=torch.float64)
        >>> torch.allclose(bounds(oracle.model, x, k=7).elbo, oracle.log_evidence(x))
        True
    """
    k = whole(k, 1, "a bound needs at least 1 sample k")
    if evidence_of(model) == "none":
        raise JensenError(
            f"{type(model).__name__} has no q(z|x) or no p(z), so log p(x) is not defined and there is no bound on it. "
            "Its reconstructions can be scored; for a density fit a prior to its codes, or a model such as vae."
        )
    check_data(model, x, given)
    same = draws_alike(model)
    k = 1 if same else k
    keys = row_keys(x)
    block = max(1, min(_BLOCK_SAMPLES, _BLOCK_VALUES // (CHUNK_ROWS * math.prod(x.shape[1:]))))
    with evaluation_mode(model), networks_in(conditionals_of(model), precision), seeded(seed):
        parts = [
            _chunk_bounds(
                model,
                x[i : i + CHUNK_ROWS],
                None if given is None else given_padded(given, i, len(x[i : i + CHUNK_ROWS])),
                keys[i : i + CHUNK_ROWS],
                k,
                block,
                seed,
            )
            for i in range(0, len(x), CHUNK_ROWS)
        ]
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    wrong = columns[0].isnan() | (columns[0] == math.inf)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise NonFiniteError(
            f"the log-weight of row {row} is {float(columns[0][row])}, which no density gives: the model's parameters "
            "are not finite, or so large that its densities overflow."
        )
    mean, log_mean, mean_variance, log_variance, ess = columns
    if same:
        mean_variance = log_variance = torch.zeros_like(mean)
    return Bounds(mean, log_mean, mean_variance, log_variance, ess, keys=keys, k=k, precision=precision)


def _chunk_bounds(
    model: Any, rows: Tensor, given: Given | None, keys: list[int], k: int, block: int, seed: int
) -> tuple[Tensor, ...]:
    count = len(rows)
    x = padded(rows).to(device_of(model))
    given = None if given is None else given.to(device_of(model))
    keys = keys + keys[:1] * (len(x) - count)
    sums = RunningSums(len(x))
    noise = RowNoise([mix(seed, key) for key in keys], shared=mix(seed, "shared"))
    for start in range(0, k, block):
        with noise:
            draw = model.draw(x, given, min(block, k - start))
        sums.add(draw.log_weight.double().cpu())
    return tuple(column[:count] for column in sums.results())


def reconstructions(model: Any, x: Tensor, given: Given | None = None) -> Tensor:
    r""":math:`\log p(x|z)` of each row at its code, shape (N,), nats: how well it is reconstructed.

    Arguments:
        model: A model.
        x: Rows in the values that the model sees.
        given: What is known beside each row.
    """
    check_data(model, x, given)

    def scores(rows: Tensor, given: Given | None = None) -> Tensor:
        rows, given = rows.to(device_of(model)), None if given is None else given.to(device_of(model))
        log_likelihood: Tensor = model.decode(model.embed(rows, given)[None], given).log_prob(rows)
        return log_likelihood[0].double().cpu()

    with evaluation_mode(model):
        return in_chunks(scores, x, given)
