"""The ELBO of each row climbed in the parameters of its own posterior, with the model fixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from .. import families
from ..conditional import distribution_at
from ..distributions import RowwiseNormal, detached, diagonal_normal
from ..errors import OptionError
from ..families import Family
from ..families.base import count_of
from ..noise import RowNoise, mix, row_keys
from ..roles import Given

__all__ = ["Coordinates", "Raw", "Search", "Target", "Whitened", "climb", "coordinates_for", "given_rows"]

_SMALLEST_GAIN = 2e-3
_FALL = 1.0


@dataclass(frozen=True)
class Target:
    r"""The rows whose posteriors are searched for.

    Arguments:
        log_joint: From x, z of shape (K, B, \*Z) and what is given to :math:`\log p(x, z)`, shape (K, B), nats.
        x: The rows, shape (B, \*X).
        given: What is known beside them.
    """

    log_joint: Callable[[Tensor, Tensor, Given | None], Tensor]
    x: Tensor
    given: Given | None = None

    def rows(self, chosen: Tensor) -> Target:
        """Some of the rows."""
        return Target(self.log_joint, self.x[chosen], given_rows(self.given, chosen))

    def elbo(self, q: Distribution, k: int, noise: RowNoise) -> tuple[Tensor, Tensor]:
        """The ELBO of each row and its Monte Carlo variance, shape (B,), nats, float64; -inf where it is no number."""
        with torch.no_grad():
            with noise:
                z = q.sample(Size((k,)))
            log_weight = (self.log_joint(self.x, z, self.given) - q.log_prob(z)).double()
        elbo = log_weight.mean(0)
        return torch.where(elbo < torch.inf, elbo, -torch.inf), log_weight.var(0) / k


def given_rows(given: Given | None, chosen: Tensor) -> Given | None:
    """What is known beside some of the rows."""
    return None if given is None else given.rows(chosen)


class Coordinates(Protocol):
    """Parameters of distributions of some rows: where a search starts, shape (B, P), and what they stand for."""

    origin: Tensor

    def __call__(self, parameters: Tensor, rows: Tensor) -> Distribution: ...


class Raw:
    """The unconstrained parameters of a family as they are."""

    def __init__(self, family: Family, origin: Tensor) -> None:
        self.family, self.origin = family, origin

    def __call__(self, parameters: Tensor, rows: Tensor) -> Distribution:
        return distribution_at(self.family, parameters)


class Whitened:
    r"""A normal family in the units of where it starts: :math:`z = \mu_0 + L_0 u`, with q over u.

    A step of one size then suits every latent, however narrow its posterior and however strongly correlated.
    """

    def __init__(self, family: Family, start: Distribution) -> None:
        self.family, self.start = family, start
        self.loc = start.mean
        self.origin = self.loc.new_zeros(len(self.loc), count_of(family))

    def __call__(self, parameters: Tensor, rows: Tensor) -> Distribution:
        unit = distribution_at(self.family, parameters)
        loc = self.loc[rows]
        if isinstance(self.start, MultivariateNormal) and isinstance(unit, MultivariateNormal):
            factor = self.start.scale_tril[rows]
            moved = loc + (factor @ unit.loc[..., None])[..., 0]
            return RowwiseNormal(moved, scale_tril=factor @ unit.scale_tril, validate_args=False)
        scale = self.start.stddev[rows]
        return diagonal_normal(loc + scale * unit.mean, scale * unit.stddev, loc.ndim - 1)


def coordinates_for(family: Family, raw: Tensor) -> Coordinates:
    """The coordinates in which a family is searched best from given unconstrained parameters."""
    start = distribution_at(family, raw)
    full = isinstance(family, families.FullNormal)
    diagonal = isinstance(family, families.Normal) and family.scale.predicted
    if full or (diagonal and isinstance(start, Independent) and isinstance(start.base_dist, Normal)):
        return Whitened(family, start)
    return Raw(family, raw)


@dataclass(frozen=True)
class Search:
    """How to search.

    Arguments:
        steps: The largest number of steps.
        rate: The size of a step, in the units of the coordinates.
        samples: The samples of each row in a step, fresh at each.
        held_out: The samples of each row, always the same, by which iterates are compared.
        every: After how many steps they are.
        patience: A row stops after this many comparisons without a gain, each of which halves its rate; None never.
        seed: The seed of the noise.
    """

    steps: int = 500
    rate: float = 0.05
    samples: int = 8
    held_out: int = 64
    every: int = 20
    patience: int | None = 4
    seed: int = 0


def climb(target: Target, coordinates: Coordinates, how: Search) -> tuple[Tensor, Tensor]:
    r"""The best parameters found for each row, and their ELBO on held-out noise; never below that of the start.

    Gradients are those of samples alone (sticking the landing), so that their noise vanishes where q is exact. What
    is compared is the mean of the iterates since the last comparison. Noise belongs to the row: it depends on its
    content and the seed.

    References:
        Roeder, Wu, Duvenaud (2017), Sticking the landing. Kingma, Ba (2015), Adam. Polyak, Juditsky (1992),
        Acceleration of stochastic approximation by averaging.

    Returns:
        Parameters in the coordinates, shape (B, P), and ELBOs, shape (B,), nats.
    """
    walk = _Walk(target, coordinates, how)
    for number in range(1, how.steps + 1):
        walk.step()
        if number % how.every == 0 or number == how.steps:
            walk.compare()
            if len(walk.rows) == 0:
                break
    return walk.best, walk.best_elbo


class _Walk:
    def __init__(self, target: Target, coordinates: Coordinates, how: Search) -> None:
        self.target, self.coordinates, self.how = target, coordinates, how
        self.keys = row_keys(target.x)
        self.rows = torch.arange(len(target.x), device=target.x.device)
        self.here = target
        self.noise = RowNoise([mix(how.seed, "search", key) for key in self.keys])
        self.best = coordinates.origin.clone()
        self.best_elbo = self._elbo(self.best)
        self.w = self.best.clone()
        self.rate = torch.full_like(self.w[:, :1], how.rate)
        self.stalls = torch.zeros_like(self.rows)
        self.total, self.count = torch.zeros_like(self.w), 0
        self._forget(torch.ones_like(self.rows, dtype=torch.bool), new=True)

    def _forget(self, rows: Tensor, *, new: bool = False) -> None:
        """Forgets the moments of the gradient of some rows."""
        if new:
            self.first, self.second, self.age = (torch.zeros_like(part) for part in (self.w, self.w, self.rate))
        for part in (self.first, self.second, self.age):
            part[rows] = 0.0

    def _elbo(self, parameters: Tensor) -> Tensor:
        noise = RowNoise([mix(self.how.seed, "held out", self.keys[row]) for row in self.rows.tolist()])
        return self.here.elbo(self.coordinates(parameters, self.rows), self.how.held_out, noise)[0]

    def step(self) -> None:
        gradient = self._gradient().nan_to_num(0.0, 0.0, 0.0)
        self.age += 1
        self.first.lerp_(gradient, 0.1)
        self.second.lerp_(gradient.square(), 0.01)
        first, second = self.first / (1 - 0.9**self.age), self.second / (1 - 0.99**self.age)
        self.w = self.w + self.rate * first / (second.sqrt() + 1e-8)
        self.total, self.count = self.total + self.w, self.count + 1

    def _gradient(self) -> Tensor:
        w = self.w.detach().requires_grad_()
        with torch.enable_grad():
            q = self.coordinates(w, self.rows)
            (gradient,) = torch.autograd.grad(self._surrogate(q).sum(), w)
        return gradient

    def _surrogate(self, q: Distribution) -> Tensor:
        """What has the gradient of the ELBO, shape (K, B)."""
        shape, here = Size((self.how.samples,)), self.here
        if q.has_rsample:
            with self.noise:
                z = q.rsample(shape)
            return (here.log_joint(here.x, z, here.given) - detached(q).log_prob(z)) / self.how.samples
        if self.how.samples < 2:
            raise OptionError(
                f"draws of {type(q).__name__} have no gradient, so each step compares its samples with one another: "
                f"at least 2; got samples={self.how.samples}."
            )
        with torch.no_grad(), self.noise:
            z = q.sample(shape)
        log_q = q.log_prob(z)
        signal = (here.log_joint(here.x, z, here.given) - log_q).detach()
        # The mean over the other samples is a baseline that leaves the gradient unbiased.
        return (signal - signal.mean(0)) * log_q / max(self.how.samples - 1, 1)

    def compare(self) -> None:
        mean = self.total / self.count
        self.total, self.count = torch.zeros_like(self.w), 0
        elbo, before = self._elbo(mean), self.best_elbo[self.rows]
        better, gained = elbo > before, elbo > before + _SMALLEST_GAIN
        self.best[self.rows[better]], self.best_elbo[self.rows[better]] = mean[better], elbo[better]
        lost = ~(elbo > before - _FALL)
        self.w[lost] = self.best[self.rows[lost]]
        self._forget(lost)
        self.rate = torch.where(gained[:, None], self.rate, 0.5 * self.rate)
        self.stalls = self.stalls + (~gained).long()
        if self.how.patience is not None:
            self._keep(self.stalls < self.how.patience)

    def _keep(self, alive: Tensor) -> None:
        """Goes on with some of the rows."""
        if alive.all():
            return
        self.noise.generators = [g for g, on in zip(self.noise.generators, alive.tolist(), strict=True) if on]
        for name in ("rows", "w", "rate", "stalls", "total", "first", "second", "age"):
            setattr(self, name, getattr(self, name)[alive])
        self.here = self.target.rows(self.rows)
