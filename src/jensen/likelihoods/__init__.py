"""Likelihoods that are not a network with a family: distributions that hold a network."""

from .raster import Raster, input_channels
from .sequence import Sequence

__all__ = ["Raster", "Sequence", "input_channels"]
