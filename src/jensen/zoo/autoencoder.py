"""``autoencoder``."""

from __future__ import annotations

from .. import objectives
from ..conditional import Conditional
from ..model import Autoencoder
from .entry import Built, Context
from .pieces import latent_count, likelihood_family, networks_for

__all__ = ["build"]


def build(context: Context) -> Built:
    r"""An encoder and a decoder trained to reconstruct, without a distribution over codes.

    .. math:: \max_{f, p} \sum_n \log p(x_n | z_n), \quad z_n = f(x_n)

    There is no p(z), so there is no p(x) and nothing to draw from, until ``jensen fit-prior`` has fitted one to the
    codes.

    References:
        Hinton, Salakhutdinov (2006), Reducing the dimensionality of data with neural networks.
    """
    family = likelihood_family(context)
    latents = latent_count(context)
    networks = networks_for(context, latents)
    decoder = Conditional(networks.decoder_for(latents, family), family)
    model = Autoencoder(networks.encoder(latents), decoder, latents)
    return Built(model, lambda steps: (objectives.Reconstruction(), "reconstruction error, nats/example; not a bound"))
