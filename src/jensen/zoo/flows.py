"""``flow-vae`` and ``flow-prior-vae``."""

from __future__ import annotations

from ..model import VAE
from .entry import Built, Context
from .options import FlowPriorOptions
from .pieces import Networks, coders, elbo, posterior_named, posterior_of, prior_of

__all__ = ["build"]


def build(context: Context) -> Built:
    r"""A variational autoencoder with a flow as posterior, or with one as prior.

    .. math:: \log q(z|x) = \log N(\epsilon; 0, 1) - \log \left| \det \frac{\partial z}{\partial \epsilon} \right|,
              \quad z = \mu(x) + \sigma(x) \odot T(\epsilon; h(x))

    T is autoregressive, so the determinant is a product. This is ``flow-vae``; in ``flow-prior-vae`` q(z|x) is normal,
    and the prior p(z) is that of which an autoregressive flow makes standard normal noise.

    References:
        Kingma et al. (2016), Improving variational inference with inverse autoregressive flow. Chen et al. (2017),
        Variational lossy autoencoder.
    """
    in_prior = isinstance(context.options, FlowPriorOptions)
    pair = coders(context, posterior_of if in_prior else _flow)
    name = "flow" if in_prior else context.options.prior
    prior = prior_of(context, pair.latents, pair.posterior, name=name)
    return Built(VAE(prior, pair.likelihood, pair.posterior), elbo(context, factorises=False), compiles=False)


def _flow(context: Context, networks: Networks, latents: int) -> object:
    return posterior_named(context, networks, latents, "flow", "of this model")
