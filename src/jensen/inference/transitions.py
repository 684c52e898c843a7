"""Transitions of Hamiltonian Monte Carlo: many chains for many rows at once, each row with a step size of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..noise import RowNoise

__all__ = ["Densities", "Point", "chunks", "leapfrog", "locate", "transition"]

Densities = Callable[[Tensor], Sequence[Tensor]]
"""From z (K, B, *Z) to one or more log-densities, each (K, B); what is sampled is a weighted sum of them."""

_ROWS = 16
"""Rows in a chunk, always, as in :mod:`jensen.evaluation`; smaller, since each row has chains."""

_JITTER = 0.2


@dataclass(frozen=True)
class Point:
    r"""Where the chains are.

    Arguments:
        z: The positions, shape (K, B, \*Z).
        log_density: The log-densities there, each of shape (K, B), float64.
        gradient: Their gradients in z, each of shape (K, B, \*Z).
    """

    z: Tensor
    log_density: tuple[Tensor, ...]
    gradient: tuple[Tensor, ...]


def locate(densities: Densities, z: Tensor) -> Point:
    """The log-densities at z and their gradients."""
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        values = densities(z)
        gradients = [torch.autograd.grad(value.sum(), z, materialize_grads=True)[0] for value in values]
    return Point(z.detach(), tuple(value.detach().double() for value in values), tuple(gradients))


def leapfrog(
    densities: Densities, point: Point, momentum: Tensor, weights: Sequence[float], step: Tensor, steps: int
) -> tuple[Point, Tensor]:
    r"""A number of leapfrog steps of size ε: reversible, volume-preserving, with an energy error of order ε².

    .. math:: p \leftarrow p + \tfrac{\epsilon}{2} \nabla \log f(z), \quad z \leftarrow z + \epsilon p, \quad
        p \leftarrow p + \tfrac{\epsilon}{2} \nabla \log f(z)
    """
    z, force = point.z, _combine(weights, point.gradient)
    momentum = momentum + 0.5 * step * force
    for _ in range(steps - 1):
        z = (z + step * momentum).detach().requires_grad_()
        with torch.enable_grad():
            total = _combine(weights, densities(z)).sum()
            force = torch.autograd.grad(total, z)[0]
        momentum = torch.addcmul(momentum, step, force)
    end = locate(densities, (z + step * momentum).detach())
    return end, momentum + 0.5 * step * _combine(weights, end.gradient)


def _combine(weights: Sequence[float], parts: Sequence[Tensor]) -> Tensor:
    total = weights[0] * parts[0]
    for weight, part in zip(weights[1:], parts[1:], strict=True):
        total = torch.add(total, part, alpha=weight)
    return total


def transition(
    densities: Densities,
    point: Point,
    weights: Sequence[float],
    step: Tensor,
    *,
    leapfrogs: int,
    noise: RowNoise,
    scale: Tensor | float = 1.0,
) -> tuple[Point, Tensor]:
    r"""One transition that leaves :math:`f(z) = \exp \sum_i w_i \log f_i(z)` invariant, and its acceptance probability.

    The step size is multiplied by a random number near 1 for each chain, drawn before the trajectory, so that no
    trajectory can return to its start for every chain at once.

    References:
        Neal (2011), MCMC using Hamiltonian dynamics.

    Arguments:
        densities: The log-densities.
        point: Where the chains are.
        weights: The weight of each log-density.
        step: The step size of each row, shape (B,).
        leapfrogs: The number of leapfrog steps.
        noise: The noise of each row.
        scale: The scale of each coordinate of z, shape (B, \*Z): a diagonal mass matrix :math:`1 / s^2`.

    Returns:
        The new point, and the acceptance probability of each chain, shape (K, B).
    """
    z, chains = point.z, len(point.z)
    with noise:
        momentum = torch.randn(z.shape, dtype=z.dtype, device=z.device)
        chance, spread = torch.rand((2 * chains, z.shape[1]), dtype=torch.float64, device=z.device).split(chains)
    length = step.to(z) * (1 + _JITTER * (2 * spread - 1)).to(z.dtype)
    moved, end = leapfrog(densities, point, momentum, weights, _over_event(length, z) * scale, leapfrogs)
    kinetic = 0.5 * (momentum.double().square() - end.double().square()).flatten(2).sum(-1)
    gain = _combine(weights, moved.log_density) - _combine(weights, point.log_density) + kinetic
    # Where the trajectory diverged the gain is not a number, and the proposal is refused.
    probability = gain.clamp(max=0).exp().nan_to_num(0.0)
    return _choose(chance < probability, moved, point), probability


def _over_event(values: Tensor, z: Tensor) -> Tensor:
    return values.reshape(*values.shape, *[1] * (z.ndim - 2))


def _choose(accepted: Tensor, moved: Point, point: Point) -> Point:
    each = _over_event(accepted, point.z)
    pairs = zip(moved.log_density, point.log_density, strict=True)
    gradients = zip(moved.gradient, point.gradient, strict=True)
    return Point(
        moved.z.where(each, point.z),
        tuple(new.where(accepted, old) for new, old in pairs),
        tuple(new.where(each, old) for new, old in gradients),
    )


def chunks(x: Tensor, device: torch.device) -> Iterator[tuple[Tensor, int]]:
    """Rows in chunks of one fixed size, the last one padded, each with the number of rows that count."""
    for begin in range(0, len(x), _ROWS):
        rows = x[begin : begin + _ROWS]
        count = len(rows)
        yield torch.cat([rows, rows[:1].expand(_ROWS - count, *rows.shape[1:])]).to(device), count
