"""The distributions and divergences that ``torch.distributions`` lacks."""

from .continuous_bernoulli import ContinuousBernoulli
from .detach import detached
from .divergence import closed_form_kl, kl_per_latent
from .grid import BinnedCategorical, DiscretizedLogistic, UnitGrid
from .normal import RowwiseNormal, diagonal_normal
from .scale import bounded_scale, unbounded_scale
from .student import StudentT

__all__ = [
    "BinnedCategorical",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "RowwiseNormal",
    "StudentT",
    "UnitGrid",
    "bounded_scale",
    "closed_form_kl",
    "detached",
    "diagonal_normal",
    "kl_per_latent",
    "unbounded_scale",
]
