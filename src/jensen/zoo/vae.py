"""``vae`` and ``beta-vae``."""

from __future__ import annotations

from .. import priors
from ..conditional import Conditional
from ..model import VAE
from .entry import Built, Context
from .pieces import coders, elbo, prior_of

__all__ = ["build"]


def build(context: Context) -> Built:
    r"""A variational autoencoder, :math:`p(x) = \int p(x|z) p(z) dz`, trained by :class:`jensen.objectives.ELBO`.

    ``beta-vae`` is trained with β above 1, which presses codes towards the prior; its bounds are reported with β = 1.

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes. Higgins et al. (2017), β-VAE.
    """
    pair = coders(context)
    prior = prior_of(context, pair.latents, pair.posterior, name=getattr(context.options, "prior", "standard"))
    plain = isinstance(pair.posterior, Conditional) and isinstance(prior, priors.StandardNormal)
    return Built(VAE(prior, pair.likelihood, pair.posterior), elbo(context), compiles=plain)
