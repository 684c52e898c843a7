"""Objectives: from a model and a batch to a loss, a bound and the terms they are made of."""

from .elbo import ELBO

__all__ = ["ELBO"]
