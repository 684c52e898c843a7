"""Hamiltonian Monte Carlo: draws from a posterior, with what tells whether the chains have met."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import NonFiniteError, OptionError
from ..evaluation import check_data, device_of
from ..noise import RowNoise, mix, row_keys
from .proposals import Proposal, check_real, differentiable, drawn, proposed
from .transitions import Densities, Point, chunks, locate, transition

__all__ = ["Chains", "hmc", "posterior_chains"]


class _DualAveraging:
    """The step size of each row, moved until the mean acceptance over its chains is the wanted one.

    References:
        Hoffman, Gelman (2014), The No-U-Turn sampler, section 3.2.
    """

    def __init__(self, step: Tensor, target: float) -> None:
        self.target = target
        self.centre = (10 * step).log()
        self.log_step = step.log()
        self.average = torch.zeros_like(step)
        self.excess = torch.zeros_like(step)
        self.count = 0

    def update(self, acceptance: Tensor) -> None:
        self.count += 1
        self.excess += (self.target - acceptance - self.excess) / (self.count + 10)
        self.log_step = self.centre - self.excess * math.sqrt(self.count) / 0.05
        self.average += (self.log_step - self.average) * self.count**-0.75


@dataclass(frozen=True)
class Chains:
    r"""Draws of Markov chains after warm-up.

    Arguments:
        z: The draws, shape (S, K, B, \*Z): S draws of K chains for each of B rows.
        acceptance: The mean acceptance probability of each row, shape (B,).
        step: The step size of each row, shape (B,).
        scale: The scale of each coordinate, shape (B, \*Z).
    """

    z: Tensor
    acceptance: Tensor
    step: Tensor
    scale: Tensor

    @cached_property
    def r_hat(self) -> Tensor:
        r"""The rank-normalised split :math:`\hat R` of each coordinate, shape (B, \*Z).

        References:
            Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021), Rank-normalization, folding, and localization.
        """
        return self._diagnose("rhat", method="rank")

    @cached_property
    def ess_bulk(self) -> Tensor:
        r"""The effective number of draws for the bulk of each coordinate, shape (B, \*Z)."""
        return self._diagnose("ess", method="bulk")

    @cached_property
    def ess_tail(self) -> Tensor:
        r"""The effective number of draws for the 5% and 95% quantiles of each coordinate, shape (B, \*Z)."""
        return self._diagnose("ess", method="tail", prob=(0.05, 0.95))

    def _diagnose(self, name: str, **options: Any) -> Tensor:
        from arviz_stats.base.array import array_stats

        with np.errstate(all="ignore"):
            values = getattr(array_stats, name)(self.z.double().cpu().numpy(), chain_axis=1, draw_axis=0, **options)
        return torch.from_numpy(np.asarray(values, dtype=np.float64))


def hmc(
    log_density: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    draws: int = 1000,
    warmup: int = 1000,
    leapfrogs: int = 10,
    acceptance: float = 0.8,
    seed: int = 0,
    keys: Sequence[int] | None = None,
) -> Chains:
    r"""Hamiltonian Monte Carlo from a density over real vectors, for many rows at once.

    The warm-up finds the step size of each row by dual averaging and, half-way, the scale of each coordinate from the
    draws of all chains of the row. Both are then frozen: the draws that are returned come from one fixed chain.

    References:
        Duane, Kennedy, Pendleton, Roweth (1987), Hybrid Monte Carlo. Neal (2011), MCMC using Hamiltonian dynamics.
        Hoffman, Gelman (2014), The No-U-Turn sampler.

    Arguments:
        log_density: From z of shape (K, B, \*Z) to the log-density, up to a constant, shape (K, B), nats.
        start: Where the K chains of each of B rows start, shape (K, B, \*Z).
        draws: The number of draws S kept from each chain.
        warmup: The number of transitions before them.
        leapfrogs: The number of leapfrog steps of a transition.
        acceptance: The acceptance probability that the step sizes aim at.
        seed: The seed of the noise.
        keys: A key for each row, on which its noise depends; by default the content of its start.

    Raises:
        OptionError: If an argument is out of range.
        NonFiniteError: If the density is not finite at the start.

    Example:
        >>> standard = lambda z: -0.5 * z.square().sum(-1)
        >>> chains = hmc(standard, torch.zeros(4, 3, 2), draws=50, warmup=100)
        >>> chains.z.shape, chains.acceptance.shape
        (torch.Size([50, 4, 3, 2]), torch.Size([3]))
    """
    _check_options(start, draws, warmup, leapfrogs, acceptance)
    keys = row_keys(start.transpose(0, 1).flatten(1)) if keys is None else keys
    noise = RowNoise([mix(seed, "hmc", key) for key in keys])
    with torch.inference_mode(False), torch.no_grad():
        return _sample(lambda z: (log_density(z),), start.clone(), draws, warmup, leapfrogs, acceptance, noise)


def _check_options(start: Tensor, draws: int, warmup: int, leapfrogs: int, acceptance: float) -> None:
    if start.ndim < 3:
        raise OptionError(f"start has shape {tuple(start.shape)}; expected (K, B, *Z): chains, rows, latents.")
    _check_run(draws, warmup, leapfrogs, acceptance)


def _check_run(draws: int, warmup: int, leapfrogs: int, acceptance: float) -> None:
    if draws < 1 or leapfrogs < 1 or warmup < 20:
        raise OptionError(
            f"a chain needs at least 1 draw, 1 leapfrog step and 20 transitions of warm-up; got draws={draws}, "
            f"leapfrogs={leapfrogs}, warmup={warmup}."
        )
    if not 0 < acceptance < 1:
        raise OptionError(f"acceptance is a probability between 0 and 1; got {acceptance}.")


def _sample(
    densities: Densities, start: Tensor, draws: int, warmup: int, leapfrogs: int, target: float, noise: RowNoise
) -> Chains:
    point = locate(densities, start)
    wrong = ~point.log_density[0].isfinite()
    if wrong.any():
        chain, row = wrong.nonzero()[0].tolist()
        value = float(point.log_density[0][chain, row])
        raise NonFiniteError(f"the log-density is {value} at the start of chain {chain} of row {row}; start elsewhere.")
    scale = torch.ones_like(start[0])
    step = torch.full((start.shape[1],), 0.1, dtype=torch.float64, device=start.device)

    def run(point: Point, step: Tensor) -> tuple[Point, Tensor]:
        point, probability = transition(densities, point, (1.0,), step, leapfrogs=leapfrogs, noise=noise, scale=scale)
        return point, probability.mean(0)

    def adapt(point: Point, step: Tensor, count: int) -> tuple[Tensor, list[Point]]:
        adapted, seen = _DualAveraging(step, target), deque([point], maxlen=count // 2)
        for _ in range(count):
            point, accepted = run(seen[-1], adapted.log_step.exp())
            adapted.update(accepted)
            seen.append(point)
        return adapted.average.exp(), list(seen)

    first = warmup // 2
    step, seen = adapt(point, step, first)
    scale = _spread([point.z for point in seen])
    # The step size was in units of z; from here on it is in units of its scale.
    step, seen = adapt(seen[-1], step / scale.double().flatten(1).log().mean(1).exp(), warmup - first)
    point, kept, total = seen[-1], list[Tensor](), torch.zeros_like(step)
    for _ in range(draws):
        point, accepted = run(point, step)
        kept.append(point.z)
        total += accepted
    return Chains(torch.stack(kept).cpu(), (total / draws).cpu(), step.cpu(), scale.cpu())


def _spread(seen: list[Tensor]) -> Tensor:
    """The standard deviation of each coordinate over draws and chains, drawn to 1 where there are few."""
    values = torch.stack(seen).flatten(0, 1)
    count = len(values)
    variance = values.double().var(0)
    return ((count * variance + 5e-3) / (count + 5)).sqrt().to(values.dtype)


def posterior_chains(
    model: Any,
    x: Tensor,
    *,
    chains: int = 4,
    draws: int = 1000,
    warmup: int = 1000,
    leapfrogs: int = 10,
    acceptance: float = 0.8,
    start: Proposal | None = None,
    seed: int = 0,
) -> Chains:
    r"""Draws from the posterior p(z|x) of a model by Hamiltonian Monte Carlo, for z that is any real vector.

    A row's draws depend on its content and the seed alone.

    Arguments:
        model: A model; its parameters stay as they are.
        x: Rows in the values that the model sees, shape (N, \*X).
        chains: The number of chains K for each row.
        draws: The number of draws S kept from each chain.
        warmup: The number of transitions before them.
        leapfrogs: The number of leapfrog steps of a transition.
        acceptance: The acceptance probability that the step sizes aim at.
        start: Where chains start: a distribution, or a module from x to one; the prior by default, which is wide, so
            that chains that never meet are seen in :math:`\hat R`.
        seed: The seed of the noise.

    Raises:
        JensenError: If z is discrete or constrained, or the model's latents are none or several groups.
        OptionError: If an argument is out of range.
        DataError: If the rows cannot be scored.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> x = torch.ones(1, 3, dtype=torch.float64)
        >>> z = posterior_chains(oracle.model, x, draws=200, warmup=100).z
        >>> bool((z.mean((0, 1)) - oracle.model.posterior(x).mean).abs().max() < 0.1)
        True
    """
    _check_run(draws, warmup, leapfrogs, acceptance)
    if chains < 1:
        raise OptionError(f"sampling needs at least 1 chain; got chains={chains}.")
    check_real(model)
    check_data(model, x)
    parts = []
    with differentiable(model):
        for rows, count in chunks(x, device_of(model)):
            noise = RowNoise([mix(seed, "posterior", key) for key in row_keys(rows)])
            distribution = proposed(model.prior() if start is None else start, rows)
            with noise:
                z = drawn(distribution, chains, len(rows))
            found = _sample(_joint(model, rows), z, draws, warmup, leapfrogs, acceptance, noise)
            parts.append((found, count))
    return Chains(
        torch.cat([part.z[:, :, :count] for part, count in parts], 2),
        torch.cat([part.acceptance[:count] for part, count in parts]),
        torch.cat([part.step[:count] for part, count in parts]),
        torch.cat([part.scale[:count] for part, count in parts]),
    )


def _joint(model: Any, rows: Tensor) -> Densities:
    return lambda z: (model.log_joint(rows, z),)
