"""Inference for one model and given rows: sampling, annealing, importance sampling and what it is worth."""

from .ais import Annealed, Sigmoidal, ais
from .bidirectional import Bracket, bdmc, reverse_ais
from .exact_posterior import posterior
from .fit_prior import PriorFit, fit_prior
from .hmc import Chains, hmc, posterior_chains
from .optimise import Best, FitLocally, best_in_family, fit_local
from .posterior_draws import Checked, PosteriorDraws
from .proposals import Efficiency, Weighted, efficiency, importance
from .psis import Smoothed, psis

__all__ = [
    "Annealed",
    "Best",
    "Bracket",
    "Chains",
    "Checked",
    "Efficiency",
    "FitLocally",
    "PosteriorDraws",
    "PriorFit",
    "Sigmoidal",
    "Smoothed",
    "Weighted",
    "ais",
    "bdmc",
    "best_in_family",
    "efficiency",
    "fit_local",
    "fit_prior",
    "hmc",
    "importance",
    "posterior",
    "posterior_chains",
    "psis",
    "reverse_ais",
]
