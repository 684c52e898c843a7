"""Draws from the posterior of observed rows by the cheapest method that passes its own checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from ..distributions import PointMass, RowwiseNormal
from ..errors import JensenError, NonFiniteError, OptionError
from ..evaluation import check_data, device_of
from ..families import FullNormal
from ..noise import RowNoise, mix, row_keys
from ..posteriors.search import given_rows
from ..roles import Given
from .hmc import hmc
from .optimise import best_in_family
from .posterior_draws import Checked, PosteriorDraws
from .proposals import check_has, check_unconstrained, differentiable, drawn
from .psis import psis

__all__ = ["posterior"]

Method = Literal["encoder", "refined", "resampled", "hmc"]

_CHUNK = 512
_BLOCK_VALUES = 2**23
_BLOCK_DRAWS = 2**12
"""Draws whose densities are computed at once, however small x is: a mixture holds each beside all its components."""
_LEAST = 1000
_OVERSAMPLED = 4
_LEAST_EVEN = 0.2
_CHAINS = 4
_FAR = 100.0
_THINNED = (2, 6)
_PRIOR_DRAWS = 4
_NOTABLE = 0.01


@dataclass(frozen=True)
class _Limits:
    """What a method must keep to pass."""

    shift: float
    r_hat: float
    ess: float


def posterior(
    model: Any,
    x: Tensor,
    *,
    draws: int = 1000,
    seed: int = 0,
    given: Given | None = None,
    shift: float = 0.1,
    r_hat: float = 1.01,
    ess: float = 400.0,
    warmup: int = 500,
) -> PosteriorDraws:
    r"""Draws from the posterior :math:`p(z|x)` of observed rows, for each row by the cheapest method that passes.

    In this order:

    1. *encoder*: draws of :math:`q(z|x)`, if Pareto :math:`\hat k` of the weights :math:`p(x, z) / q(z|x)` is at most
       :math:`\min(1 - 1/\log_{10} S, 0.7)`, their effective sample size a fifth of the draws, and weighting them would
       move no mean of z by more than ``shift`` standard deviations and no standard deviation by more than that share.
       A fifth of the weighted draws are the prior's, with weights :math:`p(x, z) / (\tfrac45 q(z|x) + \tfrac15 p(z))`,
       so that a part of the posterior that q misses shows;
    2. *refined*: the same of the best q for this row, a normal with full covariance that starts like the encoder's;
    3. *resampled*: four times as many draws of the better q, with those of the prior, resampled by their smoothed
       weights, if :math:`\hat k` and the effective sample size are as above;
    4. *hmc*: four chains of Hamiltonian Monte Carlo in units of the refined q, two of them from draws of the prior if
       these have weight, if :math:`\hat R` and the effective sample size pass; where they do not, chains three times as
       long.

    Where even that fails, or z is discrete, the last draws are returned and said to have failed; where q is a single
    code they are its copies, which nothing can judge. A part of the posterior that neither q nor draws of the prior
    met, as may be where latents are many, is missed unseen. The draws of a row depend on its content and the seed.

    References:
        Yao, Vehtari, Simpson, Gelman (2018), Yes, but did it work? Evaluating variational inference. Vehtari, Simpson,
        Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling. Vehtari, Gelman, Simpson, Carpenter, Bürkner
        (2021), Rank-normalization, folding, and localization: an improved R-hat.

    Arguments:
        model: A model, trained or not: the worse its encoder, the longer it takes.
        x: Observed rows in the values that the model sees, shape (N, \*X).
        draws: The number of draws for each row; with fewer than 16, chains cannot be judged and do not pass.
        seed: The seed of the noise.
        given: What is known beside the rows.
        shift: How far the moments of accepted draws of q may be off, in standard deviations.
        r_hat: The largest :math:`\hat R` of a coordinate that passes.
        ess: The smallest effective sample size of a coordinate that passes, bulk and tail, of draws of chains; 0.4 of
            the draws where these are few.
        warmup: The number of transitions before the draws of chains.

    Raises:
        JensenError: If the model has not one prior and one posterior, or q is a single point where z is any real
            vector.
        OptionError: If an option is out of range.
        DataError: If the rows cannot be scored.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> found = posterior(oracle.model, torch.ones(2, 3, dtype=torch.float64))
        >>> found.methods, found.draws["z"].shape
        (('encoder', 'encoder'), torch.Size([1000, 2, 2]))
    """
    if draws < 4 or not (shift > 0 and r_hat > 1 and ess > 0):
        raise OptionError(
            f"expected at least 4 draws, a positive shift and ess, and r_hat above 1; got draws={draws}, "
            f"shift={shift}, ess={ess}, r_hat={r_hat}."
        )
    check_has(model, "prior", "posterior")
    check_data(model, x, given)
    given = None if given is None else given.to(device_of(model))
    limits = _Limits(shift, r_hat, ess)
    rows: list[_Row] = []
    for index in torch.arange(len(x)).split(_CHUNK):
        chunk = _Chunk(model, x[index].to(device_of(model)), given_rows(given, index), draws, seed, limits)
        rows += chunk.run(warmup)
    z = torch.stack([row.z for row in rows], 1)
    unpack = getattr(model.prior, "unpack", None)
    with torch.no_grad():
        named = {"z": z} if unpack is None else {k: v.cpu() for k, v in unpack(z.to(device_of(model))).items()}
    return PosteriorDraws(named, z, tuple(row.checked for row in rows), _CHAINS if draws % _CHAINS == 0 else 1)


@dataclass(frozen=True)
class _Row:
    z: Tensor
    checked: Checked


class _Chunk:
    """A few rows on their way from method to method."""

    def __init__(self, model: Any, x: Tensor, given: Given | None, draws: int, seed: int, limits: _Limits) -> None:
        self.model, self.x, self.given, self.draws, self.seed, self.limits = model, x, given, draws, seed, limits
        self.keys = row_keys(x)
        self.done: dict[int, _Row] = {}
        self.reserve: dict[int, _Row] = {}
        self.starts: dict[int, Tensor] = {}
        prior = model.prior(given)
        self.real, self.event = _is_real(prior), tuple(prior.event_shape)
        size = math.prod(self.event)
        # Mean and factor of the covariance of the last q, the units of what follows.
        self.loc = torch.zeros(len(x), size, dtype=torch.float64, device=x.device)
        self.factor = torch.zeros(len(x), size, size, dtype=torch.float64, device=x.device)

    def run(self, warmup: int) -> list[_Row]:
        everything = list(range(len(self.x)))
        with differentiable(self.model):
            q = self.model.posterior(self.x, self.given)
            if isinstance(q, PointMass):
                return self._copies(q)
            self._judge("encoder", everything, q)
        left = self._left(everything)
        refined = self._refined(torch.tensor(left, device=self.x.device)) if left else None
        if refined is not None:
            with differentiable(self.model):
                self._judge("refined", left, refined)
        self.done.update({row: self.reserve[row] for row in self._left(left) if self.reserve[row].checked.passed})
        if self.real:
            self._chains(self._left(left), warmup)
        for row in self._left(everything):
            self.done[row] = self.reserve[row]
        return [self.done[row] for row in everything]

    def _copies(self, q: PointMass) -> list[_Row]:
        """Copies of one code for each row: they all weigh the same, so that no weights tell what q misses."""
        if self.real:
            raise JensenError(
                "the encoder gives a single point among real vectors, which has no density to weigh its draws by; "
                "use inference.posterior_chains, which starts from the prior."
            )
        z = q.sample(Size((self.draws,))).cpu()
        unknown = Checked("encoder", False, math.nan, math.nan, 1.0, math.nan)
        return [_Row(copies, unknown) for copies in z.unbind(1)]

    def _left(self, rows: list[int]) -> list[int]:
        return [row for row in rows if row not in self.done]

    def _refined(self, chosen: Tensor) -> Distribution | None:
        """The best q of some rows: a normal with full covariance where z is a real vector, whatever the encoder's."""
        options: dict[str, Any] = {}
        if self.real and len(self.event) == 1:
            loc, factor = (part[chosen].to(self.x) for part in (self.loc, self.factor))
            options["start"] = RowwiseNormal(loc, scale_tril=factor, validate_args=False)
            options["family"] = FullNormal(loc.shape[1]).to(self.x)
        try:
            given, seed = given_rows(self.given, chosen), mix(self.seed, "best")
            best = best_in_family(self.model, self.x[chosen], given=given, steps=400, seed=seed, **options)
        except OptionError:  # a posterior without a family that can be climbed
            return None
        return best.posterior

    def _judge(self, method: Method, rows: list[int], q: Distribution) -> None:
        """Draws from q, accepts the rows whose draws pass, and keeps resampled ones in reserve for the others."""
        count = max(_OVERSAMPLED * self.draws, _LEAST)
        z, own, mixed = self._weighed(method, rows, q, count)
        smoothed = psis(mixed)
        # Beside draws of the prior too narrow a q has bounded weights: its tails show in its own.
        k_hats = torch.maximum(smoothed.k_hat, psis(own).k_hat)
        if self.real:
            chosen = torch.tensor(rows, device=self.x.device)
            self.loc[chosen], self.factor[chosen] = _moments(z[:count].flatten(2).double())
        z = z.cpu()
        weight = smoothed.log_weight.softmax(0)
        moved = _moved(z[:count].flatten(2).double(), z.flatten(2).double(), weight)
        for place, row in enumerate(rows):
            k_hat, ess = float(k_hats[place]), float(smoothed.ess[place])
            # Weights of a q that misses a part of the posterior may look reliable, but are then most often very uneven.
            reliable = k_hat <= smoothed.threshold and ess >= _LEAST_EVEN * count
            self._keep_starts(row, z[count:, place], weight[count:, place])
            if reliable and float(moved[place]) <= self.limits.shift:
                checked = Checked(method, True, k_hat, math.nan, float(self.draws), float(moved[place]))
                self.done[row] = _Row(z[: self.draws, place], checked)
                continue
            generator = torch.Generator().manual_seed(mix(self.seed, "resample", method, self.keys[row]))
            kept = z[_systematic(weight[:, place], self.draws, generator), place]
            before = self.reserve.get(row)
            worth = _resampled_ess(weight[:, place], self.draws)
            checked = Checked("resampled", reliable, k_hat, math.nan, worth, float(moved[place]))
            if before is None or _rank(checked) > _rank(before.checked):
                self.reserve[row] = _Row(kept, checked)

    def _weighed(self, method: Method, rows: list[int], q: Distribution, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draws of q and then of the prior, the log-weights of those of q, and of all as draws of the mixture of both.

        Draws of the prior find what q misses, and their weights in the mixture then dominate.
        """
        chosen = torch.tensor(rows, device=self.x.device)
        x, given = self.x[chosen], given_rows(self.given, chosen)
        prior, beside = self.model.prior(given), count // _PRIOR_DRAWS
        keys = [self.keys[row] for row in rows]
        with RowNoise([mix(self.seed, "posterior", method, key) for key in keys]):
            z = q.sample(Size((count,)))
        others = self._drawn_from_prior(method, chosen, beside)
        of_q = torch.cat([q.log_prob(z).double(), q.log_prob(others).double()])
        z = torch.cat([z, others])
        # Into one place: small results kept between large passing ones leave holes in memory that fit none of these.
        log_joint, log_prior = torch.empty((2, *z.shape[:2]), dtype=torch.float64, device=z.device)
        block = max(1, min(_BLOCK_DRAWS, _BLOCK_VALUES // math.prod(x.shape[1:])) // len(rows))
        for begin in range(0, len(z), block):
            here = slice(begin, begin + block)
            log_joint[here] = self.model.log_joint(x, z[here], given)
            log_prior[here] = prior.log_prob(z[here])
        share = beside / (count + beside)
        mixture = torch.logaddexp(of_q + math.log1p(-share), log_prior + math.log(share))
        # A weight that is no number counts as none: the density there is zero, as far as floats can tell.
        own, mixed = (torch.where(w < math.inf, w, -math.inf).cpu() for w in (log_joint - of_q, log_joint - mixture))
        return z, own[:count], mixed

    def _drawn_from_prior(self, method: Method, chosen: Tensor, count: int) -> Tensor:
        """Draws of the prior, of a few rows at a time: a mixture draws from all its components to keep one."""
        parts = []
        for some in chosen.split(max(1, _BLOCK_DRAWS // count)):
            prior = self.model.prior(given_rows(self.given, some))
            with RowNoise([mix(self.seed, "prior", method, self.keys[row]) for row in some.tolist()]):
                parts.append(drawn(prior, count, len(some)))
        return torch.cat(parts, 1)

    def _keep_starts(self, row: int, z: Tensor, weight: Tensor) -> None:
        """Keeps where half the chains of a row may start: draws of the prior, if they have any weight beside q."""
        self.starts.pop(row, None)
        if self.real and float(weight.sum()) > _NOTABLE:
            generator = torch.Generator().manual_seed(mix(self.seed, "starts", self.keys[row]))
            self.starts[row] = z[_systematic(weight / weight.sum(), _CHAINS // 2, generator)].flatten(1).double()

    def _chains(self, rows: list[int], warmup: int) -> None:
        """Hamiltonian Monte Carlo for the rows that nothing else was good enough for, with longer chains if need be."""
        per_chain = -(-self.draws // _CHAINS)
        for thin in _THINNED:
            left = self._left(rows)
            if left:
                self._attempt(left, per_chain, thin, warmup if thin == _THINNED[0] else 2 * warmup)

    def _attempt(self, rows: list[int], per_chain: int, thin: int, warmup: int) -> None:
        try:
            self._chain(rows, per_chain, thin, warmup)
        except NonFiniteError:
            # A row without a place to start from keeps no other row from its chains.
            for row in rows if len(rows) > 1 else []:
                self._attempt([row], per_chain, thin, warmup)

    def _chain(self, rows: list[int], per_chain: int, thin: int, warmup: int) -> None:
        chosen = torch.tensor(rows, device=self.x.device)
        x, given = self.x[chosen], given_rows(self.given, chosen)
        event, dtype = self.event, self.x.dtype
        loc, factor = self.loc[chosen], self.factor[chosen]

        keys = [self.keys[row] for row in rows]
        with RowNoise([mix(self.seed, "chains", thin, key) for key in keys]):
            start = 2 * torch.randn((_CHAINS, *loc.shape), dtype=torch.float64, device=loc.device)
        for place, row in enumerate(rows):
            if row in self.starts:
                apart = (self.starts[row].to(loc) - loc[place]).T
                start[: _CHAINS // 2, place] = torch.linalg.solve_triangular(factor[place], apart, upper=False).T
        reach = (2 * start.abs().amax((0, 2))).clamp(min=_FAR)[:, None]

        def located(u: Tensor) -> Tensor:
            z = loc + torch.einsum("bij,kbj->kbi", factor, u.double())
            return z.to(dtype).reshape(*u.shape[:2], *event)

        def log_density(u: Tensor) -> Tensor:
            far = ~(u.abs() < reach).all(-1)  # a trajectory that diverged; the model need not see it
            value: Tensor = self.model.log_joint(x, located(torch.where(far[..., None], 0.0, u)), given)
            return torch.where(far, -math.inf, value)

        with differentiable(self.model):
            start = _first_finite(log_density, start)
            chains = hmc(
                log_density, start, draws=per_chain * thin, warmup=warmup, seed=mix(self.seed, thin), keys=keys
            )
        with torch.no_grad():
            every = torch.stack([located(u) for u in chains.z[thin - 1 :: thin].to(self.x.device)]).cpu()
        kept = replace(chains, z=every)  # what is returned is what is judged
        r_hat = kept.r_hat.flatten(1).amax(1)
        ess = torch.minimum(kept.ess_bulk.flatten(1).amin(1), kept.ess_tail.flatten(1).amin(1))
        for place, row in enumerate(rows):
            worst, least = float(r_hat[place]), float(ess[place])
            passed = worst <= self.limits.r_hat and least >= min(self.limits.ess, 0.4 * self.draws)
            # One chain after the other, so that they can be told apart again.
            z = every[:, :, place].transpose(0, 1).flatten(0, 1)[: self.draws]
            k_hat = self.reserve[row].checked.k_hat
            result = _Row(z, Checked("hmc", passed, k_hat, worst, min(least, float(self.draws)), math.nan))
            if passed:
                self.done[row] = result
            self.reserve[row] = result


def _first_finite(log_density: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """Where chains start: drawn in towards q until the density is finite."""
    for _ in range(8):
        wrong = ~log_density(u).isfinite()
        u = torch.where(wrong[..., None], 0.5 * u, u)
    return u


def _rank(checked: Checked) -> tuple[bool, float]:
    """Draws that passed before others, then the lower k-hat."""
    return checked.passed, -math.inf if math.isnan(checked.k_hat) else -checked.k_hat


def _is_real(prior: Distribution) -> bool:
    """Whether z is any real vector."""
    try:
        check_unconstrained(prior, "the prior")
    except JensenError:
        return False
    return True


def _moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and a factor of the covariance of draws of each row."""
    mean = z.mean(0)
    centred = (z - mean).transpose(0, 1)
    covariance = centred.transpose(1, 2) @ centred / (len(z) - 1)
    least = 1e-9 * covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    return mean, torch.linalg.cholesky(covariance + least * torch.eye(z.shape[-1]).to(covariance))


def _moved(own: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """By how many standard deviations moments of weighted draws differ from those of q's own, at most, shape (B,)."""
    weight = weight[..., None]
    plain_mean, plain_sd = own.mean(0), own.std(0)
    mean = (weight * z).sum(0)
    sd = (weight * (z - mean).square()).sum(0).sqrt()
    # Against the wider of both, and in logarithms, so that too narrow counts like too wide.
    shift = (mean - plain_mean).abs() / torch.maximum(sd, plain_sd).clamp(min=1e-300)
    spread = (sd.clamp(min=1e-300) / plain_sd.clamp(min=1e-300)).log().abs()
    return torch.maximum(shift, spread).amax(1).nan_to_num(math.inf)


def _resampled_ess(weight: Tensor, count: int) -> float:
    """The effective sample size of systematically resampled draws: their own spread adds to that of the weights."""
    share = (count * weight).frac()
    return 1 / float(weight.square().sum() + (share * (1 - share)).sum() / count**2)


def _systematic(weight: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Systematic resampling in random order: indices, shape (count,)."""
    steps = (
        torch.arange(count, dtype=torch.float64) + torch.rand((), generator=generator, dtype=torch.float64)
    ) / count
    chosen = torch.searchsorted(weight.cumsum(0), steps).clamp(max=len(weight) - 1)
    return chosen[torch.randperm(count, generator=generator)]
