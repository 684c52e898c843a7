"""Sanity tests of the identities that every model and objective must keep, whatever it has learnt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..evaluation import device_of, evaluation_mode, evidence_of
from ..noise import seeded
from ..roles import Objective
from .draws import Densities, densities_of, draws_of, prior_and_posterior
from .findings import SURE, Finding

__all__ = ["objective_faults", "weight_faults"]

_ROUNDING = 1e-4
_PLAIN_TERMS = {"reconstruction", "kl", "negative_bound"}


def weight_faults(model: Any, x: Tensor, *, k: int = 8, seed: int = 0) -> list[Finding]:
    r"""Checks that the log-weights of a model are those of its densities, and that its draws come from its posterior.

    .. math:: \log w = \log p(x|z) + \log p(z) - \log q(z|x), \quad \log p(x|z) + \log p(z) = \log p(x, z)

    Arguments:
        model: A model with one prior and one posterior.
        x: Some rows, shape (N, \*X), in the values that the model sees.
        k: The number of draws for each row.
        seed: The seed of the draws.

    Returns:
        What is wrong; empty where nothing is.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> weight_faults(oracle.model, torch.zeros(4, 3, dtype=torch.float64))
        []
    """
    draws = draws_of(model, x, k=k, seed=seed)
    parts = {
        "log_likelihood": draws.log_likelihood.mean(0),
        "log_prior": draws.log_prior.mean(0),
        "log_posterior": draws.log_posterior.mean(0),
    }
    faults = []
    expected = _combined(parts, 1, 1, -1)
    if _differ(draws.log_weight.mean(0), expected, parts):
        what = _recognised(draws.log_weight.mean(0), parts)
        faults.append(
            Finding(
                "fault",
                "weights",
                f"The log-weights are not log p(x|z) + log p(z) − log q(z|x): {what}.",
                "Every bound that is computed from them is wrong.",
                "Correct log_weight in the model's draw.",
            )
        )
    if evidence_of(model) != "predictive":  # where each draw has shared latents of its own, no other density does
        faults += _density_faults(model, x, draws.z, parts)
    return faults


def _density_faults(model: Any, x: Tensor, z: Tensor, parts: Mapping[str, Tensor]) -> list[Finding]:
    """Whether the densities that a model gives of z are those with which it drew it."""
    with evaluation_mode(model):
        device = device_of(model)
        z = z.to(device)
        joint = model.log_joint(x.to(device), z).double().cpu().mean(0).clone()
        again = parts["log_posterior"]
        if hasattr(model, "posterior"):
            again = prior_and_posterior(model, x)[1].log_prob(z).double().cpu().mean(0).clone()
    faults = []
    if _differ(joint, _combined(parts, 1, 1, 0), parts):
        faults.append(_inconsistent("log p(x, z)", "log_joint", float((joint - _combined(parts, 1, 1, 0)).mean())))
    if _differ(again, parts["log_posterior"], parts):
        faults.append(_inconsistent("log q(z|x)", "posterior", float((again - parts["log_posterior"]).mean())))
    return faults


def _inconsistent(what: str, where: str, difference: float) -> Finding:
    return Finding(
        "fault",
        "weights",
        f"{what} of {where} differs from that of draw by {difference:+.3g} nats on average.",
        "Training and evaluation do not see the same model.",
        f"Make draw and {where} use the same distributions.",
    )


def _combined(parts: Mapping[str, Tensor], likelihood: int, prior: int, posterior: int) -> Tensor:
    return likelihood * parts["log_likelihood"] + prior * parts["log_prior"] + posterior * parts["log_posterior"]


def _differ(found: Tensor, expected: Tensor, parts: Mapping[str, Tensor]) -> bool:
    size = 1 + sum((part.abs() for part in parts.values()), torch.zeros_like(expected))
    return bool(((found - expected).abs() > _ROUNDING * size).any())


_MISTAKES = {
    (1, -1, 1): "the sign of log p(z) − log q(z|x) is flipped",
    (1, 2, -2): "log p(z) − log q(z|x), the KL, is counted twice",
    (-1, -1, 1): "the sign of the whole is flipped",
    (1, 0, 0): "log p(z) − log q(z|x), the KL, is missing",
    (1, 1, 0): "log q(z|x) is missing",
    (1, 0, -1): "log p(z) is missing",
    (1, 1, 1): "the sign of log q(z|x) is flipped",
    (1, -1, -1): "the sign of log p(z) is flipped",
    (-1, 1, -1): "the sign of log p(x|z) is flipped",
}


def _recognised(found: Tensor, parts: Mapping[str, Tensor]) -> str:
    for signs, mistake in _MISTAKES.items():
        if not _differ(found, _combined(parts, *signs), parts):
            return mistake
    return f"they differ by {float((found - _combined(parts, 1, 1, -1)).mean()):+.3g} nats on average"


def objective_faults(
    objective: Objective, model: Any, x: Tensor, *, repeats: int = 32, k: int = 512, seed: int = 0
) -> list[Finding]:
    r"""Checks what an objective reports and charges against the log-weights of the model.

    A lower bound that is reported lies between the ELBO and the log-mean-exp of many weights, within errors; and the
    loss charges the KL as often as β says.

    Arguments:
        objective: The objective.
        model: A model with one prior and one posterior.
        x: Some rows, shape (N, \*X), in the values that the model sees.
        repeats: How often the objective is evaluated.
        k: The number of draws behind the bounds that it is compared with.
        seed: The seed of the draws.

    Returns:
        What is wrong; empty where nothing is.

    Example:
        >>> from jensen import objectives, testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> objective_faults(objectives.ELBO(), oracle.model, torch.zeros(4, 3, dtype=torch.float64))
        []
    """
    draws = densities_of(model, x, k=max(k, objective.k), seed=seed)
    # A mean of weights of an order below that of their logarithms lies below the ELBO, and is a bound all the same.
    above_elbo = getattr(getattr(objective, "target", None), "alpha", 0.0) <= 1
    bounds, losses = [], []
    with evaluation_mode(model), torch.inference_mode(mode=False), torch.no_grad():
        rows = x.to(device_of(model))
        for repeat in range(repeats):
            with seeded(seed, "objective", repeat):
                estimate = objective(model, rows, None, objective.period)
            losses.append(estimate.loss.double().cpu())
            if estimate.bound is not None:
                bounds.append(estimate.bound.double().cpu())
            terms = set(estimate.terms)
    found = []
    if bounds and objective.kind == "lower":
        found += _bound_faults(torch.stack(bounds), draws, above_elbo=above_elbo)
    if terms <= _PLAIN_TERMS and above_elbo and not has_floor(objective) and hasattr(objective, "beta"):
        beta = float(objective.beta(objective.period))
        found += _loss_faults(torch.stack(losses), draws, beta, single=objective.k == 1)
    return found


def has_floor(objective: Any) -> bool:
    """Whether some of the KL is free (free bits), so that the loss is no bound with a weight."""
    return any(getattr(objective, name, 0) for name in ("free_bits", "free_bits_per_group"))


def _error(samples: Tensor) -> float:
    """The standard error of the mean over rows of means over samples, shape (S, N), from sampling alone."""
    if samples.ndim == 1:
        return float(samples.std()) / math.sqrt(len(samples))
    return float((samples.var(0) / len(samples)).sum().sqrt()) / samples.shape[1]


def _bound_faults(bounds: Tensor, draws: Densities, *, above_elbo: bool) -> list[Finding]:
    log_weight = draws.log_weight
    elbo, k = float(log_weight.mean()), len(log_weight)
    tight = float((log_weight.logsumexp(0) - math.log(k)).mean())
    bound = float(bounds.mean())
    slack = _ROUNDING * (1 + float(draws.log_likelihood.abs().mean()))
    error = SURE * math.hypot(_error(bounds), _error(log_weight)) + slack
    kl = float((draws.log_posterior - draws.log_prior).mean())
    excess = (bound - elbo) / kl if kl else 0.0
    # The error of the tight bound is the smaller one: it averages weights, not their logarithms.
    if bound > tight + error:
        return [_reported(bound, f"above log p(x) ≥ {tight:.2f} from {k} weights", excess)]
    if above_elbo and bound < elbo - error:
        return [_reported(bound, f"below the ELBO of its own log-weights, {elbo:.2f}", excess)]
    return []


def _reported(bound: float, where: str, excess: float) -> Finding:
    times = 1 - excess
    known = {
        2: " as if the KL were counted twice",
        0: " as if the KL were left out",
        -1: " as if its sign were flipped",
    }
    close = next((text for n, text in known.items() if abs(times - n) < 0.05), "")
    return Finding(
        "fault",
        "objective",
        f"The objective reports a bound of {bound:.2f} nats, {where}{',' if close else ''}{close}.",
        "What it reports is not the bound that it declares.",
        "Correct the bound of the objective.",
    )


def _loss_faults(losses: Tensor, draws: Densities, beta: float, *, single: bool) -> list[Finding]:
    likelihood = draws.log_likelihood
    ratio = draws.log_posterior - draws.log_prior
    kl = float(ratio.mean())
    expected = -float(likelihood.mean()) + beta * kl
    slack = _ROUNDING * (1 + float(likelihood.abs().mean()))
    error = SURE * math.hypot(_error(losses), _error(beta * ratio - likelihood)) + slack
    excess = float(losses.mean()) - expected
    if abs(kl) < error or (excess < error and not (single and excess < -error)):
        return []
    return [
        Finding(
            "fault",
            "objective",
            f"The loss charges {beta + excess / kl:.2f} times the KL where β is {beta:g}.",
            "The KL is counted twice, or its sign is wrong: what is minimised is another objective."
            if abs(excess / kl - 1) < 0.05
            else "What is minimised is another objective than the one declared.",
            "Correct the loss of the objective.",
        )
    ]
