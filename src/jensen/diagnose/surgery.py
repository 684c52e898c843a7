"""ELBO surgery: what the average KL is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal

from ..errors import OptionError
from ..noise import mix
from .aggregate import Aggregate, marginals
from .measured import Measured, mean_of

__all__ = ["Surgery", "elbo_surgery", "quadrature_surgery"]

_LARGEST_GRID = 2**22
_MASS_ERROR = 1e-6


@dataclass(frozen=True)
class Surgery:
    r"""The average KL of a split and its parts, nats.

    .. math:: \frac1N \sum_n \mathrm{KL}(q(z|x_n) \| p(z)) = I(n; z) + \mathrm{KL}(q(z) \| p(z))

    Arguments:
        mean_kl: The average KL.
        mutual_information: How much a code says about which row it came from, :math:`I(n; z) \le \log N`.
        marginal_kl: How far the aggregate posterior q(z) is from the prior.
        total_correlation: How much the latents depend on one another under q(z); None where a latent by itself has no
            formula.
        dimension_wise: The sum over latents of :math:`\mathrm{KL}(q(z_j) \| p(z_j))`; None likewise, or where the prior
            does not factorise.
        each: Those KLs, shape (Z,); None likewise.
        ceiling: :math:`\log N`, which no mutual information exceeds.
        n: The number of rows N in the split.
        draws: The number of draws behind each estimate; 0 for quadrature.
    """

    mean_kl: Measured
    mutual_information: Measured
    marginal_kl: Measured
    total_correlation: Measured | None
    dimension_wise: Measured | None
    each: Tensor | None
    ceiling: float
    n: int
    draws: int

    @property
    def residual(self) -> Measured:
        """The average KL less its two parts, which come from draws of their own: zero within its error."""
        parts = (self.mutual_information, self.marginal_kl)
        value = self.mean_kl.value - sum(part.value for part in parts)
        return Measured(value, math.sqrt(sum(part.se**2 for part in (self.mean_kl, *parts))))

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data."""
        names = ("mean_kl", "mutual_information", "marginal_kl", "total_correlation", "dimension_wise", "residual")
        found = {name: getattr(self, name) for name in names}
        return {
            **{name: None if number is None else number.to_json() for name, number in found.items()},
            "each": None if self.each is None else self.each.tolist(),
            "ceiling": self.ceiling,
            "n": self.n,
            "draws": self.draws,
        }


def elbo_surgery(model: Any, x: Tensor, *, draws: int = 1000, seed: int = 0) -> Surgery:
    r"""Splits the average KL of a split into mutual information and marginal KL, from independent draws.

    The density of the aggregate posterior is the exact mean over all rows given, never over a batch.

    References:
        Hoffman, Johnson (2016), ELBO surgery. Chen, Li, Grosse, Duvenaud (2018), Isolating sources of disentanglement.

    Arguments:
        model: A model with one prior and one posterior.
        x: All rows of the split, shape (N, \*X), in the values that the model sees.
        draws: The number of codes drawn for each estimate.
        seed: The seed of the draws.

    Raises:
        OptionError: If there are fewer than 2 draws.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> found = elbo_surgery(oracle.model, torch.randn(50, 3).double(), draws=200)
        >>> found.mutual_information.value < found.ceiling, abs(found.residual.beyond(0)) < 5
        (True, True)
    """
    if draws < 2:
        raise OptionError(f"surgery needs at least 2 draws; got {draws}.")
    q = Aggregate(model, x)
    z, log_conditional = q.draw(_rows(q.n, draws, seed, "a"), seed, "surgery", "a")
    log_q = q.log_prob(z)
    other, _ = q.draw(_rows(q.n, draws, seed, "b"), seed, "surgery", "b")
    with torch.inference_mode():
        log_ratio = q.log_prob(other) - q.prior.log_prob(other).double().cpu()
    each_log_q = q.log_prob_of_each(z)
    total = None if each_log_q is None else mean_of(log_q - each_log_q.sum(1))
    ratios = _each_ratio(q.prior, z, each_log_q)
    return Surgery(
        mean_kl=_mean_kl(q, draws, seed),
        mutual_information=mean_of(log_conditional - log_q),
        marginal_kl=mean_of(log_ratio),
        total_correlation=total,
        dimension_wise=None if ratios is None else mean_of(ratios.sum(1)),
        each=None if ratios is None else ratios.mean(0),
        ceiling=math.log(q.n),
        n=q.n,
        draws=draws,
    )


def _rows(n: int, draws: int, seed: int, name: str) -> Tensor:
    """Row numbers for draws from the mixture, spread evenly over the rows and sorted."""
    generator = torch.Generator().manual_seed(mix(seed, "surgery rows", name))
    return torch.randperm(n, generator=generator)[torch.arange(draws) % n].sort().values


def _mean_kl(q: Aggregate, draws: int, seed: int) -> Measured:
    """Over all rows by its formula, which has no error; from draws of its own where there is none."""
    kl = q.kl()
    if kl is not None:
        return Measured(float(kl.mean()), 0.0)
    z, log_conditional = q.draw(_rows(q.n, draws, seed, "c"), seed, "surgery", "c")
    with torch.inference_mode():
        return mean_of(log_conditional - q.prior.log_prob(z).double().cpu())


