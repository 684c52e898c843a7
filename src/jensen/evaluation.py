"""Bounds on log p(x) with their errors: the same for any batch size and any order of the rows, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .distributions import closed_form_kl, kl_per_latent
from .errors import DataError, JensenError, NonFiniteError, OptionError, ShapeError
from .hardware import keep_pages
from .noise import RowNoise, mix, row_keys, seeded
from .numbers import Number, mean_and_se
from .roles import Evidence, Given

__all__ = [
    "Bounds",
    "Latents",
    "Number",
    "bounds",
    "elbo",
    "evaluation_mode",
    "evidence_of",
    "in_chunks",
    "kind_of",
    "latent_size",
    "latents",
    "log_likelihood",
    "reconstructions",
    "summarise",
]

CHUNK_ROWS = 64
"""Rows in a chunk, always: a matrix product then sums each row in the same order wherever the row stands."""

_BLOCK_SAMPLES = 32
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
    """

    elbo: Tensor
    log_likelihood: Tensor
    elbo_variance: Tensor
    log_likelihood_variance: Tensor
    ess: Tensor
    keys: list[int]
    k: int


@dataclass(frozen=True)
class Latents:
    """What the posterior does over a data set.

    Arguments:
        mean_variance: The variance over examples of the posterior mean of each latent, shape (Z,).
        kl: The mean KL to the prior, nats per example; None without a closed form.
        kl_per_latent: The mean KL of each latent, shape (Z,); None where the posterior does not factorise.
    """

    mean_variance: Tensor
    kl: float | None
    kl_per_latent: Tensor | None

    @property
    def active(self) -> int:
        """How many latents are active: the variance of their posterior mean is above 0.01 (Burda et al., 2016)."""
        return int((self.mean_variance > 0.01).sum())


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside the block; every module's own mode is put back after it.

    The number of threads is lowered to a power of two: it then divides a chunk, and no vector of numbers is cut at
    the border between two threads, where the last bit would depend on the position of a row.
    """
    modes = [(module, module.training) for module in model.modules()]
    threads = torch.get_num_threads()
    keep_pages()
    model.eval()
    try:
        torch.set_num_threads(2 ** (threads.bit_length() - 1))
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)
        for module, training in modes:
            module.training = training


def in_chunks(function: Callable[..., Tensor], x: Tensor, given: Given | None = None) -> Tensor:
    """Applies a function of rows in chunks of one fixed size, the last one padded, so that batching changes no bit.

    Where something is given beside the rows, the function gets that of its rows as a second argument.
    """
    outputs = []
    for start in range(0, len(x), CHUNK_ROWS):
        rows = x[start : start + CHUNK_ROWS]
        known = () if given is None else (_given_padded(given, start, len(rows)).to(x.device),)
        outputs.append(function(_padded(rows), *known)[: len(rows)])
    return torch.cat(outputs)


def _given_padded(given: Given, start: int, count: int) -> Given:
    """What is given beside the rows of a chunk, padded as they are."""
    places = torch.arange(start, start + CHUNK_ROWS)
    places[count:] = start
    return given.rows(places)


def _padded(rows: Tensor) -> Tensor:
    missing = CHUNK_ROWS - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows


def evidence_of(model: Any) -> Evidence:
    """What the log-weights of a model say about log p(x); lower bounds, where it does not say."""
    return cast(Evidence, getattr(model, "evidence", "lower"))


def latent_size(model: Any) -> int:
    """The number of values that describe an example."""
    found = getattr(model, "latent_size", None)
    return int(model.prior().event_shape.numel() if found is None else found)


def check_data(model: Any, x: Tensor, given: Given | None = None) -> None:
    """Checks that rows can be scored by a model: there are some, their shape fits, and they lie in its support.

    Arguments:
        model: A model.
        x: Rows in the values that the model sees.
        given: What is known beside the rows, or beside the first one.

    Raises:
        DataError: If there are no rows or a value is not finite.
        ShapeError: If the model's networks refuse rows of this shape.
        SupportError: If a value lies outside the support of the likelihood.
    """
    if not isinstance(x, Tensor) or x.ndim < 2 or len(x) == 0:
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise DataError(f"expected a tensor of rows, shape (N, *X) with N >= 1; got {shape}.")
    if not x.is_floating_point():
        raise DataError(f"expected rows as floats, the values that the model sees; got {x.dtype}. Convert them first.")
    if not x.isfinite().all():
        where = (~x.isfinite()).nonzero()[0].tolist()
        raise DataError(
            f"row {where[0]} has {float(x[tuple(where)])!r} at position {where[1:]}; expected finite numbers."
        )
    if hasattr(model.likelihood, "check"):
        model.likelihood.check(x)
    try:
        with evaluation_mode(model), seeded(0):
            model.draw(x[:1].to(device_of(model)), _first(given, x, device_of(model)))
    except RuntimeError as error:
        raise ShapeError(
            f"the model cannot draw latents for rows of shape {tuple(x.shape[1:])}, {x.dtype}: {error}. Check the "
            "input size of the posterior's network, the number of latents, and event_dims of Conditional (the number "
            "of dimensions of one input)."
        ) from error


def _first(given: Given | None, x: Tensor, device: torch.device) -> Given | None:
    """What is given beside the first row.

    Raises:
        DataError: If it does not fit the rows.
    """
    if given is None:
        return None
    for name, value in (("conditions", given.condition), ("labels", given.labels)):
        if value is not None and len(value) not in (1, len(x)):
            raise DataError(f"got {name} for {len(value)} rows beside {len(x)} rows; give one for each.")
    return given.rows(slice(0, 1)).to(device)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def bounds(model: Any, x: Tensor, *, k: int = 1000, seed: int = 0, given: Given | None = None) -> Bounds:
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

    Raises:
        OptionError: If ``k`` is not positive.
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
    if k < 1:
        raise OptionError(f"a bound needs at least 1 sample; got k={k}.")
    evidence = evidence_of(model)
    if evidence == "none":
        raise JensenError(
            f"{type(model).__name__} has no q(z|x) or no p(z), so log p(x) is not defined and there is no bound on it. "
            "Its reconstructions can be scored; for a density fit a prior to its codes, or a model such as vae."
        )
    check_data(model, x, given)
    same = evidence == "exact" or getattr(getattr(model, "posterior", None), "deterministic", False)
    k = 1 if same else k  # all draws are the same
    keys = row_keys(x)
    block = max(1, min(_BLOCK_SAMPLES, _BLOCK_VALUES // (CHUNK_ROWS * math.prod(x.shape[1:]))))
    with evaluation_mode(model), seeded(seed):
        parts = [
            _chunk_bounds(
                model,
                x[i : i + CHUNK_ROWS],
                None if given is None else _given_padded(given, i, len(x[i : i + CHUNK_ROWS])),
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
    return Bounds(mean, log_mean, mean_variance, log_variance, ess, keys=keys, k=k)


def _chunk_bounds(
    model: Any, rows: Tensor, given: Given | None, keys: list[int], k: int, block: int, seed: int
) -> tuple[Tensor, ...]:
    count = len(rows)
    x = _padded(rows).to(device_of(model))
    given = None if given is None else given.to(device_of(model))
    keys = keys + keys[:1] * (len(x) - count)
    sums = _RunningSums(len(x))
    for start in range(0, k, block):
        with RowNoise([mix(seed, start, key) for key in keys], shared=mix(seed, start, "shared")):
            draw = model.draw(x, given, min(block, k - start))
        sums.add(draw.log_weight.double().cpu())
    return tuple(column[:count] for column in sums.results())


class _RunningSums:
    """Sums over samples of log w, its square, w and w², the last two kept as logarithms, in float64."""

    def __init__(self, rows: int) -> None:
        self.k = 0
        self.mean = torch.zeros(rows, dtype=torch.float64)
        self.squares = torch.zeros(rows, dtype=torch.float64)
        self.log_sum = torch.full((rows,), -math.inf, dtype=torch.float64)
        self.log_sum_squares = torch.full((rows,), -math.inf, dtype=torch.float64)

    def add(self, log_weight: Tensor) -> None:
        before, added = self.k, len(log_weight)
        self.k += added
        mean = log_weight.mean(0)
        shift = mean - self.mean
        self.squares += (log_weight - mean).square().sum(0) + shift.square() * (before * added / self.k)
        self.mean += shift * (added / self.k)
        self.log_sum = torch.logaddexp(self.log_sum, log_weight.logsumexp(0))
        self.log_sum_squares = torch.logaddexp(self.log_sum_squares, (2 * log_weight).logsumexp(0))

    def results(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        k = self.k
        log_mean = self.log_sum - math.log(k)
        ess = torch.exp(2 * self.log_sum - self.log_sum_squares)
        if k == 1:
            unknown = torch.full_like(self.mean, math.nan)
            return self.mean, log_mean, unknown, unknown, ess
        elbo_variance = self.squares / (k - 1) / k
        # Delta method: var(log mean w) = var(w) / (k mean(w)^2).
        log_variance = (1 / ess - 1 / k).clamp(min=0) * k / (k - 1)
        return self.mean, log_mean, elbo_variance, log_variance, ess


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
    """What a number from scores is, with respect to log p(x)."""
    evidence = evidence_of(model)
    return {"kind": evidence, "k": None if evidence == "exact" else scores.k}


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


def _measure_of(model: Any) -> Literal["mass", "density"]:
    return getattr(model.likelihood, "measure", "density")


def elbo(model: Any, x: Tensor, *, k: int = 1, seed: int = 0, split: str = "test") -> Number:
    r"""The evidence lower bound :math:`E_q[\log p(x, z) - \log q(z|x)]`, averaged over K draws and all rows.

    It has no β, no schedule and no mode: what was optimised, and how, does not enter.

    Arguments:
        model: A model.
        x: Rows in the values that the model sees, shape (N, \*X).
        k: The number of draws averaged for each row.
        seed: The seed of the noise.
        split: The name of the rows, for the result.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> print(elbo(oracle.model, torch.zeros(4, 3, dtype=torch.float64)))
        ≥ -2.29 ± 0.00 nats/example (K=1)
    """
    scores = bounds(model, x, k=k, seed=seed)
    return summarise(
        scores.elbo, scores.elbo_variance, scores, measure=_measure_of(model), split=split, **kind_of(model, scores)
    )


def log_likelihood(model: Any, x: Tensor, *, k: int = 1000, seed: int = 0, split: str = "test") -> Number:
    r"""The lower bound :math:`\log \frac1K \sum_k w_k` on log p(x), averaged over all rows; it rises with K.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance weighted autoencoders.

    Arguments:
        model: A model.
        x: Rows in the values that the model sees, shape (N, \*X).
        k: The number of draws K for each row.
        seed: The seed of the noise.
        split: The name of the rows, for the result.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> log_likelihood(oracle.model, torch.zeros(4, 3, dtype=torch.float64), k=10).kind
        'lower'
    """
    scores = bounds(model, x, k=k, seed=seed)
    variance = scores.log_likelihood_variance
    return summarise(
        scores.log_likelihood, variance, scores, measure=_measure_of(model), split=split, **kind_of(model, scores)
    )


def latents(model: Any, x: Tensor, given: Given | None = None) -> Latents:
    """How much each latent is used over a data set.

    Where the prior of a group depends on other groups or on a condition, the posterior mean is measured from the mean
    of the prior, in its standard deviations, and the KL of a group is that at one draw of those above it.

    Arguments:
        model: A model with a prior and a posterior, or with several groups of latents.
        x: Rows in the values that the model sees.
        given: What is known beside each row.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> latents(oracle.model, 2 * torch.eye(3, dtype=torch.float64)).active
        2
    """
    check_data(model, x, given)
    size = 0
    if latent_size(model) == 0:
        return Latents(torch.zeros(0, dtype=torch.float64), None, None)

    def statistics(rows: Tensor, given: Given | None = None) -> Tensor:
        nonlocal size
        device = device_of(model)
        pairs = _pairs(model, rows.to(device), None if given is None else given.to(device))
        columns = [_statistics(q, p, len(rows)) for q, p in pairs]
        # Not half of the columns: a one-hot code has a mean for each category and one KL.
        size = sum(means.shape[1] for means, _, _ in columns)
        parts = [torch.cat(part, 1) for part in zip(*columns, strict=True)] or [torch.zeros(len(rows), 0)] * 3
        return torch.cat([parts[0], parts[1].sum(1, keepdim=True), parts[2]], 1).double().cpu()

    with evaluation_mode(model), seeded(0):
        table = in_chunks(statistics, x, given)
    kl, each = table[:, size], table[:, size + 1 :]
    known = size > 0
    return Latents(
        mean_variance=table[:, :size].var(0, correction=0) if known else table[0, :0],
        kl=None if not known or kl.isnan().any() else float(kl.mean()),
        kl_per_latent=None if not known or each.isnan().any() else each.mean(0),
    )


def _pairs(model: Any, x: Tensor, given: Given | None) -> list[tuple[Distribution, Distribution]]:
    """The posterior and the prior of each group of latents."""
    if hasattr(model, "posterior"):
        return [(model.posterior(x, given), model.prior(given))]
    with RowNoise([mix("latents", key) for key in row_keys(x)]):
        return [(group.posterior, group.prior) for group in model.draw(x, given).groups]


def _statistics(q: Distribution, p: Distribution, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior means, the KL and the KL of each latent, each with a row for each example."""
    mean = (q.mean - p.mean) / p.stddev if p.batch_shape else q.mean
    kl, each = closed_form_kl(q, p), kl_per_latent(q, p)
    means = mean.reshape(rows, -1).double()
    unknown = torch.full_like(means, math.nan)
    total = unknown[:, :1] if kl is None else kl.reshape(rows, 1).double()
    return means, total, unknown if each is None else each.reshape(rows, -1).double()
