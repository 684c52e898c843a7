"""Kullback-Leibler divergences in closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    kl_divergence,
)

from .bernoulli import softplus
from .codes import PointMass
from .lowrank import LowRankNormal
from .sphere import PowerSpherical, UniformSphere
from .spike_and_slab import SpikeAndSlab

__all__ = ["closed_form_kl", "is_cut_short", "kl_per_latent"]


def closed_form_kl(q: Distribution, p: Distribution) -> Tensor | None:
    r""":math:`\mathrm{KL}(q \| p) = E_q[\log q - \log p]` in nats where a formula is known, else None.

    Example:
        >>> import torch
        >>> from jensen.distributions import diagonal_normal
        >>> q = diagonal_normal(torch.ones(5, 3), torch.ones(5, 3), 1)
        >>> closed_form_kl(q, diagonal_normal(torch.zeros(3), torch.ones(3), 1))
        tensor([1.5000, 1.5000, 1.5000, 1.5000, 1.5000])
    """
    if isinstance(q, Independent) and isinstance(p, Independent):
        return _independent_kl(q, p)
    if _is_diagonal_normal(p) and isinstance(q, MultivariateNormal):
        return _full_to_diagonal_kl(q, p)
    if _is_diagonal_normal(p) and isinstance(q, LowRankNormal):
        return _low_rank_to_diagonal_kl(q, p)
    if isinstance(q, Bernoulli) and isinstance(p, Bernoulli):
        return _bernoulli_kl(q, p)
    if isinstance(q, OneHotCategorical) and isinstance(p, OneHotCategorical):
        gap = q.logits - p.logits
        return (q.probs * gap.masked_fill((q.probs == 0) & ~gap.isfinite(), 0.0)).sum(-1)
    if isinstance(q, SpikeAndSlab) and isinstance(p, SpikeAndSlab):
        each = _spike_and_slab_kl(q, p)
        return None if each is None else each.sum(-1)
    if isinstance(q, PointMass):
        return -p.log_prob(q.value)
    if isinstance(q, PowerSpherical) and isinstance(p, UniformSphere):
        return p.log_area - q.entropy()
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def is_cut_short(q: Distribution) -> bool:
    """Whether the formula of the KL is a series of which only some terms are taken, which is then too small.

    Example:
        >>> import torch
        >>> from jensen.distributions import Kumaraswamy
        >>> a = torch.ones(3)
        >>> is_cut_short(Independent(Kumaraswamy(a, a, terms=10), 1)), is_cut_short(Kumaraswamy(a, a))
        (True, False)
    """
    return getattr(q.base_dist if isinstance(q, Independent) else q, "terms", None) is not None


def _independent_kl(q: Independent[Distribution], p: Independent[Distribution]) -> Tensor | None:
    dims = q.reinterpreted_batch_ndims
    if dims != p.reinterpreted_batch_ndims:
        return None
    each = closed_form_kl(q.base_dist, p.base_dist)
    return each if each is None or dims == 0 else each.flatten(-dims).sum(-1)


def _bernoulli_kl(q: Bernoulli, p: Bernoulli) -> Tensor:
    # torch's own formula is infinite where a probability of p rounds to 0 or 1.
    return q.probs * (q.logits - p.logits) - softplus(q.logits) + softplus(p.logits)


def _spike_and_slab_kl(q: SpikeAndSlab, p: SpikeAndSlab) -> Tensor | None:
    """Of features, then of strengths; each of these counts with the probability that its feature is on."""
    features = closed_form_kl(q.features.base_dist, p.features.base_dist)
    strengths = closed_form_kl(q.strengths.base_dist, p.strengths.base_dist)
    if features is None or strengths is None:
        return None
    return torch.cat(torch.broadcast_tensors(features, q.features.mean * strengths), -1)


def _is_diagonal_normal(p: Distribution) -> bool:
    return isinstance(p, Independent) and isinstance(p.base_dist, Normal) and len(p.event_shape) == 1


def _low_rank_to_diagonal_kl(q: LowRankNormal, p: Distribution) -> Tensor:
    scale = p.stddev
    spread = ((q.variance + (q.loc - p.mean).square()) / scale.square()).sum(-1)
    return 0.5 * (spread - q.loc.shape[-1] - q.log_det) + scale.log().sum(-1)


def _full_to_diagonal_kl(q: MultivariateNormal, p: Distribution) -> Tensor:
    scale = p.stddev
    trace = (q.scale_tril.square().sum(-1) / scale.square()).sum(-1)
    distance = ((q.loc - p.mean) / scale).square().sum(-1)
    log_det = scale.log().sum(-1) - q.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (trace + distance - q.loc.shape[-1]) + log_det


def kl_per_latent(q: Distribution, p: Distribution) -> Tensor | None:
    r"""The closed-form KL of each latent, shape (B, \*Z), where both distributions factorise; else None.

    A one-hot code is one latent: its KL has the shape without the last dimension.

    Example:
        >>> import torch
        >>> from jensen.distributions import diagonal_normal
        >>> q = diagonal_normal(torch.tensor([[1.0, 0.0]]), torch.ones(1, 2), 1)
        >>> kl_per_latent(q, diagonal_normal(torch.zeros(2), torch.ones(2), 1))
        tensor([[0.5000, 0.0000]])
    """
    if isinstance(q, Independent) and isinstance(p, Independent):
        return closed_form_kl(q.base_dist, p.base_dist)
    if isinstance(q, SpikeAndSlab) and isinstance(p, SpikeAndSlab):
        return _spike_and_slab_kl(q, p)
    return None
