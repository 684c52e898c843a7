"""``iwae``."""

from __future__ import annotations

from .. import objectives
from ..model import VAE
from .entry import Built, Context
from .pieces import coders, prior_of, weighted

__all__ = ["build"]


def build(context: Context) -> Built:
    """A variational autoencoder trained by :class:`jensen.objectives.IWAE`, the bound from K weighted samples.

    The gradients are doubly reparameterised, so that more samples do not drown those of the encoder in noise.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance weighted autoencoders. Tucker et al. (2019), Doubly
        reparameterized gradient estimators.
    """
    pair = coders(context)
    prior = prior_of(context, pair.latents, pair.posterior, name=context.options.prior)

    def objective(k: int, estimator: objectives.Estimator | None) -> objectives.IWAE:
        return objectives.IWAE(k, estimator=estimator or objectives.DoublyReparameterised())

    return Built(VAE(prior, pair.likelihood, pair.posterior), weighted(context, "IWAE bound", objective))
