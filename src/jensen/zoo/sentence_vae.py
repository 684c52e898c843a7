"""``sentence-vae`` and ``language-model``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from .. import families, likelihoods, nets, objectives, priors
from ..conditional import Conditional
from ..model import VAE, Explicit
from ..noise import seeded
from ..roles import Objective
from .entry import Built, Context
from .options import LanguageModelOptions
from .pieces import elbo, exact

__all__ = ["build"]

_RATE, _EPOCHS = 3e-3, 20.0
_FREE_NATS, _FREE_FROM = 5.0, 300  # steps; in fewer the KL may not get there, and would never be charged


def build(context: Context) -> Built:
    r"""Sentences from a continuous space, :math:`p(x) = \int \prod_t p(x_t|x_{<t}, z) p(z) dz`, or without z.

    ``language-model`` is the same LSTM without z, :math:`p(x) = \prod_t p(x_t|x_{<t})`, of which log p(x) is exact.

    References:
        Bowman, Vilnis, Vinyals, Dai, Jozefowicz, Bengio (2016), Generating sentences from a continuous space. He et al.
        (2019), Lagging inference networks and posterior collapse in variational autoencoders.
    """
    tokens = context.schema.protocol.split("; ")[1]
    context.chose(
        "tokens", tokens, "of training rows; what occurs once is unknown", "--level, --vocabulary, --max-length"
    )
    if isinstance(context.options, LanguageModelOptions):
        return Built(Explicit(_likelihood(context, 0)), exact, rate=_RATE, compiles=False, epochs=_EPOCHS)
    latents = context.options.latents
    context.chose("latents", f"{latents} latents", "with a standard normal prior", "--latents")
    model = VAE(priors.StandardNormal(latents), _likelihood(context, latents), _posterior(context, latents))
    return Built(model, _objective(context), rate=_RATE, compiles=False, epochs=_EPOCHS)


def _likelihood(context: Context, latents: int) -> likelihoods.Sequence:
    options, schema = context.options, context.schema
    context.chose(
        "decoder",
        f"LSTM of {options.units} units, vectors of {options.embedding}, dropout {options.dropout:g}, word dropout "
        f"{options.word_dropout:g}",
        "each token is predicted from those before it" + (" and z" if latents else ""),
        "--units, --embedding, --dropout, --word-dropout" + (", --skip" if latents else ""),
    )
    with seeded(options.seed, "initialise", "decoder"):
        sizes = (schema.levels, latents, options.embedding, options.units, options.dropout)
        net = nets.LSTMDecoder(*sizes, skip=bool(latents) and options.skip)
    return likelihoods.Sequence(net, schema.size, options.word_dropout)


def _posterior(context: Context, latents: int) -> Conditional:
    options, schema = context.options, context.schema
    context.chose("posterior", "normal, diagonal covariance", "from the last state of an LSTM", "--model")
    with seeded(options.seed, "initialise", "encoder"):
        net = nets.LSTMEncoder(schema.levels, 2 * latents, options.embedding, options.units, options.dropout)
    return Conditional(net, families.Normal(latents, families.PredictedScale()))


def _floor(context: Context, steps: int) -> float:
    """The nats that are free: without any the decoder does not learn to heed z. One estimator admits none."""
    options = context.options
    if options.free_bits or steps < _FREE_FROM or options.estimator == "doubly-reparameterised":
        return 0.0
    return round(min(_FREE_NATS, math.log(context.rows) / 2), 2)


def _objective(context: Context) -> Callable[[int], tuple[Objective, str]]:
    options = context.options

    def build(steps: int) -> tuple[Objective, str]:
        floor = _floor(context, steps) if options.free_bits_total is None else options.free_bits_total
        chosen = options.model_copy(update={"free_bits_total": floor})
        objective, text = elbo(replace(context, options=chosen))(steps)
        if not options.aggressive:
            return objective, text
        few = min(options.aggressive, steps)
        text += f", the encoder alone in 9 of 10 of the first {few} steps"
        return objectives.AggressiveInference(objective, few), text

    return build
