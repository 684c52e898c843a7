"""Would the bound rise if every posterior were wider, or narrower?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ..distributions import base_of
from ..errors import JensenError
from ..evaluation import device_of, evaluation_mode
from ..noise import mix
from .aggregate import Aggregate
from .collapse import decoded_log_likelihood
from .draws import draws_of
from .measured import Measured

__all__ = ["PosteriorScale", "posterior_scale"]

_SCALES = tuple(math.exp(0.1 * step) for step in range(-12, 13, 2))
_RESAMPLES = 400


def _mean(log_weight: Tensor) -> Tensor:
    return log_weight.mean(0)


@dataclass(frozen=True)
class PosteriorScale:
    """The one factor on all posterior deviations under which a bound is highest.

    Arguments:
        best: The factor; 1 where the posterior is as wide as it should be.
        log_error: The standard error of its logarithm, by bootstrap over rows.
        gain: What the bound would gain by it.
        scales: The factors that were tried.
        bound: The bound at each, less that at factor 1, nats.
    """

    best: float
    log_error: float
    gain: Measured
    scales: tuple[float, ...]
    bound: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data."""
        return {
            "best": self.best,
            "log_error": self.log_error,
            "gain": self.gain.to_json(),
            "scales": list(self.scales),
            "bound": list(self.bound),
        }


def posterior_scale(
    model: Any,
    x: Tensor,
    *,
    k: int = 1,
    sets: int = 16,
    mean: Callable[[Tensor], Tensor] = _mean,
    beta: float = 1.0,
    seed: int = 0,
) -> PosteriorScale:
    r"""Stretches every q(z|x) about its mean by one factor s and finds the s of the highest bound.

    With :math:`z_s = \mu + s (z - \mu)` the stretched posterior has :math:`\log q_s(z_s) = \log q(z) - D \log s`. At
    the optimum of a trained posterior the bound that it was trained by has no slope in s, so the best factor is close
    to 1. By default that bound is the ELBO; a posterior trained with several weights is wider than the ELBO's.

    Arguments:
        model: A model with one prior and one posterior over all of :math:`R^D`.
        x: Rows in the values that the model sees, shape (N, \*X).
        k: The number of log-weights that the bound takes.
        sets: The number of sets of that many draws for each row, the same for all factors.
        mean: From K log-weights, shape (K, N), to the bound, shape (N,): their mean for the ELBO.
        beta: The weight of :math:`\log p(z) - \log q(z|x)`.
        seed: The seed of the draws.

    Raises:
        JensenError: If the latents are discrete or bounded.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> found = posterior_scale(oracle.model, torch.randn(50, 3).double())
        >>> abs(found.best - 1) < 0.1
        True
    """
    q = Aggregate(model, x)
    if base_of(q.parts[0].support) is not constraints.real:
        raise JensenError(f"only latents over all real numbers can be stretched; the posterior is {q.parts[0]}.")
    draws = draws_of(model, x, k=k * sets, seed=seed)
    with torch.inference_mode():
        centre = torch.cat([part.mean.cpu() for part in q.parts]).clone()
    size = centre[0].numel()
    columns = []
    for scale in _SCALES:
        z = centre + scale * (draws.z - centre)
        with evaluation_mode(model):
            log_prior = model.prior().log_prob(z.to(device_of(model))).double().cpu().clone()
        ratio = log_prior - (draws.log_posterior - size * math.log(scale))
        log_weight = decoded_log_likelihood(model, x, z) + beta * ratio
        columns.append(torch.stack([mean(part) for part in log_weight.split(k)]).mean(0))
    table = torch.stack(columns, 1)
    return _best(table - table[:, [_SCALES.index(1.0)]], seed)


def _best(table: Tensor, seed: int) -> PosteriorScale:
    """The best factor from the gains of each row at each factor, shape (N, S)."""
    generator = torch.Generator().manual_seed(mix(seed, "bootstrap"))
    picks = torch.randint(len(table), (_RESAMPLES, len(table)), generator=generator)
    resampled = torch.stack([table[pick].mean(0) for pick in picks])
    log_scale, gain = _peak(table.mean(0, keepdim=True))
    log_scales, gains = _peak(resampled)
    return PosteriorScale(
        best=math.exp(float(log_scale)),
        log_error=float(log_scales.std()),
        gain=Measured(float(gain), float(gains.std())),
        scales=_SCALES,
        bound=tuple(table.mean(0).tolist()),
    )


def _peak(curves: Tensor) -> tuple[Tensor, Tensor]:
    """Where each curve over the logarithm of the factor is highest, by a parabola through its three highest points."""
    axis = torch.tensor([math.log(scale) for scale in _SCALES], dtype=torch.float64)
    top = curves.argmax(1).clamp(1, len(axis) - 2)
    left, middle, right = (curves.gather(1, (top + shift)[:, None])[:, 0] for shift in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = (0.5 * (left - right) / bend.clamp(max=-1e-12)).clamp(-1, 1)
    log_scale = axis[top] + shift * (axis[1] - axis[0])
    gain = middle - 0.25 * (left - right) * shift
    return log_scale, torch.maximum(gain, torch.zeros_like(gain))
