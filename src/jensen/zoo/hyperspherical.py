"""``hyperspherical-vae``."""

from __future__ import annotations

from .. import families, priors
from ..conditional import Conditional
from ..families.base import count_of
from ..model import VAE
from .entry import Built, Context
from .pieces import Networks, coders, elbo

__all__ = ["build"]


def build(context: Context) -> Built:
    r"""A variational autoencoder with a uniform prior on the unit sphere and power-spherical posteriors.

    The prior is :class:`jensen.distributions.UniformSphere`, the posterior :class:`jensen.families.PowerSpherical`.

    References:
        Davidson et al. (2018), Hyperspherical variational auto-encoders. De Cao, Aziz (2020), The power spherical
        distribution.
    """
    pair = coders(context, _spherical, least=2)
    context.chose("prior", f"uniform on the unit sphere in {pair.latents} dimensions", "of this model", "--latents")
    return Built(
        VAE(priors.UniformSphere(pair.latents), pair.likelihood, pair.posterior), elbo(context, factorises=False)
    )


def _spherical(context: Context, networks: Networks, latents: int) -> Conditional:
    context.chose("posterior", "power spherical", "of this model", "--model")
    family = families.PowerSpherical(latents)
    return Conditional(networks.encoder(count_of(family)), family, event_dims=len(context.schema.event_shape))
