"""Bidirectional Monte Carlo: annealing in reverse, and log p(x) of simulated rows from both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import OptionError, ShapeError
from ..evaluation import device_of
from ..noise import RowNoise, mix, row_keys, seeded
from ..numbers import mean_and_se
from .ais import Annealed, ais, anneal, path_densities
from .proposals import Proposal, check_apart, check_real, check_weights, differentiable
from .transitions import chunks

__all__ = ["Bracket", "bdmc", "reverse_ais"]


@dataclass(frozen=True)
class Bracket:
    r"""Log p(x) of simulated rows from both sides.

    Arguments:
        lower: Forward annealing, in expectation below log p(x).
        upper: Reverse annealing, in expectation above it.
        x: The simulated rows, shape (N, \*X).
        z: Their latents, shape (N, \*Z).
    """

    lower: Annealed
    upper: Annealed
    x: Tensor
    z: Tensor

    @property
    def gap(self) -> tuple[float, float]:
        """The mean of upper minus lower over rows, nats, and its standard error, paired."""
        return mean_and_se(self.upper.log_likelihood - self.lower.log_likelihood)

    def __str__(self) -> str:
        gap, se = self.gap
        lower, upper = (side.number("simulated") for side in (self.lower, self.upper))
        return f"{lower.mean:.2f} ± {lower.se:.2f} ≤ log p(x) ≤ {upper.mean:.2f}, apart by {gap:.3f} ± {se:.3f} nats"


def reverse_ais(model: Any, x: Tensor, z: Tensor, forward: Annealed, *, seed: int = 0) -> Annealed:
    r"""Annealing in reverse, from exact posterior samples to the start of a forward run: log p(x) from above.

    .. math:: \log w = -\sum_{t=1}^T (\beta_t - \beta_{t-1}) \left[\log p(x, z_t) - \log r(z_t)\right],
        \quad E[w] = 1 / p(x), \quad \log p(x) \le -E \log \frac1K \sum_k w_k

    Inverse temperatures, step sizes and start are those of the forward run. Exact posterior samples are known where x
    was simulated from the model: the z that it was made from is one. Several chains may start from the same sample.

    References:
        Grosse, Ancha, Roy (2016), Measuring the reliability of MCMC inference with bidirectional Monte Carlo.

    Arguments:
        model: The model of the forward run.
        x: The rows of the forward run, shape (N, \*X).
        z: A sample of p(z|x) for each row, shape (N, \*Z), or for each chain, shape (K, N, \*Z).
        forward: What :func:`ais` returned for these rows.
        seed: The seed of the noise.

    Raises:
        ShapeError: If rows or samples are not those of the forward run.
        NonFiniteError: If a log-weight is not a number, or infinitely large.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=1.0)
        >>> x = torch.ones(1, 3, dtype=torch.float64)
        >>> z = torch.stack([torch.full((1, 2), value, dtype=torch.float64) for value in (0.0, 1.0)])
        >>> reverse_ais(oracle.model, x, z, ais(oracle.model, x, temperatures=50, chains=2)).kind
        'upper'
    """
    if forward.kind != "lower" or row_keys(x) != forward.keys:
        raise ShapeError("reverse annealing needs the result of ais for the same rows in the same order.")
    event = tuple(model.prior().event_shape)
    latents = z.expand(forward.k, *z.shape) if tuple(z.shape) == (len(x), *event) else z
    if tuple(latents.shape) != (forward.k, len(x), *event):
        raise ShapeError(
            f"z has shape {tuple(z.shape)}; expected one sample for each row, {(len(x), *event)}, or for each chain, "
            f"{(forward.k, len(x), *event)}."
        )
    keys = row_keys(torch.cat([x.double().flatten(1), latents.double().transpose(0, 1).flatten(1)], 1))
    parts, begin = [], 0
    with differentiable(model):
        for rows, count in chunks(x, device_of(model)):
            chosen = list(range(begin, begin + count)) + [begin] * (len(rows) - count)
            noise = RowNoise([mix(seed, "reverse", keys[index]) for index in chosen])
            densities = path_densities(model, rows, forward.start)
            steps = forward.step_sizes[:, chosen].to(rows.device)
            ends = latents[:, chosen].to(rows.device)
            backwards = tuple(reversed(forward.betas))
            log_weight, accepted = anneal(densities, ends, backwards, steps.flip(0), forward.leapfrogs, noise)
            parts.append([part[..., :count].cpu() for part in (log_weight, accepted)])
            begin += count
    log_weight, accepted = (torch.cat(column, -1) for column in zip(*parts, strict=True))
    check_weights(log_weight)
    apart = latents is z or forward.k == 1
    return replace(forward, log_weight=log_weight, keys=keys, kind="upper", acceptance=accepted, independent=apart)


def bdmc(
    model: Any,
    n: int,
    *,
    temperatures: int = 1000,
    chains: int = 16,
    leapfrogs: int = 10,
    schedule: Callable[[float], float] | None = None,
    start: Proposal | None = None,
    seed: int = 0,
) -> Bracket:
    r"""Bidirectional Monte Carlo: log p(x) of rows simulated from the model, in expectation from both sides.

    With :math:`z^*, x^* \sim p(z) p(x|z)`, :math:`z^*` is an exact sample of :math:`p(z|x^*)`, from which annealing
    runs in reverse. How far the sides are apart bounds the error of annealing on rows like these.

    References:
        Grosse, Ghahramani, Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte Carlo. Grosse,
        Ancha, Roy (2016), Measuring the reliability of MCMC inference with bidirectional Monte Carlo.

    Arguments:
        model: A model.
        n: The number of rows to simulate.
        temperatures: As for :func:`ais`.
        chains: As for :func:`ais`.
        leapfrogs: As for :func:`ais`.
        schedule: As for :func:`ais`.
        start: As for :func:`ais`.
        seed: The seed of the rows and of the noise.

    Raises:
        JensenError: If z is discrete or constrained, or the model's latents are none, several groups, or shared by all
            rows in part.
        OptionError: If an argument is out of range.

    Example:
        >>> from jensen import testing
        >>> bracket = bdmc(testing.LinearGaussian(torch.eye(3)[:, :2], noise=1.0).model, 4, temperatures=50, chains=8)
        >>> abs(bracket.gap[0]) < 0.2
        True
    """
    if n < 1:
        raise OptionError(f"there must be at least 1 row to simulate; got n={n}.")
    check_apart(model)
    check_real(model)
    with differentiable(model), seeded(seed, "simulate"):
        z = model.prior().sample(torch.Size((n,)))
        x = model.decode(z[None]).sample()[0]
    lower = ais(
        model,
        x,
        temperatures=temperatures,
        chains=chains,
        leapfrogs=leapfrogs,
        schedule=schedule,
        start=start,
        seed=seed,
    )
    return Bracket(lower, reverse_ais(model, x, z, lower, seed=seed), x, z)
