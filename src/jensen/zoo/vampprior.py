"""``vampprior-vae``."""

from __future__ import annotations

from ..model import VAE
from .entry import Built, Context
from .pieces import coders, elbo, prior_of

__all__ = ["build"]


def build(context: Context) -> Built:
    r"""A variational autoencoder with the prior :math:`\frac1C \sum_c q(z | u_c)` at learned rows :math:`u_c`.

    References:
        Tomczak, Welling (2018), VAE with a VampPrior.
    """
    pair = coders(context)
    size = context.options.pseudo_inputs
    prior = prior_of(context, pair.latents, pair.posterior, name="vamp", size=size)
    return Built(VAE(prior, pair.likelihood, pair.posterior), elbo(context, factorises=False), compiles=False)
