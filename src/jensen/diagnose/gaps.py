"""How far the bound is from log p(x), split into its causes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..errors import DataError
from ..evaluation import bounds, device_of, evaluation_mode, measure_of
from ..noise import mix, seeded
from .measured import Measured, mean_of

__all__ = ["GapSplit", "InferenceGaps", "inference_gaps", "split_gap"]

CLIMB_STEPS, CLIMB_DRAWS = 300, 8
"""Of the climb to the best member of the family, for each row."""

_BLOCK_VALUES = 2**22

BIASES = {
    "approximation": "too small where log p(x) is bounded loosely, too large where the search stops early",
    "amortisation": "too small where the search stops early, or finds only a local optimum",
    "generalisation": "of the encoder and the decoder together: between rows that training saw and rows it did not",
}
"""What biases each gap, in a line."""


@dataclass(frozen=True)
class GapSplit:
    r"""The gap between log p(x) and the ELBO of an encoder over some rows, nats.

    .. math:: \log p(x) - L[q_\phi] = (\log p(x) - L[q^*]) + (L[q^*] - L[q_\phi])

    Arguments:
        log_p: The best lower bound on log p(x).
        best: The ELBO of the best member :math:`q^*` of the posterior family for each row.
        encoder: The ELBO of the encoder's posterior.
        approximation: The first difference, the cost of the family.
        amortisation: The second, the cost of the encoder.
        n: The number of rows.
    """

    log_p: Measured
    best: Measured
    encoder: Measured
    approximation: Measured
    amortisation: Measured
    n: int

    def shifted(self, nats: float) -> GapSplit:
        """The same in other units of x: every log-density rises by a constant, and differences stay."""
        log_p, best, encoder = (
            replace(part, value=part.value + nats) for part in (self.log_p, self.best, self.encoder)
        )
        return replace(self, log_p=log_p, best=best, encoder=encoder)

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data."""
        names = ("log_p", "best", "encoder", "approximation", "amortisation")
        return {**{name: getattr(self, name).to_json() for name in names}, "n": self.n}


