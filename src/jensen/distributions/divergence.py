"""Kullback-Leibler divergences in closed form."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

__all__ = ["closed_form_kl", "kl_per_latent"]


def closed_form_kl(q: Distribution, p: Distribution) -> Tensor | None:
    r""":math:`\mathrm{KL}(q \| p) = E_q[\log q - \log p]` in nats where a formula is known, else None.

    Example:
        >>> q = diagonal_normal(torch.ones(5, 3), torch.ones(5, 3), 1)
        >>> closed_form_kl(q, diagonal_normal(torch.zeros(3), torch.ones(3), 1))
        tensor([1.5000, 1.5000, 1.5000, 1.5000, 1.5000])
    """
    if isinstance(q, MultivariateNormal) and _is_diagonal_normal(p):
        return _full_to_diagonal_kl(q, p)
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def _is_diagonal_normal(p: Distribution) -> bool:
    return isinstance(p, Independent) and isinstance(p.base_dist, Normal) and len(p.event_shape) == 1


def _full_to_diagonal_kl(q: MultivariateNormal, p: Distribution) -> Tensor:
    scale = p.stddev
    trace = (q.scale_tril.square().sum(-1) / scale.square()).sum(-1)
    distance = ((q.loc - p.mean) / scale).square().sum(-1)
    log_det = scale.log().sum(-1) - q.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (trace + distance - q.loc.shape[-1]) + log_det


def kl_per_latent(q: Distribution, p: Distribution) -> Tensor | None:
    r"""The closed-form KL of each latent, shape (B, \*Z), where both distributions factorise; else None.

    Example:
        >>> q = diagonal_normal(torch.tensor([[1.0, 0.0]]), torch.ones(1, 2), 1)
        >>> kl_per_latent(q, diagonal_normal(torch.zeros(2), torch.ones(2), 1))
        tensor([[0.5000, 0.0000]])
    """
    if isinstance(q, Independent) and isinstance(p, Independent):
        return closed_form_kl(q.base_dist, p.base_dist)
    return None
