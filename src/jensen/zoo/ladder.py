"""``ladder-vae``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import families, nets, priors
from ..conditional import Conditional
from ..errors import OptionError
from ..families.base import count_of
from ..model import Rung, TopDown
from ..noise import seeded
from .entry import Built, Context
from .pieces import elbo, likelihood_family, parameters_of_values

__all__ = ["build"]

_GROUPS = (8, 8, 16, 16)
_CONV_GROUPS = 2  # at each resolution
_CONV_LATENTS = 8  # at each place
_LEAST_SIDE = 4
_IMAGES_FROM = 32


def build(context: Context) -> Built:
    r"""A variational autoencoder with many groups of latents, made in one sweep from the top.

    .. math:: p(x) = \int p(x | z_{1:L}) \prod_l p(z_l | z_{<l}) \, dz_{1:L}, \quad
              q(z|x) = \prod_l q(z_l | z_{<l}, x)

    Prior and posterior of a group share the path that leads to it.

    References:
        Sønderby et al. (2016), Ladder variational autoencoders. Child (2021), Very deep VAEs generalize autoregressive
        models and can outperform them on images.
    """
    family = likelihood_family(context)
    _check(context)
    with seeded(context.options.seed, "initialise", "ladder"):
        model = _convolutional(context, family) if _is_conv(context) else _dense(context, family)
    return Built(model, elbo(context))


def _check(context: Context) -> None:
    options, schema = context.options, context.schema
    if options.estimator not in ("auto", "reparameterised"):
        raise OptionError(f"--estimator {options.estimator} needs one group of latents; leave it out.")
    if options.network == "conv" and len(schema.event_shape) not in (2, 3):
        raise OptionError(f"--network conv needs images; {schema.name} has rows of shape {schema.event_shape}.")


def _is_conv(context: Context) -> bool:
    shape, network = context.schema.event_shape, context.options.network
    large = len(shape) in (2, 3) and min(shape[:2]) >= _IMAGES_FROM
    return bool(network == "conv" or (network == "auto" and large))


def _normal(net: Any, shape: int | Sequence[int], event_dims: int = 1) -> Conditional:
    return Conditional(net, families.Normal(shape, families.PredictedScale()), event_dims)


def _dense(context: Context, family: Any) -> TopDown:
    options, schema = context.options, context.schema
    width, blocks = options.width or (384 if context.rows >= 10_000 else 256), options.blocks
    groups = options.groups or _GROUPS
    _chose(context, groups, f"dense, {width} wide, {blocks} residual blocks in each part")
    first = _normal(nets.mlp(width, 2 * groups[0], hidden=()), groups[0])
    rungs = [Rung(priors.StandardNormal(groups[0]), first, nets.ResidualUpdate(groups[0], width, blocks))]
    for latents in groups[1:]:
        prior = _normal(nets.mlp(width, 2 * latents, hidden=(width // 2,)), latents)
        posterior = _normal(nets.mlp(2 * width, 2 * latents, hidden=(width // 2,)), latents)
        rungs.append(Rung(prior, posterior, nets.ResidualUpdate(latents, width, blocks)))
    likelihood = Conditional(nets.mlp(width, count_of(family), hidden=(width,)), family)
    return TopDown(nets.residual_features(schema.size, width, blocks), rungs, likelihood)


@dataclass(frozen=True)
class _Place:
    """Where a group of a convolutional ladder stands."""

    latents: int
    size: tuple[int, int]
    below: tuple[int, int] | None


def _places(context: Context) -> tuple[list[_Place], list[int]]:
    """Each group's latents and resolution, and how many groups there are at each resolution, from the coarsest."""
    shape = context.schema.event_shape
    levels = max(1, math.ceil(math.log2(min(shape[:2]) / _LEAST_SIDE)) + 1)
    groups = context.options.groups or (_CONV_LATENTS,) * (_CONV_GROUPS * levels)
    levels = min(levels, len(groups))
    sizes = nets.resolutions(shape, levels)
    # Coarse groups are cheap, so they are the more where the numbers do not divide.
    counts = [len(groups) // levels + (level < len(groups) % levels) for level in range(levels)]
    of_group = [size for size, count in zip(sizes, counts, strict=True) for _ in range(count)]
    belows = [*of_group[1:], sizes[-1]]
    return [
        _Place(latents, size, None if size == below else below)
        for latents, size, below in zip(groups, of_group, belows, strict=True)
    ], counts


def _convolutional(context: Context, family: Any) -> TopDown:
    options, shape = context.options, context.schema.event_shape
    width, blocks = options.width or 64, options.blocks
    places, counts = _places(context)
    _chose(context, [p.latents for p in places], f"convolutions, {width} channels, resolutions with {counts} groups")
    rungs = []
    for number, place in enumerate(places):
        event = (place.latents, *place.size)
        seen = width if number == 0 else 2 * width
        posterior = _normal(nets.conv_head(seen, 2 * place.latents, width), event, 3)
        prior: Any = priors.StandardNormal(event)
        if number:
            prior = _normal(nets.conv_head(width, 2 * place.latents, width), event, 3)
        rungs.append(Rung(prior, posterior, nets.ConvUpdate(place.latents, width, place.below, blocks)))
    likelihood = Conditional(nets.conv_likelihood(width, shape, *parameters_of_values(family)), family, event_dims=3)
    return TopDown(nets.ConvFeatures(shape, width, counts, blocks), rungs, likelihood)


def _chose(context: Context, groups: Sequence[int], networks: str) -> None:
    asked = "asked for" if context.options.groups else "of this model"
    text = f"{len(groups)} groups of {', '.join(map(str, groups))} latents, from the top"
    context.chose("latents", text, asked, "--groups")
    context.chose("networks", networks, f"{context.rows} training rows", "--network, --width, --blocks")
