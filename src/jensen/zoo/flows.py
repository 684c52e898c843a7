"""``flow-vae`` and ``flow-prior-vae``."""

from __future__ import annotations

from ..model import VAE
from .entry import Built, Context
from .options import FlowPriorOptions
from .pieces import Networks, coders, elbo, posterior_named, posterior_of, prior_of

__all__ = ["build"]


def build(context: Context) -> Built:
    """A variational autoencoder with a flow as posterior, or with one as prior.

    References:
        Kingma et al. (2016), Improving variational inference with inverse autoregressive flow. Chen et al. (2017),
        Variational lossy autoencoder.
    """
    in_prior = isinstance(context.options, FlowPriorOptions)
    pair = coders(context, posterior_of if in_prior else _flow)
    name = "flow" if in_prior else context.options.prior
    prior = prior_of(context, pair.latents, pair.posterior, name=name)
    return Built(VAE(prior, pair.likelihood, pair.posterior), elbo(context), compiles=False)


def _flow(context: Context, networks: Networks, latents: int) -> object:
    return posterior_named(context, networks, latents, "flow", "of this model")
