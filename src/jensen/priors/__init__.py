"""Priors: modules whose forward returns p(z)."""

from .discrete import Bernoulli, Categorical
from .flow import Flow
from .mixture import Mixture, VampPrior
from .named import Named
from .normal import StandardNormal
from .sphere import UniformSphere

__all__ = [
    "Bernoulli",
    "Categorical",
    "Flow",
    "Mixture",
    "Named",
    "StandardNormal",
    "UniformSphere",
    "VampPrior",
]
