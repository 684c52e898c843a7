"""Priors: modules whose forward returns p(z)."""

from .named import Named
from .normal import StandardNormal

__all__ = ["Named", "StandardNormal"]
