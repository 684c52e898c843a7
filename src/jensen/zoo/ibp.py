"""``ibp-vae``."""

from __future__ import annotations

from collections.abc import Callable

from .. import families, objectives, posteriors, priors, schedules
from ..conditional import Conditional
from ..errors import OptionError
from ..families.base import count_of
from ..model import SharedVAE
from ..roles import Objective
from .entry import Built, Context
from .pieces import latent_count, likelihood_family, networks_for

__all__ = ["build"]

_PUBLISHED_TEMPERATURE = 0.3
_FALLING, _TIMES = 0.92, 3  # the share of the steps, and how often


def build(context: Context) -> Built:
    r"""A variational autoencoder of features that are on or off, with :class:`jensen.priors.IndianBuffet` as prior.

    The sticks are shared by all rows and have a posterior of their own. The bound is on the density of new rows given
    the old ones, with features that are 0 or 1.

    References:
        Singh, Ling, Doshi-Velez (2017), Structured variational autoencoders for the beta-Bernoulli process.
    """
    options = context.options
    if context.asked("prior_temperature") and options.relaxation != "relaxed":
        raise OptionError("--prior-temperature is that of relaxed features. Use --relaxation relaxed with it.")
    family, features = likelihood_family(context), latent_count(context)
    networks = networks_for(context, features)
    context.chose(
        "prior", f"Indian buffet process, α={options.alpha:g}, up to {features} features", "of this model", "--alpha"
    )
    kind = "on the sticks" if options.structured else "apart from the sticks (mean field)"
    relaxed = options.relaxation == "relaxed"
    temperature = options.temperature or (_PUBLISHED_TEMPERATURE if relaxed else 1.0)
    context.chose(
        "posterior",
        f"features {kind}, {options.relaxation} at temperature {temperature:g}",
        "of this model",
        "--structured, --relaxation, --temperature",
    )
    codes = families.FeatureLoadings(features, loadings=options.loadings, temperature=temperature, relaxed=relaxed)
    encoder = posteriors.OnSticks if options.structured else Conditional
    net = networks.encoder(count_of(codes))
    prior_temperature = options.prior_temperature if relaxed else None
    model = SharedVAE(
        priors.IndianBuffet(features, options.alpha, loadings=options.loadings, temperature=prior_temperature),
        Conditional(networks.decoder_for(features, family), family),
        encoder(net, codes, event_dims=len(context.schema.event_shape)),
        priors.Sticks(features, options.alpha),
        posteriors.Sticks(features, options.alpha),
        rows=context.rows,
    )
    return Built(model, _objective(context), compiles=False)


def _objective(context: Context) -> Callable[[int], tuple[Objective, str]]:
    options = context.options
    closed = False if options.sampled_kl else None

    def build(steps: int) -> tuple[Objective, str]:
        beta: float | schedules.Schedule = 1.0
        text = f"ELBO, nats/example, the KL of the sticks divided by {context.rows} rows"
        falling = int(_FALLING * steps)
        if options.start_beta != 1 and falling >= _TIMES:
            beta = schedules.Cyclical(options.start_beta, 1.0, steps=falling, cycles=_TIMES, rising=0.8)
            text += f", β from {options.start_beta:g} to 1, {_TIMES} times in {falling} steps"
        return objectives.ELBO(options.k, beta=beta, closed_form_kl=closed), text

    return build