def _each_ratio(prior: Distribution, z: Tensor, each_log_q: Tensor | None) -> Tensor | None:
    r""":math:`\log q(z_j) - \log p(z_j)`, shape (M, Z), where both have a formula."""
    if each_log_q is None or not isinstance(prior, Independent):
        return None
    each = marginals(prior)
    if each is None:
        return None
    with torch.inference_mode():
        return (each_log_q - each.log_prob(z).flatten(1).double().cpu()).clone()


def quadrature_surgery(model: Any, x: Tensor) -> Surgery:
    r"""The same for one or two normal latents, by the trapezium rule, so that the parts have no sampling error.

    .. math:: I(n; z) = H[q(z)] - \frac1N \sum_n H[q(z|x_n)], \quad
              \mathrm{KL}(q(z) \| p(z)) = \int q(z) \log \frac{q(z)}{p(z)} \, dz

    Arguments:
        model: A model with one or two latents and a posterior that has a mean, a standard deviation and an entropy.
        x: All rows of the split, shape (N, \*X); a few hundred.

    Raises:
        OptionError: If there are more latents, or a posterior is too narrow for a grid over all of them, or one whose
            mass it does not find.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> found = quadrature_surgery(oracle.model, torch.randn(9, 3).double())
        >>> abs(found.residual.value) < 1e-6
        True
    """
    q = Aggregate(model, x)
    latents = q.prior.event_shape.numel()
    if latents > 2 or len(q.prior.event_shape) != 1:
        raise OptionError(f"quadrature needs one or two latents; the model has shape {tuple(q.prior.event_shape)}.")
    with torch.inference_mode():
        axes = _axes(q, latents)
        grid = torch.cartesian_prod(*axes).reshape(-1, latents).to(q.parts[0].mean)
        cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
        log_p, log_q = q.prior.log_prob(grid).double().cpu(), q.log_prob(grid)
        mass = log_q.exp() * cell
        _check_covered(float(mass.sum()))
        # exp(log q) underflows to exactly zero far out, where q log q is zero too.
        inside = mass > 0
        entropy = -float((mass * log_q)[inside].sum())
        marginal = float((mass * (log_q - log_p))[inside].sum())
        conditional = float(torch.cat([part.entropy().double().cpu() for part in q.parts]).mean())
        total, each = _split_on_grid(q, axes, entropy)
    kl = q.kl()
    mean_kl = marginal + entropy - conditional if kl is None else float(kl.mean())
    return Surgery(
        mean_kl=Measured(mean_kl, 0.0),
        mutual_information=Measured(entropy - conditional, 0.0),
        marginal_kl=Measured(marginal, 0.0),
        total_correlation=None if total is None else Measured(total, 0.0),
        dimension_wise=None if each is None else Measured(float(each.sum()), 0.0),
        each=each,
        ceiling=math.log(q.n),
        n=q.n,
        draws=0,
    )


def _deviation_given_others(part: Any) -> Tensor:
    if isinstance(part, MultivariateNormal):
        return part.precision_matrix.diagonal(dim1=-2, dim2=-1).rsqrt()
    deviation: Tensor = part.stddev
    return deviation


def _check_covered(total: float) -> None:
    if not abs(total - 1) < _MASS_ERROR:
        raise OptionError(
            f"quadrature finds a mass of {total:.6g} instead of 1: the posteriors are too narrow, or too far from "
            "normal, for its grid. Use elbo_surgery."
        )


def _axes(q: Aggregate, latents: int) -> list[Tensor]:
    """An even grid for each latent that covers all posteriors, two thirds of the smallest deviation apart.

    Of a latent that leans on others, the deviation is the one that it has where these are known.
    """
    mean = torch.cat([part.mean.double().cpu() for part in q.parts])
    deviation = torch.cat([part.stddev.double().cpu() for part in q.parts])
    known = torch.cat([_deviation_given_others(part).double().cpu() for part in q.parts])
    low, high = (mean - 9 * deviation).amin(0), (mean + 9 * deviation).amax(0)
    counts = ((high - low) / known.amin(0) * 1.5).ceil().long() + 2
    if int(counts.prod()) > _LARGEST_GRID:
        raise OptionError(
            f"quadrature would need a grid of {' by '.join(map(str, counts.tolist()))} points, since a posterior is as "
            f"narrow as {float(known.min()):.2g}; use elbo_surgery."
        )
    return [torch.linspace(float(low[j]), float(high[j]), int(counts[j]), dtype=torch.float64) for j in range(latents)]


def _split_on_grid(q: Aggregate, axes: list[Tensor], entropy: float) -> tuple[float | None, Tensor | None]:
    """Total correlation, and the KL of each latent by itself."""
    width = max(map(len, axes))
    columns = torch.stack([torch.cat([axis, axis[-1:].expand(width - len(axis))]) for axis in axes], 1)
    columns = columns.to(q.parts[0].mean)
    each_log_q = q.log_prob_of_each(columns)
    if each_log_q is None:
        return None, None
    real = torch.arange(width)[:, None] < torch.tensor([len(axis) for axis in axes])
    cells = torch.tensor([float(axis[1] - axis[0]) for axis in axes], dtype=torch.float64)
    mass = torch.where(real & (each_log_q.exp() > 0), each_log_q.exp() * cells, 0.0)
    terms = torch.where(mass > 0, mass * each_log_q, 0.0)
    total = -float(terms.sum()) - entropy
    ratios = _each_ratio(q.prior, columns, each_log_q)
    return total, None if ratios is None else torch.where(mass > 0, mass * ratios, 0.0).sum(0)
