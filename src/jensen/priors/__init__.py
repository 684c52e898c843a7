"""Priors: modules whose forward returns p(z)."""

from .normal import StandardNormal

__all__ = ["StandardNormal"]
