"""Likelihoods that are not a network with a family: distributions that hold a network."""

from .raster import Raster, input_channels
from .sequence import Sequence
from .weights import SampledWeights

__all__ = ["Raster", "SampledWeights", "Sequence", "input_channels"]
