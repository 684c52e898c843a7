"""Likelihoods that are not a network with a family: distributions that hold a network."""

from .sequence import Sequence

__all__ = ["Sequence"]
