"""The number of latents, their prior and the family of q(z|x)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import families, posteriors, priors
from ...conditional import Conditional
from ...errors import OptionError
from ...families.base import count_of
from ...noise import seeded
from ..entry import Context
from .networks import Networks

__all__ = ["latent_count", "posterior_named", "posterior_of", "prior_of"]

_FULL_UP_TO = 64  # latents
_COMPONENTS = 50
_PSEUDO_INPUTS = 100
_RANK = 5


def latent_count(context: Context, least: int = 1) -> int:
    """The number of latents that suits the rows, or the one that was asked for; a model may need more than one.

    Raises:
        OptionError: If fewer were asked for than the model needs.
    """
    schema, rows = context.schema, context.rows
    if context.options.latents is not None:
        latents, reason = int(context.options.latents), "asked for"
    else:
        latents = max(least, min(40, math.ceil(schema.size / 2), math.ceil(math.sqrt(rows) / 3) + 4))
        reason = f"{schema.size} values in a row, {rows} training rows; unused latents do no harm"
    if latents < least:
        raise OptionError(f"--model {context.options.model} needs at least {least} latents; got --latents {latents}.")
    context.chose("latents", f"{latents} latent{'s' * (latents > 1)}", reason, "--latents")
    return latents


def posterior_of(context: Context, networks: Networks, latents: int) -> Any:
    """The posterior: an encoder with a family, or a flow."""
    options = context.options
    name = getattr(options, "posterior", "auto")
    reason = "asked for"
    if name == "auto":
        name, reason = _automatic(latents, options)
    return posterior_named(context, networks, latents, name, reason)


def posterior_named(context: Context, networks: Networks, latents: int, name: str, reason: str) -> Any:
    """The posterior of a name, and why it was taken."""
    options = context.options
    texts = {
        "diagonal": "normal, diagonal covariance",
        "full": "normal, full covariance",
        "low-rank": f"normal, covariance of rank {min(_RANK, latents)} and a diagonal",
        "mixture": "mixture of 5 diagonal normals",
        "flow": "inverse autoregressive flow, two transforms",
    }
    context.chose("posterior", texts[name], reason, "--posterior")
    event_dims = len(context.schema.event_shape)
    if name == "flow":
        features = 2 * latents + 64
        with seeded(options.seed, "initialise", "posterior"):
            return posteriors.Flow(networks.encoder(features), latents, features)
    made: dict[str, Callable[[], Any]] = {
        "diagonal": lambda: families.Normal(latents, families.PredictedScale()),
        "full": lambda: families.FullNormal(latents),
        "low-rank": lambda: families.LowRankNormal(latents, min(_RANK, latents)),
        "mixture": lambda: families.NormalMixture(latents, 5),
    }
    family = made[name]()
    return Conditional(networks.encoder(count_of(family)), family, event_dims=event_dims)


def _automatic(latents: int, options: Any) -> tuple[str, str]:
    if getattr(options, "free_bits", 0.0):
        return "diagonal", "each latent has a KL of its own"
    if 1 < latents <= _FULL_UP_TO:
        return "full", "latents may correlate given x, which makes the bound tighter and the model better"
    return "diagonal", f"{latents} latent{'s' * (latents > 1)}"


def prior_of(context: Context, latents: int, posterior: Any, *, name: str = "standard", size: int | None = None) -> Any:
    """The prior by its name; ``size`` is the number of its components or pseudo-inputs."""
    prior: Any
    with seeded(context.options.seed, "initialise", "prior"):
        match name:
            case "mixture":
                count = size or _COMPONENTS
                text, prior = f"mixture of {count} normals", priors.Mixture(latents, count)
            case "vamp":
                count = size or _PSEUDO_INPUTS
                text = f"mixture of the posteriors of {count} learned rows"
                low, high = (None, None) if context.schema.kind == "continuous" else (0.0, 1.0)
                prior = priors.VampPrior(posterior, pseudo_inputs(context, count), low=low, high=high)
            case "flow":
                text, prior = "autoregressive flow", priors.Flow(latents)
            case "standard":
                text, prior = "standard normal", priors.StandardNormal(latents)
            case _:
                raise OptionError(f"--prior cannot be {name!r}; choose standard, mixture, vamp or flow.")
    reason = "asked for" if context.asked("prior") else "of this model" if name != "standard" else "the simplest"
    option = "--prior" if hasattr(context.options, "prior") else "--model"
    context.chose("prior", text, reason, option)
    return prior


def pseudo_inputs(context: Context, count: int) -> Tensor:
    """Where learned rows start: random rows in the middle of the data's range."""
    schema = context.schema
    shape = (count, *schema.event_shape)
    if schema.kind == "continuous":
        return torch.randn(shape)
    return (0.5 + 0.1 * torch.randn(shape)).clamp(0.05, 0.95)
