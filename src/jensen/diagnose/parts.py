"""The parts of a page, each from its subject."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..distributions import closed_form_kl
from ..errors import DataError, JensenError
from ..evaluation import evaluation_mode, evidence_of
from ..noise import mix, row_keys, seeded
from ..numbers import Number
from ..objectives import ELBO, IWAE, DoublyReparameterised, LeaveOneOut, StickingTheLanding
from ..roles import Objective
from .aggregate import Aggregate
from .budget import ANNEALED_ROWS, BATCH, CHAINS, GAP_ROWS, IDENTITY_ROWS, LEAST, SIMULATED, SURGERY_DRAWS, TEMPERATURES
from .calibration import Calibration, simulation_calibration
from .collapse import LatentUse, latent_use
from .disentanglement import Disentanglement, InformationGap, dci, mutual_information_gap
from .draws import densities_of, prior_and_posterior, row_choice, some_rows
from .faults import has_floor, objective_faults, weight_faults
from .features import Frequencies, feature_frequencies
from .findings import Finding
from .gaps import InferenceGaps, inference_gaps
from .gradients import GradientNoise, gradient_noise
from .page import Subject, halves
from .prior_gap import PriorGap, prior_gap
from .representation import LabelProbe, probe_labels
from .scale import PosteriorScale, posterior_scale
from .surgery import Surgery, elbo_surgery
from .weights import WeightReport, weigh

__all__ = ["IDENTITIES", "PARTS"]

_PROBED_ROWS = 4000
_SCALED_DRAWS = 10_000


def chosen(subject: Subject, part: str) -> Tensor:
    """The rows of which a costly part is measured."""
    usual = some_rows(subject.x, subject.rows, subject.seed)
    return some_rows(usual, subject.share_of(part, len(usual), LEAST[part]), subject.seed)


def weight_identities(subject: Subject) -> list[Finding]:
    """What is wrong with the log-weights, whatever has been learnt."""
    return weight_faults(subject.model, _for_identities(subject), seed=subject.seed)


def objective_identities(subject: Subject) -> list[Finding]:
    """What is wrong with the objective, whatever has been learnt."""
    if subject.objective is None:
        return []
    return objective_faults(subject.objective, subject.model, _for_identities(subject), seed=subject.seed)


def _for_identities(subject: Subject) -> Tensor:
    return some_rows(subject.x, subject.share_of("identities", IDENTITY_ROWS, LEAST["identities"]), subject.seed)


IDENTITIES = (weight_identities, objective_identities)


def weights(subject: Subject) -> WeightReport:
    """Bounds and estimates of log p(x)."""
    x = chosen(subject, "weights")
    log_weight = densities_of(subject.model, x, k=subject.samples, seed=subject.seed).log_weight + subject.log_jacobian
    labels: dict[str, Any] = {"measure": subject.measure, "split": subject.split, "protocol": subject.protocol}
    labels["kind"] = evidence_of(subject.model)
    return weigh(log_weight, keys=row_keys(x), **labels)


def annealed(subject: Subject) -> dict[str, Number]:
    """Annealed importance sampling from the posterior, beside importance sampling of the same rows."""
    from ..inference import ais, importance

    x = some_rows(chosen(subject, "annealed"), ANNEALED_ROWS, subject.seed)
    model, seed = subject.model, subject.seed
    temperatures = subject.share_of("annealed", TEMPERATURES, LEAST["annealed"])
    found = ais(model, x, temperatures=temperatures, chains=CHAINS, start=model.posterior, seed=seed)
    k = subject.share_of("annealed", subject.samples, LEAST["beside"])
    plain = importance(model, x, model.posterior, k=k, seed=seed)
    return {name: _shown(subject, each.number(subject.split)) for name, each in (("ais", found), ("iwae", plain))}


def bracket(subject: Subject) -> dict[str, Number]:
    """Bounds from both sides on rows simulated from the model."""
    from ..inference import bdmc

    model = subject.model
    temperatures = subject.share_of("bracket", TEMPERATURES, LEAST["annealed"])
    how: dict[str, Any] = {"temperatures": temperatures, "chains": CHAINS, "start": model.posterior}
    found = bdmc(model, min(ANNEALED_ROWS, subject.rows), seed=subject.seed, **how)
    sides = (("lower", found.lower), ("upper", found.upper))
    return {name: _shown(subject, side.number("simulated")) for name, side in sides}


def _shown(subject: Subject, number: Number) -> Number:
    """A number in the user's units."""
    return replace(number, mean=number.mean + subject.log_jacobian, protocol=subject.protocol)


