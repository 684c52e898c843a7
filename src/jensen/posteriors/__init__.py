"""Posteriors: modules whose forward returns q(z|x)."""

from .amortized import Amortized
from .flow import Flow
from .local import Local
from .quantised import Quantised
from .refined import Refined
from .sticks import OnSticks, Sticks
from .weights import Weights

__all__ = ["Amortized", "Flow", "Local", "OnSticks", "Quantised", "Refined", "Sticks", "Weights"]
