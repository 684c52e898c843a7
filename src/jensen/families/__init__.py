"""Families: from the outputs of a network to a distribution; each declares the parameter shapes it needs."""

from .base import Family, Measure
from .binary import Bernoulli
from .binned import Categorical, DiscretizedLogistic
from .binned_mixture import DiscretizedLogisticMixture
from .continuous import ContinuousBernoulli, LogNormal, StudentT
from .normal import FullNormal, Normal
from .scales import FixedScale, PerDimensionScale, PredictedScale, Scale, SharedScale

__all__ = [
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Family",
    "FixedScale",
    "FullNormal",
    "LogNormal",
    "Measure",
    "Normal",
    "PerDimensionScale",
    "PredictedScale",
    "Scale",
    "SharedScale",
    "StudentT",
]
