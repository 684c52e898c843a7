"""Models: pieces drawn into log-weights."""

from .autoencoder import Autoencoder
from .explicit import Explicit
from .semi_supervised import SemiSupervised
from .shared import SharedVAE
from .topdown import Rung, TopDown
from .vae import VAE

__all__ = ["VAE", "Autoencoder", "Explicit", "Rung", "SemiSupervised", "SharedVAE", "TopDown"]
