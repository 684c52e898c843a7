"""What the parts of a page cost, and how much of each fits into a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..evaluation import CHUNK_ROWS, device_of, evaluation_mode
from ..inference.ais import LEAPFROGS, PRELIMINARY_CHAINS, SETTLING
from ..noise import seeded
from .calibration import RANKED
from .draws import prior_and_posterior
from .findings import Finding
from .gaps import CLIMB_DRAWS, CLIMB_STEPS
from .gradients import REPEATS
from .page import Subject, scaled

__all__ = ["BATCH", "Pace", "Plan", "fit_into", "measure_pace", "plan_parts", "reason", "told"]

_ROWS, _DRAWS, _MOST_DRAWS = 16, 8, 512
_LONG = 0.1  # seconds for all rows, from which on a call itself costs next to nothing
_QUICK = 0.5  # seconds; a slower pass is not measured again to be sure
_SPARE = 0.75  # of the time for what is foreseen, since the rest is not: reading codes, forests, probes
_SMALLEST = 1 / 64


@dataclass(frozen=True)
class Pace:
    """What one row with one draw of z costs, seconds.

    Arguments:
        draw: To encode, draw, decode and score it.
        gradient: To score it once more, by p(x, z) and by q(z|x), with the gradient in z.
        simulation: To simulate a row.
        density: To score by q(z|x) a code that was drawn for another row.
    """

    draw: float
    gradient: float
    simulation: float
    density: float

    def seconds(self, draws: float, gradients: float = 0.0, simulations: float = 0.0, densities: float = 0.0) -> float:
        """What so many of each cost."""
        times = (self.draw, self.gradient, self.simulation, self.density)
        return sum(count * each for count, each in zip((draws, gradients, simulations, densities), times, strict=True))


@dataclass(frozen=True)
class Plan:
    """How much of each part is measured.

    Arguments:
        shares: The share of the rows, or temperatures, of each part, 1 for all; what is left out has none.
        left_out: What each of the others would cost at the least, seconds.
        whole: What all parts would cost in full, seconds.
    """

    shares: dict[str, float]
    left_out: dict[str, float]
    whole: float


def measure_pace(model: Any, x: Tensor, seed: int = 0) -> Pace:
    r"""Times single passes of a model.

    Arguments:
        model: A model with one prior and one posterior, or with draws alone.
        x: Rows in the values that the model sees, shape (N, \*X).
        seed: The seed of the draws.
    """
    from ..inference.proposals import differentiable

    rows = x[:_ROWS].to(device_of(model))
    with differentiable(model), seeded(seed, "pace"):
        draw, draws = 0.0, _DRAWS
        while draw * draws < _LONG and draws <= _MOST_DRAWS:  # many draws at once cost less each
            draw = _timed(partial(_weights, model, rows, draws)) / draws
            draws *= 8
        draw /= len(rows)
        if not all(hasattr(model, role) for role in ("prior", "posterior")):
            return Pace(draw, 3 * draw, draw, draw)
        prior, posterior = prior_and_posterior(model, rows)
        z = posterior.sample(torch.Size((_DRAWS,)))

        def gradient() -> Tensor:
            with torch.enable_grad():
                at = z.detach().requires_grad_()
                total = model.log_joint(rows, at).sum() + posterior.log_prob(at).sum()
                return torch.autograd.grad(total, at)[0]

        # Discrete codes are not moved along gradients; what else asks for gradients goes back through the networks.
        others = z[:, torch.arange(len(rows)).roll(1)]
        density = _timed(lambda: posterior.log_prob(others)) / (len(rows) * _DRAWS)
        slope = _timed(gradient) / (len(rows) * _DRAWS) if posterior.has_rsample else 3 * draw
    with evaluation_mode(model), seeded(seed, "pace"):
        codes = prior.sample(torch.Size((CHUNK_ROWS,)))
        simulation = _timed(lambda: model.decode(codes).sample()) / CHUNK_ROWS
    return Pace(draw, slope, simulation, density)


def _weights(model: Any, rows: Tensor, draws: int) -> Tensor:
    weights: Tensor = model.draw(rows, None, draws).log_weight
    return weights


def _timed(work: Callable[[], Tensor]) -> float:
    taken: list[float] = []
    while len(taken) < 3 and (not taken or taken[0] < _QUICK):
        start = time.perf_counter()
        float(work().sum())  # waits for a device that works on its own
        taken.append(time.perf_counter() - start)
    return min(taken)


def plan_parts(subject: Subject, pace: Pace, parts: tuple[str, ...], seconds: float) -> Plan:
    """The largest shares of parts that fit into a time.

    Arguments:
        subject: What is checked.
        pace: What its passes cost.
        parts: The names of the parts wanted.
        seconds: The time for all of them.
    """

    def cost_of(part: str) -> Callable[[float], float]:
        return lambda share: pace.seconds(*_WORK[part](subject, share))

    return fit_into({part: cost_of(part) for part in parts if part in _WORK}, seconds)


def fit_into(costs: Mapping[str, Callable[[float], float]], seconds: float) -> Plan:
    """Halves the dearest part until all fit, and leaves out what is still too dear when no part can be smaller.

    Arguments:
        costs: For each part, what a share of it costs, seconds.
        seconds: The time for all of them; three quarters of it are given away.

    Example:
        >>> fit_into({"dear": lambda share: 100 * share, "fixed": lambda share: 20.0}, seconds=60).shares
        {'dear': 0.25, 'fixed': 1.0}
        >>> fit_into({"dear": lambda share: max(50.0, 100 * share), "cheap": lambda share: share}, seconds=60).left_out
        {'dear': 50.0}
    """
    shares = dict.fromkeys(costs, 1.0)
    whole = sum(cost(1.0) for cost in costs.values())
    left_out: dict[str, float] = {}
    while shares:
        now = {part: costs[part](share) for part, share in shares.items()}
        if sum(now.values()) <= _SPARE * seconds:
            break
        smaller = {
            part: now[part]
            for part, share in shares.items()
            if share > _SMALLEST and costs[part](share / 2) < 0.99 * now[part]
        }
        if smaller:
            shares[max(smaller, key=smaller.__getitem__)] /= 2
        else:
            dearest = max(now, key=now.__getitem__)
            left_out[dearest] = now[dearest]
            del shares[dearest]
    # Room that a part has left behind goes to those that were made smaller for it.
    for part in shares:
        while shares[part] < 1 and left_out:
            others = sum(costs[name](share) for name, share in shares.items() if name != part)
            if others + costs[part](2 * shares[part]) > _SPARE * seconds:
                break
            shares[part] *= 2
    return Plan(shares, left_out, whole)


def told(plan: Plan, seconds: float, skipped: set[str]) -> Finding | None:
    """What a page says about parts that were measured on less than all; None where none was."""
    parts = [f"{part} 1/{round(1 / share)}" for part, share in plan.shares.items() if share < 1 and part not in skipped]
    if not parts:
        return None
    return Finding(
        "note",
        "time",
        f"To take about {in_words(seconds)}, parts took a share of their rows or temperatures: {', '.join(parts)}.",
        "Their errors are wider for it.",
        f"All of it takes about {in_words(plan.whole / _SPARE)} here: --time-budget.",
    )


def reason(least: float, seconds: float) -> str:
    """Why a part was left out."""
    return (
        f"the fewest rows that say anything take about {in_words(least)} with this model here, too much of "
        f"{in_words(seconds)}. Allow more with --time-budget."
    )


def in_words(seconds: float) -> str:
    """A time, rounded for a reader.

    Example:
        >>> in_words(42.3), in_words(170.0), in_words(9000.0)
        ('42 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


Counts = tuple[float, ...]
"""Draws, gradients, simulated rows and densities of other rows' codes, as far as there are any."""


def _costly(part: str) -> Callable[[Subject, float], int]:
    return lambda subject, share: scaled(min(subject.rows, len(subject.x)), share, LEAST[part])


def _sized(part: str, full: int) -> Callable[[Subject, float], int]:
    return lambda subject, share: scaled(min(full, len(subject.x)), share, LEAST[part])


def _annealing(subject: Subject, share: float, *, both_ways: bool) -> Counts:
    temperatures = scaled(TEMPERATURES, share, LEAST["annealed"])
    steps = (temperatures + SETTLING) * PRELIMINARY_CHAINS + (1 + both_ways) * temperatures * CHAINS
    gradients = ANNEALED_ROWS * LEAPFROGS * steps
    beside = CHUNK_ROWS * scaled(subject.samples, share, LEAST["beside"])  # importance sampling of padded chunks
    return (0.0, gradients, ANNEALED_ROWS) if both_ways else (beside, gradients, 0.0)


def _gaps(subject: Subject, share: float) -> Counts:
    rows, sets = _sized("gaps", GAP_ROWS)(subject, share), 1 if subject.train is None else 2
    return sets * (rows + max(rows, CHUNK_ROWS)) * subject.samples, sets * rows * CLIMB_STEPS * CLIMB_DRAWS, 0.0


def _gradients(subject: Subject, share: float) -> Counts:
    rows = scaled(BATCH, share, LEAST["gradients"])
    return 0.0, _ESTIMATORS * REPEATS * rows * getattr(subject.objective, "k", 1), 0.0


def _surgery(subject: Subject, share: float) -> Counts:
    draws = scaled(SURGERY_DRAWS, share, LEAST["surgery"])
    return 3.0 * draws, 0.0, 0.0, 2.0 * draws * len(subject.x)


def _calibration(subject: Subject, share: float) -> Counts:
    rows = scaled(SIMULATED, share, LEAST["calibration"])
    return 2 * rows * RANKED, 0.0, rows  # what is drawn is scored once more, together with the truth


ANNEALED_ROWS, CHAINS, TEMPERATURES, GAP_ROWS, BATCH, SIMULATED, IDENTITY_ROWS, SURGERY_DRAWS = (
    16,
    4,
    100,
    50,
    100,
    500,
    64,
    1000,
)
"""How much of a part there is in full."""
LEAST = {
    "identities": 8,
    "weights": 10,
    "annealed": 25,
    "beside": 100,
    "gaps": 8,
    "surgery": 50,
    "use": 20,
    "gradients": 16,
    "calibration": 100,
    "scale": 20,
}
"""The fewest rows, temperatures or draws with which a part says anything."""
_ESTIMATORS = 3
_IDENTITY_DRAWS, _USES, _STRETCHED = 600, 24, 16 * 14
_WORK: dict[str, Callable[[Subject, float], Counts]] = {
    "identities": lambda s, share: (_sized("identities", IDENTITY_ROWS)(s, share) * _IDENTITY_DRAWS, 0.0, 0.0),
    "weights": lambda s, share: (_costly("weights")(s, share) * s.samples, 0.0, 0.0),
    "annealed": lambda s, share: _annealing(s, share, both_ways=False),
    "bracket": lambda s, share: _annealing(s, share, both_ways=True),
    "gaps": _gaps,
    "surgery": _surgery,
    "use": lambda s, share: (_costly("use")(s, share) * _USES, 0.0, 0.0),
    "gradients": _gradients,
    "calibration": _calibration,
    "scale": lambda s, share: (_costly("scale")(s, share) * _STRETCHED, 0.0, 0.0),
}
"""What a share of each part takes; the parts that are not here go by codes alone."""
