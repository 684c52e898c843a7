"""Models: pieces drawn into log-weights."""

from .autoencoder import Autoencoder
from .explicit import Explicit
from .vae import VAE

__all__ = ["VAE", "Autoencoder", "Explicit"]
