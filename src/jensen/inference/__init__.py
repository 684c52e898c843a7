"""Inference for one model and given rows: sampling, annealing, importance sampling and what it is worth."""

from .ais import Annealed, Sigmoidal, ais
from .bidirectional import Bracket, bdmc, reverse_ais
from .hmc import Chains, hmc, posterior_chains
from .proposals import Efficiency, Weighted, efficiency, importance
from .psis import Smoothed, psis

__all__ = [
    "Annealed",
    "Bracket",
    "Chains",
    "Efficiency",
    "Sigmoidal",
    "Smoothed",
    "Weighted",
    "ais",
    "bdmc",
    "efficiency",
    "hmc",
    "importance",
    "posterior_chains",
    "psis",
    "reverse_ais",
]
