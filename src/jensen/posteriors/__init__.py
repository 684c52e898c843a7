"""Posteriors: modules whose forward returns q(z|x)."""

from .amortized import Amortized
from .flow import Flow
from .local import Local
from .refined import Refined

__all__ = ["Amortized", "Flow", "Local", "Refined"]
