"""Annealed importance sampling: log p(x) from below, by Markov chains from a simple distribution to the posterior."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import OptionError
from ..evaluation import check_data, device_of, measure_of
from ..noise import RowNoise, mix, row_keys
from .proposals import (
    Proposal,
    Weighted,
    check_apart,
    check_real,
    check_unconstrained,
    check_weights,
    differentiable,
    drawn,
    proposed,
)
from .transitions import Densities, Point, chunks, locate, transition

__all__ = ["Annealed", "Sigmoidal", "ais"]

_ACCEPTANCE = 0.65
_LEAST_PRELIMINARY = 200
PRELIMINARY_CHAINS = 8
SETTLING = 40
LEAPFROGS = 10


@dataclass(frozen=True)
class Sigmoidal:
    r"""A path of inverse temperatures that is slow at both ends, with u running from 0 to 1:

    .. math:: \beta(u) = \frac{\sigma(\delta (2u - 1)) - \sigma(-\delta)}{\sigma(\delta) - \sigma(-\delta)}

    References:
        Wu, Burda, Salakhutdinov, Grosse (2017), On the quantitative analysis of decoder-based generative models.

    Arguments:
        sharpness: The number δ.

    Example:
        >>> path = Sigmoidal()
        >>> path(0.0), path(0.5), path(1.0)
        (0.0, 0.5, 1.0)
    """

    sharpness: float = 4.0

    def __call__(self, fraction: float) -> float:
        # The same numbers as with the logistic function, but exactly 0, 1/2 and 1 where they should be.
        return 0.5 + 0.5 * math.tanh(self.sharpness * (fraction - 0.5)) / math.tanh(0.5 * self.sharpness)


@dataclass(frozen=True)
class Annealed(Weighted):
    r"""Log-weights of annealing, with all that is needed to run it again or in reverse.

    Arguments:
        betas: The inverse temperatures from 0 to 1, one more than there are temperatures.
        step_sizes: The frozen step size at each inverse temperature between them, for each row, shape (T - 1, N).
        leapfrogs: The number of leapfrog steps of a transition.
        start: Where annealing starts; None for the prior.
        acceptance: The mean acceptance probability of each row over all transitions, shape (N,).
        independent: Whether chains are; those that start from one sample are not, so that their weights do not tell how
            far the mean of them may be off, and variance and effective sample size are unknown.
    """

    betas: tuple[float, ...]
    step_sizes: Tensor
    leapfrogs: int
    start: Proposal | None
    acceptance: Tensor
    independent: bool = True

    @cached_property
    def ess(self) -> Tensor:
        return self._if_independent(super().ess)

    @cached_property
    def variance(self) -> Tensor:
        return self._if_independent(super().variance)

    def _if_independent(self, values: Tensor) -> Tensor:
        return values if self.independent else torch.full_like(values, math.nan)


def ais(
    model: Any,
    x: Tensor,
    *,
    temperatures: int = 1000,
    chains: int = 16,
    leapfrogs: int = LEAPFROGS,
    schedule: Callable[[float], float] | None = None,
    start: Proposal | None = None,
    seed: int = 0,
) -> Annealed:
    r"""Annealed importance sampling of log p(x), for z that is any real vector.

    Chains go from :math:`r(z)` to :math:`p(x, z)` along :math:`f_\beta = r^{1-\beta} p(x, z)^\beta` by Hamiltonian
    Monte Carlo:

    .. math:: \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \left[\log p(x, z_{t-1}) - \log r(z_{t-1})\right],
        \quad E[w] = p(x)

    The step sizes are found in a preliminary run with noise of its own, and are frozen before anything is measured:
    the weights are unbiased, and the log of their mean is in expectation a lower bound. A row's weights depend on its
    content and the seed alone.

    References:
        Neal (2001), Annealed importance sampling. Wu, Burda, Salakhutdinov, Grosse (2017), On the quantitative analysis
        of decoder-based generative models.

    Arguments:
        model: A model; its parameters stay as they are.
        x: Rows in the values that the model sees, shape (N, \*X).
        temperatures: The number T of steps from one inverse temperature to the next.
        chains: The number of chains K for each row.
        leapfrogs: The number of leapfrog steps of a transition.
        schedule: From the fraction of the way, 0 to 1, to the inverse temperature β; by default ``Sigmoidal()``.
        start: The distribution r: a distribution, or a module from x to one, such as ``model.posterior``; the prior by
            default.
        seed: The seed of the noise.

    Raises:
        JensenError: If z is discrete or constrained, or the model's latents are none, several groups, or shared by all
            rows in part.
        OptionError: If an argument is out of range.
        DataError: If the rows cannot be scored.
        NonFiniteError: If a log-weight is not a number, or infinitely large.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=1.0)
        >>> x = torch.zeros(4, 3, dtype=torch.float64)
        >>> error = ais(oracle.model, x, temperatures=50, chains=8).log_likelihood - oracle.log_evidence(x)
        >>> bool(error.abs().max() < 0.1)
        True
    """
    if min(temperatures, chains, leapfrogs) < 1:
        raise OptionError(
            f"annealing needs at least 1 temperature, 1 chain and 1 leapfrog step; got temperatures={temperatures}, "
            f"chains={chains}, leapfrogs={leapfrogs}."
        )
    schedule = Sigmoidal() if schedule is None else schedule
    betas = _betas(schedule, temperatures)
    check_apart(model)
    check_real(model)
    check_data(model, x)
    parts = []
    with differentiable(model):
        for rows, count in chunks(x, device_of(model)):
            steps = _preliminary_steps(model, rows, start, schedule, temperatures, leapfrogs, seed)
            noise = RowNoise([mix(seed, "ais", key) for key in row_keys(rows)])
            densities, z = _begin(model, rows, start, chains, noise)
            log_weight, accepted = anneal(densities, z, betas, steps, leapfrogs, noise)
            parts.append([part[..., :count].cpu() for part in (log_weight, steps, accepted)])
    log_weight, steps, accepted = (torch.cat(column, -1) for column in zip(*parts, strict=True))
    check_weights(log_weight)
    return Annealed(log_weight, row_keys(x), "lower", measure_of(model), betas, steps, leapfrogs, start, accepted)


def _betas(schedule: Callable[[float], float], temperatures: int) -> tuple[float, ...]:
    betas = tuple(float(schedule(index / temperatures)) for index in range(temperatures + 1))
    falling = [index for index in range(temperatures) if not betas[index] <= betas[index + 1]]
    if betas[0] != 0 or betas[-1] != 1 or falling:
        where = f"it falls after the fraction {falling[0] / temperatures:g}" if falling else "its ends are wrong"
        raise OptionError(
            f"a schedule of inverse temperatures rises from 0 to 1; this one goes from {betas[0]} to {betas[-1]}: "
            f"{where}."
        )
    return betas


def path_densities(model: Any, rows: Tensor, start: Proposal | None) -> Densities:
    """Log r(z) and log p(x, z)."""
    distribution = proposed(model.prior() if start is None else start, rows)
    check_unconstrained(distribution, "the start")
    return lambda z: (distribution.log_prob(z), model.log_joint(rows, z))


def _begin(model: Any, rows: Tensor, start: Proposal | None, chains: int, noise: RowNoise) -> tuple[Densities, Tensor]:
    distribution = proposed(model.prior() if start is None else start, rows)
    with noise:
        z = drawn(distribution, chains, len(rows))
    return path_densities(model, rows, start), z


def anneal(
    densities: Densities, z: Tensor, betas: Sequence[float], steps: Tensor, leapfrogs: int, noise: RowNoise
) -> tuple[Tensor, Tensor]:
    """The log-weights (K, B) of chains along inverse temperatures in the given order, and their acceptance (B,)."""
    point = locate(densities, z)
    log_weight = torch.zeros(z.shape[:2], dtype=torch.float64, device=z.device)
    accepted = torch.zeros_like(log_weight[0])
    last = len(betas) - 2
    for index in range(last + 1):
        rise = betas[index + 1] - betas[index]
        log_weight = log_weight + rise * (point.log_density[1] - point.log_density[0])
        if index < last:
            point, probability = _move(densities, point, betas[index + 1], steps[index], leapfrogs, noise)
            accepted += probability.mean(0) / last
    return log_weight, accepted


def _move(
    densities: Densities, point: Point, beta: float, step: Tensor, leapfrogs: int, noise: RowNoise
) -> tuple[Point, Tensor]:
    return transition(densities, point, (1 - beta, beta), step, leapfrogs=leapfrogs, noise=noise)


def _preliminary_steps(
    model: Any,
    rows: Tensor,
    start: Proposal | None,
    schedule: Callable[[float], float],
    temperatures: int,
    leapfrogs: int,
    seed: int,
) -> Tensor:
    """The step size at each inverse temperature strictly between 0 and 1, shape (T - 1, B), from a shorter run.

    The logarithm of the step size follows the acceptance of the chains of its row; step sizes change slowly along the
    path, so that those between are interpolated.
    """
    if temperatures == 1:
        return torch.zeros(0, len(rows), dtype=torch.float64, device=rows.device)
    count = max(2, min(temperatures, max(_LEAST_PRELIMINARY, temperatures // 5)))
    betas = _betas(schedule, count)
    noise = RowNoise([mix(seed, "steps", key) for key in row_keys(rows)])
    densities, z = _begin(model, rows, start, PRELIMINARY_CHAINS, noise)
    point = locate(densities, z)
    log_step = torch.full((len(rows),), math.log(0.3), dtype=torch.float64, device=rows.device)
    found: list[Tensor] = []
    for index in [1] * SETTLING + list(range(1, count)):
        point, probability = _move(densities, point, betas[index], log_step.exp(), leapfrogs, noise)
        gain = 0.5 if len(found) < SETTLING else 0.25
        log_step = log_step + gain * (probability.mean(0) - _ACCEPTANCE)
        found.append(log_step)
    return _interpolated(torch.stack(found[SETTLING:]), count, temperatures).exp()


def _interpolated(values: Tensor, count: int, temperatures: int) -> Tensor:
    """Values at the fractions i / count, 0 < i < count, taken to i / temperatures, 0 < i < temperatures."""
    place = torch.arange(1, temperatures, dtype=torch.float64, device=values.device) * count / temperatures - 1
    place = place.clamp(0, count - 2)
    below = place.floor().long().clamp(max=max(0, count - 3))
    share = (place - below)[:, None]
    above = (below + 1).clamp(max=count - 2)
    return values[below] * (1 - share) + values[above] * share
