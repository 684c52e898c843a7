"""Which latents are used, and whether the decoder listens to them at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..distributions import kl_per_latent
from ..errors import DataError
from ..evaluation import ACTIVE, device_of, evaluation_mode
from ..noise import mix, seeded
from .aggregate import Aggregate
from .draws import Draws, draws_of
from .findings import SURE
from .measured import Measured, mean_of

__all__ = ["LatentUse", "decoded_log_likelihood", "latent_use"]

Verdict = Literal["none", "spare latents", "total collapse", "decoder ignores z"]

LEAST_USE = 0.1
"""Nats per example below which a decoder counts as not using z."""

_RESAMPLES = 400
_ENOUGH_ROWS = 30
_CHUNK = 64


@dataclass(frozen=True)
class LatentUse:
    r"""How the latents are used over a set of rows.

    Arguments:
        kl: The mean :math:`\mathrm{KL}(q(z|x) \| p(z))`.
        kl_per_latent: The same for each latent, shape (Z,); None where the distributions do not factorise.
        mean_variance: The variance over rows of the posterior mean of each latent, shape (Z,).
        active: How many of those are above 0.01.
        active_interval: The 95% bootstrap interval of that number, over rows.
        other_rows: What the log-likelihood loses when the z of a row is exchanged for that of another row.
        from_prior: What it loses when z is drawn from the prior instead.
        verdict: ``total collapse``: neither q nor the decoder uses z; ``decoder ignores z``: q has a KL, but the
            decoder does not use z, or a row's own z explains it no better than that of another and worse than draws
            of the prior do; ``spare latents``: some latents are inactive; or ``none``.
    """

    kl: Measured
    kl_per_latent: Tensor | None
    mean_variance: Tensor
    active: int
    active_interval: tuple[int, int]
    other_rows: Measured
    from_prior: Measured
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data."""
        return {
            "kl": self.kl.to_json(),
            "kl_per_latent": None if self.kl_per_latent is None else self.kl_per_latent.tolist(),
            "mean_variance": self.mean_variance.tolist(),
            "latents": len(self.mean_variance),
            "active": self.active,
            "active_interval": list(self.active_interval),
            "other_rows": self.other_rows.to_json(),
            "from_prior": self.from_prior.to_json(),
            "verdict": self.verdict,
        }


def latent_use(model: Any, x: Tensor, *, k: int = 8, seed: int = 0) -> LatentUse:
    r"""Measures how much of z is used by the posterior and by the decoder.

    A posterior may move with x while the decoder does not listen. What the decoder uses is measured by what it loses:

    .. math:: E_{q(z|x_n)}[\log p(x_n|z)] - E_{q(z|x_m)}[\log p(x_n|z)], \quad m \ne n

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance weighted autoencoders (active units). Dieng, Kim, Rush, Blei
        (2019), Avoiding latent variable collapse with generative skip models.

    Arguments:
        model: A model with one prior and one posterior.
        x: Rows in the values that the model sees, shape (N, \*X), at least 2.
        k: The number of draws for each row.
        seed: The seed of the draws.

    Raises:
        DataError: If there are fewer than 2 rows.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> found = latent_use(oracle.model, 2 * torch.randn(20, 3).double())
        >>> found.active, found.verdict
        (2, 'none')
    """
    if len(x) < 2:
        raise DataError(f"how z is used shows only by comparing rows; got {len(x)}, expected at least 2.")
    draws = draws_of(model, x, k=k, seed=seed)
    q = Aggregate(model, x)
    with torch.inference_mode():
        means = torch.cat([part.mean.flatten(1).double().cpu() for part in q.parts])
        each = [kl_per_latent(part, q.prior) for part in q.parts]
    known = [kl.flatten(1).double().cpu() for kl in each if kl is not None]
    exact = q.kl()
    kl = mean_of((draws.log_posterior - draws.log_prior).mean(0) if exact is None else exact)
    variance = means.var(0, correction=0)
    active = int((variance > ACTIVE).sum())
    other, prior, excess = _losses(model, x, draws, seed)
    return LatentUse(
        kl=kl,
        kl_per_latent=torch.cat(known).mean(0) if len(known) == len(each) else None,
        mean_variance=variance,
        active=active,
        active_interval=_bootstrap(means, seed),
        other_rows=other,
        from_prior=prior,
        verdict=_verdict(kl, other, excess, active, means),
    )


