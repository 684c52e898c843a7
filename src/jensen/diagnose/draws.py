"""Draws of the latents of many rows, each row with noise of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..errors import JensenError
from ..evaluation import CHUNK_ROWS, check_data, device_of, evaluation_mode
from ..inference.proposals import check_has
from ..noise import RowNoise, mix, row_keys, seeded
from ..roles import Draw

__all__ = ["Densities", "Draws", "densities_of", "draws_of", "prior_and_posterior", "row_choice", "some_rows"]

_BLOCK_VALUES = 2**22


@dataclass(frozen=True)
class Densities:
    r"""What K draws of the latents of N rows weigh, on the CPU, float64.

    Arguments:
        log_likelihood: :math:`\log p(x|z)`, shape (K, N), nats.
        log_prior: :math:`\log p(z)`, shape (K, N), nats.
        log_posterior: :math:`\log q(z|x)`, shape (K, N), nats.
        log_weight: The log-weights as the model gives them, shape (K, N), nats.
    """

    log_likelihood: Tensor
    log_prior: Tensor
    log_posterior: Tensor
    log_weight: Tensor


@dataclass(frozen=True)
class Draws(Densities):
    r"""K draws of the latents of N rows, on the CPU, and what they weigh.

    Arguments:
        z: The draws, shape (K, N, \*Z).
    """

    z: Tensor


def densities_of(model: Any, x: Tensor, *, k: int, seed: int = 0) -> Densities:
    r"""What :func:`draws_of` returns without the draws themselves, which for large latents are too many to keep.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> densities_of(oracle.model, torch.zeros(4, 3, dtype=torch.float64), k=7).log_weight.shape
        torch.Size([7, 4])
    """
    return Densities(*_fields_of_all(model, x, k, seed, row_keys(x), _densities))


def draws_of(model: Any, x: Tensor, *, k: int, seed: int = 0, keys: Sequence[int] | None = None) -> Draws:
    r"""K draws from q(z|x) for each row; the noise of a row depends on its content and the seed alone.

    Arguments:
        model: A model with latents; several groups are flattened into one.
        x: Rows in the values that the model sees, shape (N, \*X).
        k: The number of draws K for each row.
        seed: The seed of the noise.
        keys: What a row's noise depends on instead of its content.

    Raises:
        JensenError: If the model has no latents, or log-weights of another kind.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> draws_of(oracle.model, torch.zeros(4, 3, dtype=torch.float64), k=7).z.shape
        torch.Size([7, 4, 2])
    """
    return Draws(*_fields_of_all(model, x, k, seed, row_keys(x) if keys is None else keys, _all_fields))


def _fields_of_all(
    model: Any, x: Tensor, k: int, seed: int, keys: Sequence[int], fields: Callable[[Draw], tuple[Tensor, ...]]
) -> list[Tensor]:
    """Fields of the draws of all rows, each of shape (K, N, ...), from blocks of both that fit into memory."""
    check_data(model, x)
    block = max(1, min(k, _BLOCK_VALUES // (CHUNK_ROWS * math.prod(x.shape[1:]))))
    rows = []
    with evaluation_mode(model), seeded(seed):
        for start in range(0, len(x), CHUNK_ROWS):
            part, part_keys = x[start : start + CHUNK_ROWS].to(device_of(model)), keys[start : start + CHUNK_ROWS]
            shared = mix(seed, "diagnose", "shared")
            noise, blocks = RowNoise([mix(seed, "diagnose", key) for key in part_keys], shared=shared), []
            for first in range(0, k, block):
                with noise:
                    blocks.append(fields(_drawn(model, part, min(block, k - first))))
            rows.append([torch.cat(field) for field in zip(*blocks, strict=True)])
    # A tensor made in inference mode cannot be used with gradients later; its clone can.
    return [torch.cat(field, 1).clone() for field in zip(*rows, strict=True)]


def _drawn(model: Any, x: Tensor, k: int) -> Draw:
    draw: Draw = model.draw(x, None, k)
    if not draw.groups:
        raise JensenError("this diagnosis needs a model with latents; this one has none.")
    if getattr(model, "sums_exactly", False):
        raise JensenError(
            f"this diagnosis needs log-weights that are log p(x, z) - log q(z|x); those of {type(model).__name__} sum "
            "over latents exactly."
        )
    return draw


def _densities(draw: Draw) -> tuple[Tensor, ...]:
    log_prior = torch.stack([group.log_prior for group in draw.groups]).sum(0)
    log_posterior = torch.stack([group.log_posterior for group in draw.groups]).sum(0)
    return tuple(field.cpu().double() for field in (draw.log_likelihood, log_prior, log_posterior, draw.log_weight))


def _all_fields(draw: Draw) -> tuple[Tensor, ...]:
    groups = draw.groups
    z = groups[0].z if len(groups) == 1 else torch.cat([group.z.flatten(2) for group in groups], 2)
    return (*_densities(draw), z.cpu())


def prior_and_posterior(model: Any, x: Tensor) -> tuple[Distribution, Distribution]:
    r"""The distributions p(z) and q(z|x), the latter of batch shape (B,).

    Raises:
        JensenError: If the model has no single prior and posterior.
    """
    check_has(model, "prior", "posterior")
    return model.prior(), model.posterior(x.to(device_of(model)))


def some_rows(x: Tensor, rows: int, seed: int = 0) -> Tensor:
    r"""A sample of rows without replacement, in their order; all of them where there are no more.

    Arguments:
        x: Rows, shape (N, \*X).
        rows: How many.
        seed: The seed of the choice.

    Example:
        >>> len(some_rows(torch.zeros(9, 2), 4)), len(some_rows(torch.zeros(9, 2), 40))
        (4, 9)
    """
    return x[row_choice(len(x), rows, seed)]


def row_choice(count: int, rows: int, seed: int = 0) -> Tensor:
    """The numbers of the rows that :func:`some_rows` takes."""
    if rows >= count:
        return torch.arange(count)
    generator = torch.Generator().manual_seed(mix(seed, "rows"))
    return torch.randperm(count, generator=generator)[:rows].sort().values
