"""Priors: modules whose forward returns p(z)."""

from .codes import Codes
from .conditioned import ConditionedNormal
from .discrete import Bernoulli, Categorical
from .flow import Flow
from .mixture import Mixture, VampPrior
from .named import Named
from .normal import StandardNormal
from .sphere import UniformSphere
from .sticks import IndianBuffet, StickBreaking, Sticks
from .weights import Weights

__all__ = [
    "ConditionedNormal",
    "Bernoulli",
    "Categorical",
    "Codes",
    "Flow",
    "IndianBuffet",
    "Mixture",
    "Named",
    "StandardNormal",
    "StickBreaking",
    "Sticks",
    "UniformSphere",
    "VampPrior",
    "Weights",
]
