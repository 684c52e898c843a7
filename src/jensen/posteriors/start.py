"""Where a posterior starts: the family that suits a prior, and the parameters that say the same in another family."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, constraints

from .. import families
from ..distributions import LowRankNormal, OneHot, UnitSphere, base_of, unbounded_scale
from ..errors import OptionError
from ..families import Family
from ..families.base import count_of
from ..noise import seeded
from ..roles import Given, Posterior, Prior

__all__ = ["family_for", "raw_from", "raw_like", "raw_of"]

_SMALLEST, _LARGEST = 2e-4, 5e3
_DRAWS = 1000


def family_for(prior: Prior) -> Family:
    r"""The family that suits the space of a prior: a full-covariance normal for real vectors, a power-spherical
    distribution on the sphere, straight-through codes where z is discrete.

    Raises:
        OptionError: If no family is known for the prior's space.
    """
    distribution = prior()
    event, support = tuple(distribution.event_shape), base_of(distribution.support)
    name = type(prior).__name__
    if len(event) == 1 and support is constraints.real:
        return families.FullNormal(event[0])
    if support is constraints.real:
        return families.Normal(event, scale=families.PredictedScale())
    if support is constraints.boolean and len(event) == 1:
        return families.StraightThroughBernoulli(event[0])
    if isinstance(support, UnitSphere):
        return families.PowerSpherical(event[0])
    if isinstance(support, OneHot) and len(event) == 2:
        return families.StraightThroughCategorical(*event)
    raise OptionError(
        f"no family is known that suits {name}, whose z has shape {event} and the support {support}; pass family=, "
        "such as families.Normal(shape, scale=families.PredictedScale())."
    )


def raw_of(family: Family, distribution: Distribution) -> Tensor:
    r"""The unconstrained parameters with which a normal family comes closest to a distribution, shape (B, P).

    Mean and covariance are taken over; a diagonal family takes the variances alone.

    Raises:
        OptionError: If the family is not a normal one.
    """
    if isinstance(family, families.FullNormal):
        return _full(family, distribution)
    if isinstance(family, families.Normal):
        mean = distribution.mean.flatten(1)
        if not family.scale.predicted:
            return mean
        return torch.cat([mean, _raw_scale(distribution.variance.flatten(1).sqrt())], 1)
    raise OptionError(
        f"{type(family).__name__} cannot start from a {type(distribution).__name__}: only normal families take over "
        "mean and covariance. Start from a posterior of the same family."
    )


def _full(family: families.FullNormal, distribution: Distribution) -> Tensor:
    mean, size = distribution.mean, family.size
    if isinstance(distribution, MultivariateNormal):
        factor = distribution.scale_tril
    elif isinstance(distribution, LowRankNormal):
        factor = torch.linalg.cholesky(distribution.covariance_matrix)
    else:
        factor = torch.diag_embed(distribution.variance.sqrt())
    factor = factor.expand(*mean.shape, size)
    row, column = torch.tril_indices(size, size, offset=-1, device=mean.device)
    below = factor[..., row, column] * size**0.5
    return torch.cat([mean, _raw_scale(factor.diagonal(dim1=-2, dim2=-1)), below], -1)


def _raw_scale(scale: Tensor) -> Tensor:
    return unbounded_scale(scale.clamp(_SMALLEST, _LARGEST))


def raw_like(family: Family, prior: Prior) -> Tensor:
    """The unconstrained parameters with which a family resembles a prior, shape (P,); zeros where it is no normal."""
    zeros = torch.zeros(count_of(family))
    if not isinstance(family, families.FullNormal | families.Normal):
        return zeros
    with seeded(0, "start"), torch.no_grad():
        z = prior().sample(torch.Size((_DRAWS,))).double()
    # Quantiles, since a prior may have no variance.
    low, middle, high = z.quantile(torch.tensor([0.16, 0.5, 0.84], dtype=z.dtype, device=z.device), 0)
    spread = ((high - low) / 2).clamp(_SMALLEST, _LARGEST)
    independent = Independent(Normal(middle[None], spread[None], validate_args=False), middle.ndim, validate_args=False)
    return raw_of(family, independent)[0].to(zeros)


def raw_from(posterior: Posterior, family: Family, x: Tensor, given: Given | None = None) -> Tensor:
    """The unconstrained parameters in a family that say the same as a posterior of x, shape (B, P).

    Raises:
        OptionError: If the posterior is of another family, and one of both is not normal.
    """
    own, raw = getattr(posterior, "family", None), getattr(posterior, "raw", None)
    if raw is not None and type(own) is type(family) and own.parameter_shapes == family.parameter_shapes:
        parameters: Tensor = raw(x, given)
        return parameters
    return raw_of(family, posterior(x, given))
