"""Importance sampling with any proposal, and how much better one proposal is than another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from ..distributions import base_of
from ..errors import JensenError, NonFiniteError, OptionError, ShapeError
from ..evaluation import (
    Bounds,
    check_data,
    device_of,
    effective_sample_size,
    evaluation_mode,
    evidence_of,
    in_chunks,
    log_mean_variance,
    measure_of,
    summarise,
)
from ..noise import RowNoise, mix, row_keys
from ..numbers import Number
from ..roles import Posterior

__all__ = ["Efficiency", "Proposal", "Weighted", "efficiency", "importance"]

Proposal = Distribution | Posterior
"""Where z is drawn: a distribution with batch shape (), such as a prior, or a module from x to one."""

_BLOCK_SAMPLES = 32


@dataclass(frozen=True)
class Weighted:
    r"""Log-weights of K draws for each row, and the bound on log p(x) that they give.

    .. math:: \log \frac1K \sum_k w_k \quad \text{or, where } E[w] = 1 / p(x), \quad -\log \frac1K \sum_k w_k

    The first is in expectation below log p(x), the second above.

    Arguments:
        log_weight: The log-weights, shape (K, N), float64, nats.
        keys: The content key of each row; rows with equal keys share their noise.
        kind: ``lower`` for weights with mean p(x), ``upper`` for those with mean 1 / p(x).
        measure: Whether p(x) is a mass or a density.
    """

    log_weight: Tensor
    keys: list[int]
    kind: Literal["lower", "upper"]
    measure: Literal["mass", "density"]

    @property
    def k(self) -> int:
        """The number of draws K."""
        return len(self.log_weight)

    @cached_property
    def log_likelihood(self) -> Tensor:
        """The bound on log p(x) of each row, shape (N,), nats."""
        log_mean = self.log_weight.logsumexp(0) - math.log(self.k)
        return log_mean if self.kind == "lower" else -log_mean

    @cached_property
    def ess(self) -> Tensor:
        r"""The effective sample size :math:`(\sum w)^2 / \sum w^2` of each row, shape (N,)."""
        return effective_sample_size(self.log_weight)

    @cached_property
    def variance(self) -> Tensor:
        """The Monte Carlo variance of ``log_likelihood`` by the delta method, shape (N,); unknown for one draw."""
        return log_mean_variance(self.ess, self.k)

    def number(self, split: str = "test") -> Number:
        """The mean over rows, with both its errors."""
        unknown = torch.full_like(self.ess, math.nan)
        scores = Bounds(
            self.log_weight.mean(0), self.log_likelihood, unknown, self.variance, self.ess, self.keys, self.k
        )
        kind, measure = self.kind, self.measure
        return summarise(self.log_likelihood, self.variance, scores, kind=kind, measure=measure, split=split)


def importance(model: Any, x: Tensor, proposal: Proposal, *, k: int = 1000, seed: int = 0) -> Weighted:
    r"""Importance sampling of log p(x) with any proposal r(z) or r(z|x).

    .. math:: \log p(x) \ge E \log \frac1K \sum_k w_k, \quad w_k = \frac{p(x, z_k)}{r(z_k|x)}, \quad z_k \sim r

    The noise of a row depends on its content and the seed alone. All K log-weights of each row are kept.

    References:
        Rezende, Mohamed, Wierstra (2014), Stochastic backpropagation and approximate inference in deep generative
        models, appendix E. Burda, Grosse, Salakhutdinov (2016), Importance weighted autoencoders.

    Arguments:
        model: A model.
        x: Rows in the values that the model sees, shape (N, \*X).
        proposal: ``model.posterior`` or another module from x to a distribution, or a distribution such as
            ``model.prior()``. It must cover the posterior p(z|x).
        k: The number of draws K for each row.
        seed: The seed of the noise.

    Raises:
        JensenError: If the model's latents are shared by all rows in part.
        OptionError: If ``k`` is not positive, or the proposal is not of these kinds.
        DataError: If the rows cannot be scored.
        NonFiniteError: If a log-weight is not a number, or infinitely large.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> x = torch.zeros(4, 3, dtype=torch.float64)
        >>> torch.allclose(importance(oracle.model, x, oracle.model.posterior, k=7).log_likelihood,
        ...                oracle.log_evidence(x))
        True
    """
    if k < 1:
        raise OptionError(f"importance sampling needs at least 1 draw; got k={k}.")
    check_apart(model)
    check_data(model, x)

    def log_weights(rows: Tensor) -> Tensor:
        keys = row_keys(rows)
        rows = rows.to(device_of(model))
        distribution = proposed(proposal, rows)
        noise, blocks = RowNoise([mix(seed, "importance", key) for key in keys]), []
        for begin in range(0, k, _BLOCK_SAMPLES):
            with noise:
                z = drawn(distribution, min(_BLOCK_SAMPLES, k - begin), len(rows))
            blocks.append((model.log_joint(rows, z) - distribution.log_prob(z)).double().cpu())
        return torch.cat(blocks).T

    with evaluation_mode(model):
        log_weight = in_chunks(log_weights, x).T
    check_weights(log_weight)
    return Weighted(log_weight, row_keys(x), "lower", measure_of(model))


@dataclass(frozen=True)
class Efficiency:
    """How many times more one proposal gives than another at equal K.

    Arguments:
        ess: The ratio of effective sample sizes, a geometric mean over rows.
        variance: The inverse ratio of the Monte Carlo variances of log p(x), averaged over rows.
    """

    ess: float
    variance: float

    def __str__(self) -> str:
        return f"{self.ess:.3g} times the effective samples, 1/{self.variance:.3g} of the variance"


def efficiency(first: Weighted, second: Weighted) -> Efficiency:
    r"""How much more efficient the first proposal is than the second, from equally many draws for the same rows.

    .. math:: \exp \mathrm{mean}_n \log \frac{\mathrm{ESS}_n}{\mathrm{ESS}'_n}, \quad
        \frac{\sum_n \mathrm{var}'_n}{\sum_n \mathrm{var}_n}

    An effective sample size is at least 1 and both are estimated from the draws, so a proposal that misses the
    posterior looks better than it is: where the second one fails, both ratios are too small.

    Arguments:
        first: The weights of one proposal.
        second: Those of another.

    Raises:
        ShapeError: If rows or K differ.

    Example:
        >>> from jensen import testing
        >>> model = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5).model
        >>> x = torch.ones(4, 3, dtype=torch.float64)
        >>> q, p = (importance(model, x, r, k=50) for r in (model.posterior, model.prior()))
        >>> efficiency(q, p).ess > 2
        True
    """
    if first.keys != second.keys or first.k != second.k:
        raise ShapeError(
            f"efficiencies compare at equal K on the same rows; got K={first.k} for {len(first.keys)} rows against "
            f"K={second.k} for {len(second.keys)} rows, {'the same' if first.keys == second.keys else 'other'} rows."
        )
    log_ratio = float((first.ess.log() - second.ess.log()).mean())
    least = torch.finfo(torch.float64).eps
    ratio = float(second.variance.sum() / first.variance.sum().clamp(min=least))
    return Efficiency(math.exp(log_ratio), ratio)


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, where a gradient in z alone can be asked for by ``torch.enable_grad``.

    Parameters are frozen inside the block, so that no layer computes gradients for them, and are as before after it.
    """
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learned:
            parameter.requires_grad_(False)
        with evaluation_mode(model), torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def proposed(proposal: Proposal, rows: Tensor) -> Distribution:
    """The distribution of z for some rows, batch shape () or (B,).

    Raises:
        OptionError: If the proposal is neither a distribution for all rows nor a module from rows to one.
    """
    if not isinstance(proposal, Distribution) and not callable(proposal):
        raise OptionError(
            f"a proposal is a distribution or a module from x to one; got {type(proposal).__name__}. For the prior "
            "pass model.prior(), for the encoder model.posterior."
        )
    distribution = proposal if isinstance(proposal, Distribution) else proposal(rows)
    if not isinstance(distribution, Distribution):
        raise OptionError(f"the proposal gave a {type(distribution).__name__}; expected a distribution of z.")
    allowed: Sequence[tuple[int, ...]] = [()] if isinstance(proposal, Distribution) else [(), (len(rows),)]
    if tuple(distribution.batch_shape) not in allowed:
        raise OptionError(
            f"the proposal has batch shape {tuple(distribution.batch_shape)}; expected () for a distribution of all "
            "rows. For one that depends on the row pass a module from x to it, such as model.posterior."
        )
    return distribution


def drawn(distribution: Distribution, k: int, rows: int) -> Tensor:
    r"""K draws for each row, shape (K, B, \*Z)."""
    if distribution.batch_shape:
        z: Tensor = distribution.sample(Size((k,)))
        return z
    try:
        # So that whatever a draw is made of has the rows as a dimension, and each row its own noise.
        z = distribution.expand(Size((rows,))).sample(Size((k,)))
    except NotImplementedError:
        z = distribution.sample(Size((k, rows)))
    return z


def check_apart(model: Any) -> None:
    """Checks that every draw has all its latents to itself, so that log-weights are those of a bound on log p(x).

    Raises:
        JensenError: If some are shared by all rows.
    """
    if evidence_of(model) == "predictive":
        raise JensenError(
            f"{type(model).__name__} has latents that all rows share, of which log p(x, z) takes the mean or a few "
            "draws, the same for every row: the error of those would be in no Monte Carlo error. Use "
            "jensen.log_likelihood, whose draws each have shared latents of their own."
        )


def why_lacking(model: Any, *roles: str) -> str | None:
    """What a method that needs one of each of some roles says of a model without; None where it has them."""
    missing = [role for role in roles if not hasattr(model, role)]
    if not missing:
        return None
    wanted = " and ".join(f"one {role}" for role in roles)
    return f"needs a model with {wanted}; {type(model).__name__} has no {missing[0]} of its own."


def check_has(model: Any, *roles: str) -> None:
    """Checks that a model has one of each of some roles; a ladder has several of each, others have none.

    Raises:
        JensenError: If it has not.
    """
    why = why_lacking(model, *roles)
    if why is not None:
        raise JensenError(f"this {why} jensen.log_likelihood scores any model that has a log p(x).")


def check_one_z(model: Any) -> None:
    """Checks that a model has one group of latents, whose prior it knows.

    Raises:
        JensenError: If it has not.
    """
    # An autoencoder has no q(z|x), and yet p(x, z) once a prior is fitted to its codes.
    check_has(model, *(("prior",) if evidence_of(model) == "none" else ("prior", "posterior")))


def check_real(model: Any) -> None:
    """Checks that a model has one group of latents, and that every real vector is a value of z.

    Raises:
        JensenError: If it has not, or z is discrete or constrained.
    """
    check_one_z(model)
    check_unconstrained(model.prior(), "the prior")


def check_unconstrained(distribution: Distribution, role: str) -> None:
    """Checks that every real vector is a value of z, as methods that follow gradients through z need.

    Raises:
        JensenError: If z is discrete or constrained, or its distribution does not say.
    """
    name = type(distribution).__name__
    try:
        support = distribution.support
    except NotImplementedError:
        support = None
    if support is None:
        raise JensenError(
            f"annealing and Hamiltonian Monte Carlo need a z that is any real vector; {role}, a {name}, does not "
            "declare its support. Give it `support = torch.distributions.constraints.real_vector` where that holds."
        )
    if base_of(support) is constraints.real:
        return
    why = "z is discrete and has no gradient" if support.is_discrete else "a step along a gradient would leave it"
    raise JensenError(
        f"annealing and Hamiltonian Monte Carlo need a z that is any real vector; {role}, a {name}, has the support "
        f"{support}, and {why}. Use jensen.log_likelihood or inference.importance, which need no gradient in z."
    )


def check_weights(log_weight: Tensor) -> None:
    """Checks that no log-weight is nan or infinitely large.

    Raises:
        NonFiniteError: If one is.
    """
    wrong = log_weight.isnan() | (log_weight == math.inf)
    if wrong.any():
        draw, row = wrong.nonzero()[0].tolist()
        raise NonFiniteError(
            f"log-weight {draw} of row {row} is {float(log_weight[draw, row])}, which no density gives: the model's "
            "parameters are not finite, or so large that its densities overflow."
        )
