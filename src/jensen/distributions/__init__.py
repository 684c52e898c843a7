"""The distributions and divergences that ``torch.distributions`` lacks."""

from .bernoulli import Bernoulli
from .beta import Beta
from .categorical import Categorical
from .codes import CodeGrid, PointMass, code_of
from .continuous_bernoulli import ContinuousBernoulli
from .detach import detached
from .discrete import OneHot, OneHotCategorical, StraightThroughBernoulli, StraightThroughCategorical
from .divergence import closed_form_kl, is_cut_short, kl_per_latent
from .equal_mixture import EqualMixture
from .flow import ForwardFlow, InverseFlow
from .grid import BinnedCategorical, DiscretizedLogistic, UnitGrid
from .joint import Joint, with_strengths
from .kumaraswamy import Kumaraswamy
from .logistic import Logistic, relaxed_coins
from .lowrank import LowRankNormal
from .mixture import NormalMixture
from .normal import RowwiseNormal, diagonal_normal
from .raster import Raster
from .scale import bounded_scale, unbounded_scale
from .sequence import Sentences, Sequences
from .sphere import PowerSpherical, UniformSphere, UnitSphere
from .spike_and_slab import SpikeAndSlab, Strengths
from .stick_breaking import falling_logits, stick_breaking
from .student import StudentT
from .support import base_of, same_space, space_of

__all__ = [
    "Bernoulli",
    "Beta",
    "BinnedCategorical",
    "Categorical",
    "CodeGrid",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "EqualMixture",
    "ForwardFlow",
    "InverseFlow",
    "Joint",
    "Kumaraswamy",
    "Logistic",
    "LowRankNormal",
    "NormalMixture",
    "OneHot",
    "OneHotCategorical",
    "PointMass",
    "PowerSpherical",
    "Raster",
    "RowwiseNormal",
    "Sentences",
    "Sequences",
    "SpikeAndSlab",
    "StraightThroughBernoulli",
    "StraightThroughCategorical",
    "Strengths",
    "StudentT",
    "UniformSphere",
    "UnitGrid",
    "UnitSphere",
    "base_of",
    "bounded_scale",
    "closed_form_kl",
    "code_of",
    "detached",
    "diagonal_normal",
    "falling_logits",
    "is_cut_short",
    "kl_per_latent",
    "relaxed_coins",
    "same_space",
    "space_of",
    "stick_breaking",
    "unbounded_scale",
    "with_strengths",
]
