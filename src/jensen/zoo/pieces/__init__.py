"""From names on the command line to pieces of a model."""

from .coders import Coders, coders
from .latent import latent_count, posterior_named, posterior_of, prior_of
from .likelihood import likelihood_family
from .networks import Networks, networks_for, parameters_of_values
from .objective import elbo, estimator_of, exact, weighted

__all__ = [
    "Coders",
    "Networks",
    "coders",
    "elbo",
    "estimator_of",
    "exact",
    "latent_count",
    "likelihood_family",
    "networks_for",
    "parameters_of_values",
    "posterior_named",
    "posterior_of",
    "prior_of",
    "weighted",
]
