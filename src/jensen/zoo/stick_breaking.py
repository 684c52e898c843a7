"""``stick-breaking-vae``."""

from __future__ import annotations

from .. import families, nets, priors
from ..conditional import Conditional
from ..errors import OptionError
from ..model import VAE
from .entry import Built, Context
from .pieces import elbo, latent_count, likelihood_family, networks_for

__all__ = ["build"]

_LEAST = 0.1
"""The least spread by which pieces are divided, as a share of the largest: late pieces are hardly ever long."""


def build(context: Context) -> Built:
    r"""A variational autoencoder whose code is a stick broken into pieces, the weights of a Dirichlet process.

    The shares have the prior :class:`jensen.priors.StickBreaking` and posteriors of the family
    :class:`jensen.distributions.Kumaraswamy`. The decoder sees the pieces,
    :func:`jensen.distributions.stick_breaking`.

    References:
        Nalisnick, Smyth (2017), Stick-breaking variational autoencoders.
    """
    options = context.options
    if options.kl_terms and (options.sampled_kl or options.estimator not in ("auto", "reparameterised")):
        raise OptionError("--kl-terms are those of a formula, which a KL from samples has not. Leave one of them out.")
    family, sticks = likelihood_family(context), latent_count(context)
    networks = networks_for(context, sticks)
    context.chose("prior", f"{sticks} sticks, Beta(1, {options.alpha:g})", "of this model", "--latents, --alpha")
    context.chose("posterior", "Kumaraswamy for each stick", "of this model", "--model")
    pieces = families.Kumaraswamy(sticks, options.kl_terms)
    posterior = Conditional(networks.encoder(2 * sticks), pieces, event_dims=len(context.schema.event_shape))
    prior = priors.StickBreaking(sticks, options.alpha)
    mean, spread = prior.moments()
    decoder = nets.Standardised(networks.decoder_for(sticks + 1, family), mean, spread.clamp(min=_LEAST * spread.max()))
    likelihood = Conditional(decoder, family)
    return Built(VAE(prior, likelihood, posterior), elbo(context), compiles=False)
