"""``semi-supervised-vae``."""

from __future__ import annotations

from .. import families, objectives
from ..conditional import Conditional
from ..errors import OptionError
from ..model import SemiSupervised
from ..noise import seeded
from ..roles import Objective
from .conditional import conditioned_coders
from .entry import Built, Context
from .pieces import networks_for, prior_of
from .pieces.objective import warmed

__all__ = ["build"]


def build(context: Context) -> Built:
    """A variational autoencoder with a class that a few labels name, and a classifier that learns from all rows.

    Rows with a label are trained by L, rows without one by U of :class:`jensen.objectives.SemiSupervised`.

    References:
        Kingma, Rezende, Mohamed, Welling (2014), Semi-supervised learning with deep generative models (M2).
    """
    options = context.options
    classes = context.labelled("some of which it learns from")
    if not classes <= options.labelled < context.rows:
        raise OptionError(
            f"--labelled must lie between {classes}, one of each class, and {context.rows - 1}, all training rows but "
            f"one; got {options.labelled}. With all labels known there is no class to infer: use conditional-vae."
        )
    likelihood, posterior, latents = conditioned_coders(context, classes)
    with seeded(options.seed, "initialise", "classifier"):
        net = networks_for(Context(context.schema, context.rows, options), latents).encoder(classes)
    event_dims = len(context.schema.event_shape)
    classifier = Conditional(net, families.OneHotCategorical(1, classes), event_dims)
    text = f"{options.labelled} of {context.rows} training rows, as many of each of {classes} classes, come again"
    context.chose("labels", text, "chosen by a seeded hash of their content", "--labelled")

    def objective(steps: int) -> tuple[Objective, str]:
        beta, described = warmed(options, steps)
        found = objectives.SemiSupervised(options.alpha, beta=beta)
        return found, f"ELBO summed over classes, nats/example, {described}, classifier times α={options.alpha:g}"

    model = SemiSupervised(prior_of(context, latents, posterior), likelihood, posterior, classifier)
    return Built(model, objective)