@dataclass(frozen=True)
class InferenceGaps:
    """The gap on rows that the model was trained on and on held-out rows.

    Arguments:
        train: On training rows; None where there are none.
        held_out: On held-out rows.
        generalisation: The ELBO on training rows less that on held-out rows; None likewise.
    """

    train: GapSplit | None
    held_out: GapSplit
    generalisation: Measured | None

    def shifted(self, nats: float) -> InferenceGaps:
        """The same in other units of x."""
        train = None if self.train is None else self.train.shifted(nats)
        return replace(self, train=train, held_out=self.held_out.shifted(nats))

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data, with what biases each."""
        return {
            "train": None if self.train is None else self.train.to_json(),
            "held_out": self.held_out.to_json(),
            "generalisation": None if self.generalisation is None else self.generalisation.to_json(),
            "biases": BIASES,
        }


def split_gap(log_p: Tensor, best: Tensor, encoder: Tensor) -> GapSplit:
    """The split from its parts for each row, shape (N,), nats; differences are paired over rows.

    Example:
        >>> import torch
        >>> split_gap(torch.zeros(2), torch.full((2,), -1.0), torch.full((2,), -3.0)).amortisation.value
        2.0
    """
    if not len(log_p) == len(best) == len(encoder):
        raise DataError(f"the parts of a gap are of the same rows; got {len(log_p)}, {len(best)} and {len(encoder)}.")
    return GapSplit(
        log_p=mean_of(log_p),
        best=mean_of(best),
        encoder=mean_of(encoder),
        approximation=mean_of(log_p - best),
        amortisation=mean_of(best - encoder),
        n=len(log_p),
    )


def inference_gaps(
    model: Any,
    held_out: Tensor,
    train: Tensor | None = None,
    *,
    steps: int = CLIMB_STEPS,
    samples: int = 1000,
    temperatures: int = 0,
    chains: int = 16,
    seed: int = 0,
) -> InferenceGaps:
    r"""Splits the gap between log p(x) and the ELBO into what the family, the encoder and new rows cost.

    For each row the ELBO is climbed in the parameters of its own posterior, from the encoder's answer on. All bounds
    are then measured with fresh noise. log p(x) is the highest on average, by more than its noise, of three lower
    bounds: by importance weights with the encoder's posterior, with the climbed one, and by annealing.

    References:
        Cremer, Li, Duvenaud (2018), Inference suboptimality in variational autoencoders.

    Arguments:
        model: A model with one prior and one posterior.
        held_out: Rows that training did not see, shape (N, \*X), in the values that the model sees.
        train: Rows that it saw, shape (M, \*X).
        steps: The largest number of steps of a climb.
        samples: The number of draws behind each bound.
        temperatures: The number of temperatures of annealing; 0 for none.
        chains: The number of chains of annealing for each row.
        seed: The seed of climbs, draws and chains.

    Raises:
        OptionError: If the family of the posterior is not known.

    Example:
        >>> import torch
        >>> from jensen import VAE, Conditional, families, nets, priors
        >>> encoder = Conditional(nets.mlp(3, 4), families.Normal(2, scale=families.PredictedScale()))
        >>> model = VAE(priors.StandardNormal(2), Conditional(nets.mlp(2, 3), families.Bernoulli(3)), encoder)
        >>> found = inference_gaps(model, torch.ones(5, 3), steps=50, samples=200)
        >>> found.held_out.amortisation.value > -0.1, found.train
        (True, None)
    """

    def split(x: Tensor, name: str) -> GapSplit:
        return _split(model, x, (steps, samples, temperatures, chains), mix(seed, name))

    seen = None if train is None else split(train, "train")
    unseen = split(held_out, "held out")
    difference = None
    if seen is not None:
        error = math.hypot(seen.encoder.se, unseen.encoder.se)
        difference = Measured(seen.encoder.value - unseen.encoder.value, error)
    return InferenceGaps(train=seen, held_out=unseen, generalisation=difference)


def _split(model: Any, x: Tensor, budget: tuple[int, int, int, int], seed: int) -> GapSplit:
    from ..inference import Weighted, ais, best_in_family

    steps, samples, temperatures, chains = budget
    found = best_in_family(model, x, steps=steps, samples=CLIMB_DRAWS, rounds=1, seed=mix(seed, "climb"))
    encoder = bounds(model, x, k=samples, seed=mix(seed, "encoder"))
    best = log_weights_of(model, x, found.posterior, samples, mix(seed, "best"))
    climbed = Weighted(best, encoder.keys, "lower", measure_of(model))
    lower = [(encoder.log_likelihood, encoder.log_likelihood_variance), (climbed.log_likelihood, climbed.variance)]
    if temperatures:
        annealed = ais(model, x, temperatures=temperatures, chains=chains, start=model.posterior, seed=mix(seed, "ais"))
        lower.append((annealed.log_likelihood, annealed.variance))
    log_p, _ = max(lower, key=lambda bound: _at_least(*bound))
    return split_gap(log_p, best.mean(0), encoder.elbo)


def _at_least(bound: Tensor, variance: Tensor) -> float:
    """The mean of a bound less four of its Monte Carlo standard errors: a noisy one must not win for its noise."""
    return float(bound.mean() - 4 * variance.nan_to_num().sum().sqrt() / len(bound))


def log_weights_of(model: Any, x: Tensor, q: Distribution, k: int, seed: int) -> Tensor:
    """K log-weights of each row under posteriors that are given, shape (K, N), nats, float64."""
    rows = x.to(device_of(model))
    block = max(1, _BLOCK_VALUES // x.numel())
    parts = []
    with evaluation_mode(model), seeded(seed, "given posteriors"):
        for first in range(0, k, block):
            z = q.sample(torch.Size((min(block, k - first),)))
            parts.append((model.log_joint(rows, z) - q.log_prob(z)).double().cpu())
    return torch.cat(parts).clone()
