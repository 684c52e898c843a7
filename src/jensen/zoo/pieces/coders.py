"""Encoder and decoder as posterior and likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...conditional import Conditional
from ..entry import Context
from .latent import latent_count, posterior_of
from .likelihood import likelihood_family
from .networks import Networks, networks_for

__all__ = ["Coders", "coders"]


@dataclass(frozen=True)
class Coders:
    """A likelihood, a posterior and the number of latents between them."""

    likelihood: Conditional
    posterior: Any
    latents: int


def coders(
    context: Context, posterior: Callable[[Context, Networks, int], Any] = posterior_of, *, least: int = 1
) -> Coders:
    """Encoder and decoder for the data; ``posterior`` makes the former from networks and the number of latents.

    The model needs at least ``least`` of these.
    """
    family = likelihood_family(context)
    latents = latent_count(context, least)
    networks = networks_for(context, latents)
    encoder = posterior(context, networks, latents)
    return Coders(Conditional(networks.decoder_for(latents, family), family), encoder, latents)
