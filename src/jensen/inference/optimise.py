"""The best posterior of a family for each row, with the model fixed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..conditional import distribution_at
from ..errors import OptionError
from ..evaluation import check_data, device_of
from ..families import Family
from ..noise import RowNoise, mix, row_keys
from ..posteriors import Local
from ..posteriors.search import Raw, Search, Target, climb, coordinates_for, given_rows
from ..posteriors.start import raw_from, raw_of
from ..roles import BoundKind, Estimate, Given, Model, Objective, Posterior
from ..spec import declared
from .proposals import check_has, differentiable

__all__ = ["Best", "FitLocally", "best_in_family", "fit_local"]

_CHUNK = 128
_SCORES = 256


@dataclass(frozen=True)
class Best:
    r"""The best member of a posterior family that was found for each row.

    Arguments:
        posterior: The distributions, batch shape (B,).
        raw: Their unconstrained parameters, shape (B, P).
        elbo: Their ELBO on fresh noise, shape (B,), nats.
        variance: Its Monte Carlo variance, shape (B,).
        start: The ELBO where the search started, on the same noise.
    """

    posterior: Distribution
    raw: Tensor
    elbo: Tensor
    variance: Tensor
    start: Tensor


def best_in_family(
    model: Any,
    x: Tensor,
    family: Family | Posterior | None = None,
    *,
    start: Distribution | Posterior | None = None,
    given: Given | None = None,
    steps: int = 1000,
    samples: int = 16,
    rate: float = 0.05,
    rounds: int = 2,
    seed: int = 0,
) -> Best:
    r"""The member of a family with the highest ELBO for each row, from a warm start, with the model fixed.

    .. math:: q^*_n = \arg\max_{q \in Q} E_{q(z)}[\log p(x_n, z) - \log q(z)]

    Each row is climbed until its ELBO on held-out noise stands still, or all steps are taken. A further round starts
    where the last one came to, in units of the posterior found there, and the better is kept. Noise depends on
    the content of the row and the seed.

    References:
        Cremer, Li, Duvenaud (2018), Inference suboptimality in variational autoencoders.

    Arguments:
        model: A model.
        x: Rows in the values that the model sees, shape (B, \*X).
        family: The family, or a posterior whose family it is; by default that of the model's posterior.
        start: Where to start: a posterior, or the distributions of these rows, batch shape (B,), such as those found in
            a smaller family; by default the posterior given as ``family``, or else the model's own.
        given: What is known beside the rows.
        steps: The largest number of steps of a round.
        samples: The samples of a step.
        rate: The size of a step; for normal families in standard deviations of where the round starts.
        rounds: The number of rounds.
        seed: The seed of the noise.

    Raises:
        OptionError: If the family is not known, or cannot start from what is given.
        JensenError: If it is to be that of the model's posterior, or start there, and the model has not one.
        DataError: If the rows cannot be scored.

    Example:
        >>> from jensen import families, testing
        >>> oracle = testing.LinearGaussian(torch.tensor([[1.0, 0.0], [1.0, 0.5]]), noise=0.5)
        >>> x = torch.ones(3, 2, dtype=torch.float64)
        >>> best = best_in_family(oracle.model, x, families.FullNormal(2))
        >>> bool((best.elbo - oracle.log_evidence(x)).abs().max() < 0.01)
        True
    """
    if min(steps, samples, rounds) < 1 or not rate > 0:
        raise OptionError(
            f"a search needs at least 1 step, 1 sample, 1 round and a positive rate; got steps={steps}, "
            f"samples={samples}, rounds={rounds}, rate={rate}."
        )
    chosen = _family_of(family if family is not None else _posterior_of(model))
    warm: Any = start
    if warm is None:
        warm = _posterior_of(model) if family is None or family is chosen else family
    how = Search(steps, rate, samples, held_out=_SCORES, every=25, patience=5, seed=seed)
    check_data(model, x, given)
    given = None if given is None else given.to(device_of(model))
    parts = []
    with differentiable(model):
        for index in torch.arange(len(x)).split(_CHUNK):
            rows = x[index].to(device_of(model))
            target = Target(model.log_joint, rows.clone(), given_rows(given, index))
            raw = _start(warm, chosen, target, index)
            parts.append(_best(target, chosen, raw, how, rounds))
    raw, *scores = (torch.cat(column) for column in zip(*parts, strict=True))
    return Best(distribution_at(chosen, raw), raw, *scores)


def _posterior_of(model: Any) -> Any:
    check_has(model, "posterior")
    return model.posterior


def _family_of(family: Any) -> Family:
    found = getattr(family, "family", family)
    if not hasattr(found, "parameter_shapes"):
        raise OptionError(
            f"{type(family).__name__} is neither a family nor a posterior with one; pass a family, such as "
            "families.FullNormal(size)."
        )
    chosen: Family = found
    return chosen


def _start(start: Any, family: Family, target: Target, index: Tensor) -> Tensor:
    if isinstance(start, Distribution):
        everything = raw_of(family, start)
        return everything[index.to(everything.device)].detach().clone()
    return raw_from(start, family, target.x, target.given).detach().clone()


def _best(target: Target, family: Family, raw: Tensor, how: Search, rounds: int) -> tuple[Tensor, ...]:
    """Parameters, ELBO, its variance and that of the start, for some rows."""
    keys = row_keys(target.x)

    def score(raw: Tensor) -> tuple[Tensor, Tensor]:
        noise = RowNoise([mix(how.seed, "score", key) for key in keys])
        return target.elbo(distribution_at(family, raw), _SCORES, noise)

    first, _ = score(raw)
    for number in range(rounds):
        raw, _ = _climbed(target, family, raw, replace(how, rate=how.rate / 2**number, seed=mix(how.seed, number)))
    return raw, *score(raw), first


def _climbed(target: Target, family: Family, raw: Tensor, how: Search) -> tuple[Tensor, Tensor]:
    """Unconstrained parameters of some rows after a climb, and their ELBO on held-out noise."""
    coordinates = coordinates_for(family, raw)
    parameters, elbo = climb(target, coordinates, how)
    if isinstance(coordinates, Raw):
        return parameters, elbo
    return raw_of(family, coordinates(parameters, torch.arange(len(raw), device=raw.device))), elbo


def fit_local(
    model: Any,
    x: Tensor,
    given: Given | None = None,
    *,
    steps: int = 500,
    samples: int = 8,
    rate: float = 0.1,
    held_out: int = 64,
    patience: int = 4,
    seed: int = 0,
) -> Tensor:
    r"""Fits the parameters of a :class:`jensen.posteriors.Local` for some rows until their ELBO stands still.

    The model stays as it is. A row never gets worse on held-out noise, and rows that are not named are left alone.

    References:
        Hoffman, Blei, Wang, Paisley (2013), Stochastic variational inference.

    Arguments:
        model: A model whose posterior is ``Local``; its table is changed in place.
        x: The rows, shape (B, \*X).
        given: Their numbers, ``Given(index=…)``; by default x holds all rows in order.
        steps: The largest number of steps.
        samples: The samples of a step.
        rate: The size of a step; for normal families in standard deviations of where it starts.
        held_out: The samples, always the same, by which what was found is compared with the start.
        patience: A row stops after this many comparisons without a gain.
        seed: The seed of the noise.

    Returns:
        The ELBO of each row on held-out noise, shape (B,), nats.

    Raises:
        OptionError: If the posterior is not ``Local``, or the numbers of the rows are not known.
    """
    local = model.posterior
    if not isinstance(local, Local):
        raise OptionError(f"fit_local fits posteriors.Local; this model has a {type(local).__name__}.")
    if (given is None or given.index is None) and len(x) == local.rows:
        given = Given(None if given is None else given.condition, torch.arange(local.rows, device=x.device))
    how = Search(steps, rate, samples, held_out, patience=patience, seed=seed)
    scores = []
    with differentiable(model):
        for index in torch.arange(len(x), device=x.device).split(_CHUNK):
            here = given_rows(given, index)
            target = Target(model.log_joint, x[index].clone(), here)
            raw = local.raw(target.x, here).detach().clone()
            parameters, elbo = _climbed(target, local.family, raw, how)
            if here is not None and here.index is not None:
                local.table[here.index] = parameters
            scores.append(elbo)
    return torch.cat(scores)


@declared("inference.FitLocally")
class FitLocally:
    r"""An objective that first fits the posterior of each row of the batch, then takes the model's step at it.

    With ``Local(rows, family, learned=False)`` this is alternating optimisation: the gradient of the objective goes to
    prior and likelihood alone, at posteriors that stand still.

    References:
        Neal, Hinton (1998), A view of the EM algorithm that justifies incremental, sparse, and other variants.

    Arguments:
        objective: The objective at the fitted posteriors.
        steps: The largest number of steps for each batch.
        samples: The samples of a step.
        rate: The size of a step, in standard deviations of where it starts.
        held_out: The samples, always the same, by which what was found is compared with the start.

    Example:
        >>> from jensen import VAE, Conditional, families, nets, objectives, posteriors, priors
        >>> local = posteriors.Local(8, families.FullNormal(2), learned=False)
        >>> vae = VAE(priors.StandardNormal(2), Conditional(nets.mlp(2, 6), families.Bernoulli(6)), local)
        >>> given = Given(index=torch.arange(8))
        >>> FitLocally(objectives.ELBO(), steps=20)(vae, torch.eye(6)[[0, 1, 2, 3, 4, 5, 0, 1]], given).loss.ndim
        0
    """

    def __init__(
        self, objective: Objective, steps: int = 100, samples: int = 8, rate: float = 0.1, held_out: int = 64
    ) -> None:
        self.objective, self.steps, self.samples, self.rate, self.held_out = objective, steps, samples, rate, held_out
        self.kind: BoundKind = objective.kind
        self.k, self.period = objective.k, objective.period
        self.least_batch = getattr(objective, "least_batch", 1)

    def __call__(self, model: Model, x: Tensor, given: Given | None = None, step: int = 0) -> Estimate:
        search = {"steps": self.steps, "samples": self.samples, "held_out": self.held_out}
        fit_local(model, x, given, rate=self.rate, seed=int(step), **search)
        estimate = self.objective(model, x, given, step)
        # One term, since the KL alone has no gradient where neither prior nor posterior learns by it.
        total = sum(estimate.terms.values(), x.new_zeros(len(x)))
        return Estimate(estimate.loss, estimate.bound, {"objective": total})
