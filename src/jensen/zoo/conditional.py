"""``conditional-vae``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import priors
from ..conditional import Conditioned
from ..model import VAE
from .entry import Built, Context
from .pieces import elbo, latent_count, likelihood_family, networks_for, posterior_of, prior_of
from .pieces.networks import Networks, is_convolutional

__all__ = ["build", "conditioned_coders"]


def build(context: Context) -> Built:
    r"""A variational autoencoder of rows given their labels, :math:`p(x|y) = \int p(x|z, y) p(z|y) dz`.

    References:
        Sohn, Lee, Yan (2015), Learning structured output representation using deep conditional generative models.
    """
    classes = context.labelled("since it is a model of rows given their label")
    likelihood, posterior, latents = conditioned_coders(context, classes)
    if context.options.prior == "conditioned":
        context.chose("prior", "a normal for each label", "asked for", "--prior")
        prior: Any = priors.ConditionedNormal(latents, classes)
    else:
        prior = prior_of(context, latents, posterior)
    context.chose("condition", f"one of {classes} labels", "bounds are on log p(x) given the label", "--model")
    return Built(VAE(prior, likelihood, posterior), elbo(context))


def conditioned_coders(context: Context, classes: int) -> tuple[Conditioned, Conditioned, int]:
    """A likelihood p(x|z, y), a posterior q(z|x, y) and the number of latents between them."""
    family = likelihood_family(context)
    latents = latent_count(context)
    networks = networks_for(context, latents)
    maps = is_convolutional(context.schema, context.options)
    plain = posterior_of(context, _seeing_labels(context, latents, classes, maps=maps), latents)
    event_dims = len(context.schema.event_shape)
    posterior = Conditioned(plain.net, plain.family, classes, event_dims, maps=maps)
    return Conditioned(networks.decoder_for(latents + classes, family), family, classes), posterior, latents


def _seeing_labels(context: Context, latents: int, classes: int, *, maps: bool) -> Networks:
    """Encoders of rows with the label beside them: as further channels of images, or as further values."""
    shape = context.schema.event_shape
    wider = (*shape[:2], (shape[2] if len(shape) == 3 else 1) + classes) if maps else (context.schema.size + classes,)
    schema = context.schema.model_copy(update={"event_shape": wider})
    return networks_for(replace(context, schema=schema, choices=[]), latents)
