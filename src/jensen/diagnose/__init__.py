"""Is a model any good, and what limits it: each part of the answer is a function of draws, of arrays or of a model."""

from .aggregate import Aggregate
from .calibration import Calibration, simulated, simulation_calibration
from .collapse import LatentUse, latent_use
from .disentanglement import Disentanglement, InformationGap, dci, mutual_information_gap
from .draws import Densities, Draws, densities_of, draws_of
from .faults import objective_faults, weight_faults
from .features import Frequencies, dictionary, expected_frequencies, feature_frequencies, features_in_use
from .findings import Finding
from .gaps import GapSplit, InferenceGaps, inference_gaps, split_gap
from .gradients import GradientNoise, gradient_noise, least_noisy
from .measured import Measured, mean_of
from .page import Page
from .prior_gap import PriorGap, prior_gap
from .representation import LabelProbe, probe_labels
from .scale import PosteriorScale, posterior_scale
from .surgery import Surgery, elbo_surgery, quadrature_surgery
from .weights import WeightReport, jackknife, weigh

__all__ = [
    "Aggregate",
    "Calibration",
    "Densities",
    "Disentanglement",
    "Draws",
    "Finding",
    "Frequencies",
    "GapSplit",
    "GradientNoise",
    "InferenceGaps",
    "InformationGap",
    "LabelProbe",
    "LatentUse",
    "Measured",
    "Page",
    "PosteriorScale",
    "PriorGap",
    "Surgery",
    "WeightReport",
    "dci",
    "densities_of",
    "dictionary",
    "draws_of",
    "elbo_surgery",
    "expected_frequencies",
    "feature_frequencies",
    "features_in_use",
    "gradient_noise",
    "inference_gaps",
    "jackknife",
    "latent_use",
    "least_noisy",
    "mean_of",
    "mutual_information_gap",
    "objective_faults",
    "posterior_scale",
    "prior_gap",
    "probe_labels",
    "quadrature_surgery",
    "simulated",
    "simulation_calibration",
    "split_gap",
    "weigh",
    "weight_faults",
]