def _losses(model: Any, x: Tensor, draws: Draws, seed: int) -> tuple[Measured, Measured, Measured]:
    """What z of other rows and of the prior cost, and what own z gain over the log of the prior's mean likelihood."""
    own = decoded_log_likelihood(model, x, draws.z).mean(0)
    generator = torch.Generator().manual_seed(mix(seed, "other rows"))
    order = torch.randperm(len(x), generator=generator)
    # Each row takes the z of the row before it in a random order, so that none keeps its own.
    source = torch.empty_like(order)
    source[order] = order.roll(1)
    other = decoded_log_likelihood(model, x, draws.z[:, source]).mean(0)
    with evaluation_mode(model), seeded(seed, "prior"):
        drawn = model.prior().sample(torch.Size(draws.z.shape[:2])).cpu().clone()
    prior = decoded_log_likelihood(model, x, drawn)
    log_mean = prior.logsumexp(0) - math.log(len(prior))
    return mean_of(own - other), mean_of(own - prior.mean(0)), mean_of(own - log_mean)


def decoded_log_likelihood(model: Any, x: Tensor, z: Tensor) -> Tensor:
    r""":math:`\log p(x_n|z_{kn})`, shape (K, N), nats, float64, for z of shape (K, N, \*Z).

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> decoded_log_likelihood(oracle.model, torch.zeros(4, 3).double(), torch.zeros(2, 4, 2).double()).shape
        torch.Size([2, 4])
    """
    device, parts = device_of(model), []
    with evaluation_mode(model):
        for start in range(0, len(x), _CHUNK):
            rows = x[start : start + _CHUNK].to(device)
            decoded = model.decode(z[:, start : start + _CHUNK].to(device))
            parts.append(decoded.log_prob(rows).double().cpu())
    return torch.cat(parts, 1).clone()


def _bootstrap(means: Tensor, seed: int) -> tuple[int, int]:
    """The 95% interval of the number of active latents over resampled rows."""
    generator = torch.Generator().manual_seed(mix(seed, "bootstrap"))
    picks = torch.randint(len(means), (_RESAMPLES, len(means)), generator=generator)
    weights = torch.zeros(_RESAMPLES, len(means), dtype=torch.float64)
    weights.scatter_add_(1, picks, torch.full(picks.shape, 1 / len(means), dtype=torch.float64))
    centred = means - means.mean(0)
    variance = weights @ centred.square() - (weights @ centred).square()
    counts = (variance > ACTIVE).sum(1).double()
    low, high = torch.quantile(counts, torch.tensor([0.025, 0.975], dtype=torch.float64)).round().long().tolist()
    return low, high


def _verdict(kl: Measured, use: Measured, excess: Measured, active: int, mean: Tensor) -> Verdict:
    rows, latents = mean.shape
    unused = use.value + SURE * use.se < LEAST_USE
    # A row's own z is expected to exceed the log-mean by the KL where q is exact. Below it, and of no more use than the
    # z of another row, codes belong to other rows.
    foreign = rows >= _ENOUGH_ROWS and use.beyond(0) <= SURE and excess.beyond(0) < -SURE
    if kl.beyond(LEAST_USE) > SURE and (unused or foreign):
        return "decoder ignores z"
    # What codes tell of rows is at most the KL.
    silent = active == 0 and kl.value + SURE * kl.se < LEAST_USE and use.beyond(0) <= SURE
    if unused or silent:
        return "total collapse"
    return "spare latents" if active < latents else "none"