def gaps(subject: Subject) -> InferenceGaps:
    """The gap of the bound, on some training and held-out rows."""
    usual = some_rows(subject.x, subject.rows, subject.seed)
    held = some_rows(usual, subject.share_of("gaps", min(GAP_ROWS, len(usual)), LEAST["gaps"]), subject.seed)
    train = None if subject.train is None else some_rows(subject.train, len(held), subject.seed)
    found = inference_gaps(subject.model, held, train, samples=subject.samples, seed=subject.seed)
    return found.shifted(subject.log_jacobian)


def surgery(subject: Subject) -> Surgery:
    """What the average KL of the whole split is made of."""
    draws = subject.share_of("surgery", SURGERY_DRAWS, LEAST["surgery"])
    return elbo_surgery(subject.model, subject.x, draws=draws, seed=subject.seed)


def use(subject: Subject) -> LatentUse:
    """Which latents are used."""
    return latent_use(subject.model, chosen(subject, "use"), seed=subject.seed)


def features(subject: Subject) -> Frequencies:
    """How often features are on, over all rows."""
    return feature_frequencies(subject.model, subject.x)


def gradients(subject: Subject) -> dict[str, dict[str, dict[str, GradientNoise]]]:
    """The noise of gradients under each estimator of each objective, on one training batch."""
    source = subject.x if subject.train is None else subject.train
    x = some_rows(source, subject.share_of("gradients", BATCH, LEAST["gradients"]), subject.seed)
    found = {
        target: gradient_noise(subject.model, x, candidates, seed=subject.seed)
        for target, candidates in _candidates(subject, x).items()
    }
    known = {target: noise for target, noise in found.items() if noise and any(noise.values())}
    if not known:
        raise JensenError("neither encoder nor decoder has parameters that learn.")
    return known


def _candidates(subject: Subject, x: Tensor) -> dict[str, dict[str, Objective]]:
    """Estimators by the objective whose gradient they share; the simplest first."""
    with evaluation_mode(subject.model):
        prior, posterior = prior_and_posterior(subject.model, x[:2])
        formula = closed_form_kl(posterior, prior) is not None
    if not posterior.has_rsample:
        return {"ELBO, K = 4": {"leave-one-out": ELBO(4, estimator=LeaveOneOut())}}
    elbo: dict[str, Objective] = {"KL by its formula": ELBO()} if formula else {}
    elbo["KL from samples"] = ELBO(closed_form_kl=False)
    elbo["sticking the landing"] = ELBO(estimator=StickingTheLanding())
    k = getattr(subject.objective, "k", 1)
    if not isinstance(subject.objective, IWAE) or k == 1:
        return {"ELBO": elbo}
    return {
        f"IWAE, K = {k}": {
            "reparameterised": IWAE(k),
            "doubly reparameterised": IWAE(k, estimator=DoublyReparameterised()),
        },
        "ELBO": elbo,
    }


def calibration(subject: Subject) -> Calibration:
    """Simulation-based calibration."""
    rows = subject.share_of("calibration", SIMULATED, LEAST["calibration"])
    return simulation_calibration(subject.model, rows=rows, seed=subject.seed)


