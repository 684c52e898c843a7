"""Bounds on log p(x) with their errors: the same for any batch size and any order of the rows, bit for bit."""

from ..numbers import Number
from .averages import elbo, kind_of, log_likelihood, summarise
from .checks import check_data, check_values, evidence_of, latent_size, measure_of
from .chunks import CHUNK_ROWS, device_of, dtype_of, evaluation_mode, in_chunks
from .per_row import Bounds, bounds, reconstructions
from .running import effective_sample_size, log_mean_variance
from .usage import ACTIVE, Latents, latents

__all__ = [
    "ACTIVE",
    "CHUNK_ROWS",
    "Bounds",
    "Latents",
    "Number",
    "bounds",
    "check_data",
    "check_values",
    "device_of",
    "dtype_of",
    "effective_sample_size",
    "elbo",
    "evaluation_mode",
    "evidence_of",
    "in_chunks",
    "kind_of",
    "latent_size",
    "latents",
    "log_likelihood",
    "log_mean_variance",
    "measure_of",
    "reconstructions",
    "summarise",
]
