"""Families: from the outputs of a network to a distribution; each declares the parameter shapes it needs."""

from .base import Family, Measure
from .binary import Bernoulli
from .binned import Categorical, DiscretizedLogistic
from .binned_mixture import DiscretizedLogisticMixture
from .continuous import ContinuousBernoulli, LogNormal, StudentT
from .discrete import OneHotCategorical, StraightThroughBernoulli, StraightThroughCategorical
from .features import FeatureLoadings, Kumaraswamy
from .latent import LowRankNormal, NormalMixture, PowerSpherical
from .normal import FullNormal, Normal
from .scales import FixedScale, PerDimensionScale, PredictedScale, Scale, SharedScale

__all__ = [
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Family",
    "FeatureLoadings",
    "FixedScale",
    "FullNormal",
    "Kumaraswamy",
    "LogNormal",
    "LowRankNormal",
    "Measure",
    "Normal",
    "NormalMixture",
    "OneHotCategorical",
    "PerDimensionScale",
    "PowerSpherical",
    "PredictedScale",
    "Scale",
    "SharedScale",
    "StraightThroughBernoulli",
    "StraightThroughCategorical",
    "StudentT",
]