def scale(subject: Subject) -> PosteriorScale:
    """Whether all posteriors should be wider or narrower for the objective that they were trained by."""
    # That of aggressive inference is the one it wraps.
    objective = getattr(subject.objective, "objective", subject.objective)
    target = getattr(objective, "encoder_target", None)
    beta = getattr(objective, "beta", None)
    if objective is not None and not callable(beta):
        raise JensenError(
            f"{type(objective).__name__} asks something else of q(z|x) than a bound does, which another scale may suit."
        )
    if has_floor(objective):
        raise JensenError("below a floor (free bits) the KL is free, and another scale than that of a bound may suit.")
    weight = float(beta(objective.period)) if callable(beta) else 1.0
    if target is None:
        return posterior_scale(subject.model, chosen(subject, "scale"), beta=weight, seed=subject.seed)
    sets = max(1, 16 // objective.k)
    x = some_rows(chosen(subject, "scale"), max(2, _SCALED_DRAWS // (objective.k * sets)), subject.seed)
    budget: dict[str, Any] = {"k": objective.k, "sets": sets, "beta": weight, "seed": subject.seed}
    return posterior_scale(subject.model, x, mean=target.value, **budget)


def prior(subject: Subject) -> PriorGap:
    """Whether draws from the prior look like codes."""
    source = subject.x if subject.train is None else subject.train
    return prior_gap(subject.model, some_rows(source, _PROBED_ROWS, subject.seed), seed=subject.seed)


def labels(subject: Subject) -> dict[str, LabelProbe]:
    """How well labels are read from posterior means, from samples and from the rows themselves."""
    if subject.labels is None:
        raise DataError("the rows have no labels.")
    if subject.train is not None and subject.train_labels is not None:
        numbers = row_choice(len(subject.train), _PROBED_ROWS, subject.seed)
        first, first_labels = subject.train[numbers], subject.train_labels[numbers]
        numbers = row_choice(len(subject.x), _PROBED_ROWS, subject.seed)
        held, held_labels = subject.x[numbers], subject.labels[numbers]
    else:
        one, other = halves(len(subject.x), mix(subject.seed, "halves"))
        first, first_labels, held, held_labels = (
            subject.x[one],
            subject.labels[one],
            subject.x[other],
            subject.labels[other],
        )
    codes, held_codes = (_codes(subject, rows) for rows in (first, held))
    found = {
        name: probe_labels(codes[name], first_labels, held_codes[name], held_labels) for name in ("means", "samples")
    }
    return {**found, "rows": probe_labels(first, first_labels, held, held_labels)}


def _codes(subject: Subject, x: Tensor) -> dict[str, Tensor]:
    q = Aggregate(subject.model, x)
    with torch.inference_mode(), seeded(subject.seed, "codes"):
        means = torch.cat([part.mean.flatten(1).cpu() for part in q.parts])
        samples = torch.cat([part.sample().flatten(1).cpu() for part in q.parts])
    return {"means": means.clone(), "samples": samples.clone()}


def information_gap(subject: Subject) -> InformationGap:
    """The mutual information gap of the posterior means."""
    codes, factors = _with_factors(subject)
    return mutual_information_gap(codes, factors)


def disentanglement(subject: Subject) -> Disentanglement:
    """Disentanglement, completeness and informativeness of the posterior means."""
    codes, factors = _with_factors(subject)
    return dci(codes, factors, seed=subject.seed)


def _with_factors(subject: Subject) -> tuple[Tensor, Tensor]:
    if subject.factors is None:
        raise DataError("the rows have no factors of variation.")
    numbers = row_choice(len(subject.x), _PROBED_ROWS, subject.seed)
    return _codes(subject, subject.x[numbers])["means"], subject.factors[numbers]


PARTS = {
    "weights": weights,
    "annealed": annealed,
    "bracket": bracket,
    "gaps": gaps,
    "surgery": surgery,
    "use": use,
    "features": features,
    "gradients": gradients,
    "calibration": calibration,
    "scale": scale,
    "prior": prior,
    "labels": labels,
    "information_gap": information_gap,
    "disentanglement": disentanglement,
}
"""Each part of a page by its name."""
