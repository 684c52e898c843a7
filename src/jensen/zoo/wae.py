"""``wae-mmd``."""

from __future__ import annotations

from .. import objectives
from ..model import VAE
from ..roles import Objective
from .entry import Built, Context
from .pieces import Networks, coders, posterior_named, prior_of

__all__ = ["build"]


def build(context: Context) -> Built:
    """An autoencoder with a stochastic encoder whose codes, taken together, are held to the prior by a discrepancy.

    It is trained by :class:`jensen.objectives.MMD`, which has no bound on log p(x) in it; one is measured all the same.

    References:
        Tolstikhin, Bousquet, Gelly, Schölkopf (2018), Wasserstein auto-encoders. Zhao, Song, Ermon (2019), InfoVAE.
    """
    options = context.options

    def objective(steps: int) -> tuple[Objective, str]:
        found = objectives.MMD(options.weight, kl=options.kl)
        return found, f"reconstruction and {options.weight:g} times the squared discrepancy; not a bound"

    pair = coders(context, _diagonal)
    return Built(VAE(prior_of(context, pair.latents, pair.posterior), pair.likelihood, pair.posterior), objective)


def _diagonal(context: Context, networks: Networks, latents: int) -> object:
    return posterior_named(context, networks, latents, "diagonal", "of this model")
