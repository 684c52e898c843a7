"""``beta-tcvae``."""

from __future__ import annotations

from .. import objectives
from ..model import VAE
from ..roles import Objective
from .entry import Built, Context
from .pieces import Networks, coders, posterior_named, prior_of

__all__ = ["build"]


def build(context: Context) -> Built:
    """A variational autoencoder whose latents are pressed to be independent of one another over the data.

    It is trained by :class:`jensen.objectives.BetaTCVAE`, in which the second term, the total correlation, weighs more.

    References:
        Chen, Li, Grosse, Duvenaud (2018), Isolating sources of disentanglement in variational autoencoders.
    """
    options, rows = context.options, context.rows

    def diagonal(context: Context, networks: Networks, latents: int) -> object:
        return posterior_named(context, networks, latents, "diagonal", "the total correlation needs each latent's own")

    def objective(steps: int) -> tuple[Objective, str]:
        found = objectives.BetaTCVAE(rows, options.beta, alpha=options.alpha, gamma=options.gamma)
        return found, f"ELBO in three parts, total correlation times β={options.beta:g}"

    pair = coders(context, diagonal, least=2)
    return Built(VAE(prior_of(context, pair.latents, pair.posterior), pair.likelihood, pair.posterior), objective)
