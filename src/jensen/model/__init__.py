"""Models: pieces drawn into log-weights."""

from .autoencoder import Autoencoder
from .explicit import Explicit
from .topdown import Rung, TopDown
from .vae import VAE

__all__ = ["VAE", "Autoencoder", "Explicit", "Rung", "TopDown"]
