"""Models: pieces drawn into log-weights."""

from .autoencoder import Autoencoder
from .explicit import Explicit
from .shared import SharedVAE
from .topdown import Rung, TopDown
from .vae import VAE

__all__ = ["VAE", "Autoencoder", "Explicit", "Rung", "SharedVAE", "TopDown"]
