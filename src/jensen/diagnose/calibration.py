"""Calibration: does the posterior say how uncertain z is?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import OptionError
from ..evaluation import CHUNK_ROWS, device_of, evaluation_mode
from ..inference.proposals import check_one_z
from ..noise import mix, seeded
from .draws import draws_of
from .measured import Measured

__all__ = ["Calibration", "simulation_calibration", "simulated"]

Direction = Literal["none", "too narrow", "too wide", "shifted"]

RANKED = 99
"""The draws among which the true z is ranked."""

_BINS = 20
_LEAST_ROWS = 100
_ROUNDING = 1e-5
_BLOCK_VALUES = 2**22


@dataclass(frozen=True)
class Calibration:
    r"""Simulation-based calibration. A rank is that of z\* among L draws of q; under calibration it is uniform.

    Arguments:
        ranks: The ranks, shape (M, Z), from 0 to L.
        joint_ranks: The ranks of :math:`\log p(x^*, z^*)` among those of the draws, shape (M,).
        draws: The number of draws L.
        p_values: For each latent the probability of ranks as uneven as these, shape (Z,): twice the smaller one of a
            chi-square and a Kolmogorov-Smirnov test.
        joint_p_value: The same for :math:`\log p(x, z)`.
        p_value: The probability of the most uneven ones among all of these, after Bonferroni.
        spread: The standard deviation of the normal scores of the ranks of each latent, shape (Z,): 1 when calibrated,
            about the ratio of the true spread to that which q says otherwise.
        shift: Their mean, shape (Z,): 0 when calibrated, how far the truth lies from q in its standard deviations.
        distance: The root mean square of the normal scores of the latent where it is largest: 1 when calibrated, and at
            most 2.6 for 99 draws.
        direction: What is wrong, judged by the latents whose ranks are not uniform.
    """

    ranks: Tensor
    joint_ranks: Tensor
    draws: int
    p_values: Tensor
    joint_p_value: float
    p_value: float
    spread: Tensor
    shift: Tensor
    distance: Measured
    direction: Direction

    @property
    def wrong(self) -> Tensor:
        """Which latents have ranks that are not uniform, after Bonferroni, shape (Z,)."""
        return _wrong(self.p_values)

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data; the ranks as counts in bins."""
        counts = [torch.bincount(rank * _BINS // (self.draws + 1), minlength=_BINS).tolist() for rank in self.ranks.T]
        return {
            "simulated_rows": len(self.ranks),
            "draws": self.draws,
            "p_value": self.p_value,
            "p_values": self.p_values.tolist(),
            "joint_p_value": self.joint_p_value,
            "spread": self.spread.tolist(),
            "shift": self.shift.tolist(),
            "distance": self.distance.to_json(),
            "direction": self.direction,
            "rank_counts": counts,
        }


def simulated(model: Any, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    r"""z\* from the prior and x\* from the likelihood, shapes (M, \*Z) and (M, \*X), on the CPU.

    Raises:
        JensenError: If the model has not one prior and one posterior.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> [tuple(part.shape) for part in simulated(oracle.model, 5)]
        [(5, 2), (5, 3)]
    """
    check_one_z(model)
    with evaluation_mode(model), seeded(seed, "simulated"):
        z = model.prior().sample(torch.Size((rows,)))
        x = model.decode(z).sample()
    return z.cpu().clone(), x.cpu().clone()


def simulation_calibration(model: Any, *, rows: int = 500, draws: int = RANKED, seed: int = 0) -> Calibration:
    r"""Simulation-based calibration: z\* and x\* from the model, then the rank of z\* among draws of q(z|x\*).

    .. math:: z^* \sim p(z), \quad x^* \sim p(x|z^*), \quad z_l \sim q(z|x^*), \quad
              r = \#\{l : z_l < z^*\} \sim U\{0, \dots, L\} \text{ if } q = p(z|x)

    Uniform ranks are necessary for an exact posterior and not sufficient: a posterior that equals the prior has them
    too. That is why :math:`\log p(x, z)` is ranked as well, which such a posterior fails.

    References:
        Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian inference algorithms with
        simulation-based calibration. Modrák et al. (2023), Simulation-based calibration checking with data-dependent
        test quantities.

    Arguments:
        model: A model with one prior and one posterior.
        rows: The number M of rows that are simulated, at least 100.
        draws: The number of draws L; L + 1 is a multiple of 20.
        seed: The seed of everything that is drawn.

    Raises:
        OptionError: If there are too few rows, or L + 1 is no multiple of 20.
        JensenError: If the model has not one prior and one posterior.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> simulation_calibration(oracle.model, rows=200).p_value > 0.01
        True
    """
    if rows < _LEAST_ROWS or draws < 1 or (draws + 1) % _BINS:
        raise OptionError(
            f"calibration needs at least {_LEAST_ROWS} rows, and draws such as 19, 39 or 99, one less than a multiple "
            f"of {_BINS}; got rows={rows}, draws={draws}."
        )
    z, x = simulated(model, rows, seed)
    # Rows of few values are often equal, and yet each has a z of its own.
    found = draws_of(model, x, k=draws, seed=mix(seed, "ranks"), keys=range(rows))
    ranks = _ranks(z.flatten(1), found.z.flatten(2), seed)
    joint = _joint_ranks(model, z, x, found.z.reshape(draws, *z.shape), seed)
    p_values = torch.tensor([_p_value(column, draws, seed) for column in ranks.T], dtype=torch.float64)
    joint_p = _p_value(joint, draws, seed)
    scores = torch.special.ndtri((ranks.double() + 0.5) / (draws + 1))
    spread, shift = scores.std(0), scores.mean(0)
    p_value = min(1.0, (len(p_values) + 1) * min(float(p_values.min()), joint_p))
    return Calibration(
        ranks=ranks,
        joint_ranks=joint,
        draws=draws,
        p_values=p_values,
        joint_p_value=joint_p,
        p_value=p_value,
        spread=spread,
        shift=shift,
        distance=_distance(scores),
        direction=_direction(_wrong(p_values), p_value, spread, shift),
    )


def _ranks(truth: Tensor, drawn: Tensor, seed: int) -> Tensor:
    """How many of the draws lie below the truth, ties broken at random: (M, Z) among (L, M, Z)."""
    below, ties = (drawn < truth).sum(0), (drawn == truth).sum(0)
    generator = torch.Generator().manual_seed(mix(seed, "ties"))
    return below + (torch.rand(ties.shape, generator=generator) * (ties + 1)).floor().long()


def _joint_ranks(model: Any, z: Tensor, x: Tensor, drawn: Tensor, seed: int) -> Tensor:
    """The ranks of log p(x, z) among those of the draws, all by the same calls, so that they are rounded alike."""
    values = _log_joint(model, x, torch.cat([z[None], drawn]))
    generator = torch.Generator().manual_seed(mix(seed, "rounding"))
    # Discrete latents are often equal; noise above what rounding leaves makes their order a matter of chance.
    size = _ROUNDING * (1 + torch.where(values.isfinite(), values.abs(), 0.0).amax(0))
    values = values + size * torch.rand(values.shape, generator=generator, dtype=torch.float64)
    return _ranks(values[0, :, None], values[1:, :, None], seed)[:, 0]


def _log_joint(model: Any, x: Tensor, z: Tensor) -> Tensor:
    r"""For z of shape (K, M, \*Z), shape (K, M), nats."""
    device, parts = device_of(model), []
    some = max(1, min(CHUNK_ROWS, _BLOCK_VALUES // (len(z) * max(1, math.prod(x.shape[1:])))))
    with evaluation_mode(model):
        for start in range(0, len(x), some):
            rows = slice(start, start + some)
            parts.append(model.log_joint(x[rows].to(device), z[:, rows].to(device)).double().cpu())
    return torch.cat(parts, 1).clone()


def _p_value(ranks: Tensor, draws: int, seed: int) -> float:
    from scipy import stats

    counts = torch.bincount(ranks * _BINS // (draws + 1), minlength=_BINS)
    chi_square = stats.chisquare(counts.numpy()).pvalue
    generator = torch.Generator().manual_seed(mix(seed, "jitter"))
    # Spread within its own step, a uniform rank becomes a uniform number, for which the test is exact.
    even = (ranks + torch.rand(ranks.shape, generator=generator, dtype=torch.float64)) / (draws + 1)
    kolmogorov = stats.kstest(even.numpy(), "uniform").pvalue
    return min(1.0, 2 * float(min(chi_square, kolmogorov)))


def _distance(scores: Tensor) -> Measured:
    """Of the worst latent."""
    table = scores.square()
    squares = table[:, int(table.mean(0).argmax())]
    value = float(squares.mean().sqrt())
    error = float(squares.std()) / math.sqrt(len(squares)) / (2 * value) if value else math.nan
    return Measured(value, error, unit="posterior standard deviations")


def _wrong(p_values: Tensor) -> Tensor:
    return p_values < 0.01 / (len(p_values) + 1)


def _direction(wrong: Tensor, p_value: float, spread: Tensor, shift: Tensor) -> Direction:
    if p_value >= 0.01 or not wrong.any():
        return "none"
    width = float(spread[wrong].log().mean())
    if float(shift[wrong].abs().mean()) > abs(width):
        return "shifted"
    return "too narrow" if width > 0 else "too wide"
