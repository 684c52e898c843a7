"""Walks through the space of latents: along one latent at a time, and over the whole of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .distributions.support import space_of
from .errors import JensenError, OptionError
from .evaluation import evaluation_mode
from .fitted import Fitted
from .noise import seeded
from .numbers import whole

__all__ = ["LatentMap", "Traversal", "latent_map", "traverse"]

Array = np.ndarray[Any, Any]
_DRAWS = 20_000
_ENDS = 0.01


@dataclass(frozen=True)
class Traversal:
    r"""What a row turns into when one of its latents is moved.

    Arguments:
        latents: The numbers of the latents that were moved, T of them, the one that tells rows apart most first.
        values: The values that each took, shape (T, S).
        rows: The mean of :math:`p(x|z)`, in the user's units, shape (T, S, \*X).
    """

    latents: tuple[int, ...]
    values: Array
    rows: Array


@dataclass(frozen=True)
class LatentMap:
    r"""Where rows lie in a space of two latents, and what lies at each place of it.

    Arguments:
        codes: The posterior means of the rows, shape (N, 2).
        values: The places of the map on each axis, even in the probability of the prior, shape (2, S).
        rows: The mean of :math:`p(x|z)` at each, from the top of the map, in the user's units, shape (S, S, \*X).
    """

    codes: Array
    values: Array
    rows: Array


def traverse(
    model: Fitted, x: Any, *, labels: Any = None, latents: Sequence[int] | None = None, count: int = 8, steps: int = 9
) -> Traversal:
    r"""Moves the code of the first row along one latent at a time, from the 1 % to the 99 % quantile of its prior.

    The latents are ranked by the standard deviation of their posterior means over all rows: one that the decoder
    ignores stays at its prior in every row, and comes last.

    Arguments:
        model: A fitted model with one vector of real latents.
        x: Rows in the user's units, shape (N, \*X); the first is the one to change.
        labels: Their labels, for a model that is conditioned on them.
        latents: Which latents to move; by default the first in rank.
        count: How many, where they are not named.
        steps: How many values each takes.

    Raises:
        JensenError: If the model has no vector of real latents with a prior.
        OptionError: If a number is out of range, or not whole.

    Example:
        >>> from jensen import testing
        >>> model = Fitted(testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5).model)
        >>> walk = traverse(model, np.eye(3), steps=5)
        >>> walk.rows.shape
        (2, 5, 3)
    """
    steps = whole(steps, 2, "a walk takes at least 2 steps")
    count = whole(count, 1, "a walk is along at least 1 latent")
    codes = np.asarray(model.embed(x, labels=labels))
    known = None if labels is None else _first(labels)
    low, high = _quantiles(model, known, codes.shape[1:], (_ENDS, 1 - _ENDS))
    ranked = np.argsort(-codes.std(0), kind="stable")
    named = ranked[:count] if latents is None else latents
    chosen = [whole(number, 0, "the latents are numbered from 0") for number in named]
    if not all(0 <= number < len(low) for number in chosen) or not chosen:
        raise OptionError(f"the latents are numbered from 0 to {len(low) - 1}; got {chosen}.")
    values = np.linspace(low[chosen], high[chosen], steps, axis=1).astype(codes.dtype)
    z = np.broadcast_to(codes[0], (len(chosen), steps, len(low))).copy()
    for line, number in enumerate(chosen):
        z[line, :, number] = values[line]
    flat = z.reshape(-1, len(low))
    rows = model.decode(flat, labels=None if known is None else known * len(flat))
    return Traversal(tuple(chosen), values, rows.reshape(len(chosen), steps, *rows.shape[1:]))


def latent_map(model: Fitted, x: Any, *, side: int = 15) -> LatentMap:
    r"""The codes of rows in a space of two latents, and the decoder's mean over a grid of it.

    The places of the grid are even in the probability of the prior, from 3 % to 97 %.

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes, figure 4.

    Arguments:
        model: A fitted model with two real latents.
        x: Rows in the user's units, shape (N, \*X).
        side: The number of places along each axis.

    Raises:
        JensenError: If the model has other latents than two real ones with a prior.
        OptionError: If the side is less than 2, or not whole.

    Example:
        >>> from jensen import testing
        >>> model = Fitted(testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5).model)
        >>> latent_map(model, np.eye(3), side=4).rows.shape
        (4, 4, 3)
    """
    side = whole(side, 2, "a map has at least 2 places along each axis")
    if getattr(model.vae, "conditions", 0):
        raise JensenError("a model that is conditioned on labels has another map for each; walk with traverse instead.")
    codes = np.asarray(model.embed(x))
    if codes.shape[1:] != (2,):
        raise JensenError(f"a map needs 2 latents; this model has {codes[0].size}. Fit again with --latents 2.")
    across, up = _quantiles(model, None, (2,), np.linspace(0.03, 0.97, side)).T.astype(codes.dtype)
    z = np.stack(np.meshgrid(across, up[::-1]), -1).reshape(-1, 2)
    rows = model.decode(z)
    return LatentMap(codes, np.stack([across, up]), rows.reshape(side, side, *rows.shape[1:]))


def _first(labels: Any) -> list[Any]:
    """The label of the first row."""
    found = labels if isinstance(labels, str | int) else labels[0]
    return [found if isinstance(found, str) else int(found)]


def _quantiles(model: Fitted, labels: Any, shape: tuple[int, ...], shares: Any) -> Array:
    """Quantiles of each latent under the prior, shape (shares, Z), from draws: of any prior, so of no closed form.

    Raises:
        JensenError: If the latents are no vector of real numbers with a prior.
    """
    vae = model.vae
    if not hasattr(vae, "prior"):
        raise JensenError(
            f"{type(vae).__name__} has no prior of one vector of latents, whose range a walk could take. Of an "
            "autoencoder, fit one to its codes first: jensen fit-prior RUN."
        )
    with evaluation_mode(vae), seeded(0, "walk"):
        given = model.given(labels, 1)
        prior = vae.prior() if given is None else vae.prior(given)
        support, event = prior.support, tuple(prior.event_shape)
        if support is None or space_of(support) != "real numbers" or event != shape or len(event) != 1:
            what = "no known space" if support is None else space_of(support)
            raise JensenError(
                f"a walk needs one vector of real latents; the prior of this model is over {what}, shape {event}, "
                f"and a row's code has shape {shape}."
            )
        drawn: Tensor = prior.sample(torch.Size((_DRAWS,))).double().cpu().reshape(_DRAWS, -1)
    found: Array = np.quantile(drawn.numpy(), np.asarray(shares), axis=0)
    return found
