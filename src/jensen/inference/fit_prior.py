"""A new prior for a trained model, fitted to the codes of its rows."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import diagonal_normal
from ..errors import NonFiniteError, OptionError, ShapeError
from ..evaluation import check_data, device_of, dtype_of
from ..model import VAE
from ..modes import evaluating
from ..noise import mix, seeded
from ..numbers import Number, mean_and_se, whole
from ..roles import Prior

__all__ = ["PriorFit", "check_roles", "fit_prior"]

_CHECK_EVERY = 50
_PATIENCE = 10
_CODES = 4
"""The number of codes of each row by which stopping is decided."""
_CHUNK = 512
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class PriorFit:
    r"""What fitting a prior has gained.

    Arguments:
        gain: :math:`E_{q(z|x)}[\log p_{new}(z) - \log p_{old}(z)]` over held-out rows: by so much every ELBO rises. Of
            an autoencoder, which has no old one, over a normal with the mean and the variances of its codes.
        steps: The number of steps taken.
        best_step: The step whose prior was kept.
        curve: The mean of :math:`\log p(z)` over the stopping rows every 50 steps, nats; first before any step.
    """

    gain: Number
    steps: int
    best_step: int
    curve: tuple[float, ...]


def fit_prior(
    model: Any,
    x: Tensor,
    prior: Prior,
    *,
    held_out: Tensor | None = None,
    steps: int = 5000,
    batch: int = 256,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> tuple[Any, PriorFit]:
    r"""Fits a new prior to the codes that the posterior gives to training rows; everything else stays as it is.

    It maximises :math:`E_{x} E_{q(z|x)} \log p(z)`, fresh codes at each step. A tenth of the rows decides when to stop
    and which step to keep; the gain is measured on rows that neither saw. Samples of the new model come from where the
    codes lie; the posterior and the likelihood are the same modules as before.

    References:
        Ghosh, Sajjadi, Vergari, Black, Schölkopf (2020), From variational to deterministic autoencoders (ex-post
        density estimation). Hoffman, Johnson (2016), ELBO surgery.

    Arguments:
        model: A trained model with a prior, a likelihood and a posterior; or an autoencoder, which becomes a sampler.
        x: Training rows in the values that the model sees, shape (N, \*X).
        prior: The new prior, which is fitted in place: ``priors.Mixture`` or ``priors.Flow``.
        held_out: Rows on which the gain is measured; by default another tenth of ``x``, which is then not fitted to.
        steps: The most steps.
        batch: The number of rows of a step.
        learning_rate: The step size of Adam.
        seed: The seed of split, order and codes.

    Returns:
        The new model, and what was gained.

    Raises:
        OptionError: If the prior has nothing to fit, the model has no such parts, or there are fewer than 20 rows.
        ShapeError: If the prior is over codes of another shape.
        NonFiniteError: If the density of the codes is not finite.

    Example:
        >>> from jensen import priors, testing
        >>> oracle = testing.LinearGaussian(3 * torch.eye(3)[:, :2], noise=0.5)
        >>> x = 3 + oracle.evidence.sample((400,))
        >>> fitted, record = fit_prior(oracle.model, x, priors.Mixture(2, components=2), steps=200)
        >>> record.gain.mean > 0 and fitted.posterior is oracle.model.posterior
        True
    """
    _check(model, x, prior)
    device, dtype = device_of(model), dtype_of(model, x.dtype)
    steps = whole(steps, 1, "a prior is fitted in at least 1 step")
    _module(prior).to(device=device, dtype=dtype)
    made = _with_prior(model, prior)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(mix(seed, "fit prior")))
    tenth = max(1, len(x) // 10)
    stop, rest = x[order[:tenth]], order[tenth:]
    if held_out is None:
        held_out, rest = x[rest[:tenth]], rest[tenth:]
    with evaluating(model), seeded(seed, "fit prior"):  # gradients are only asked for the new prior's parameters
        start_at = getattr(prior, "start_at", None)
        if start_at is not None:
            start_at(_codes(model, x[rest[: 20 * _CHUNK]], 1)[0])
        record = _climb(model, x, rest, _codes(model, stop, _CODES), prior, steps, batch, learning_rate)
        old = model.prior() if hasattr(model, "prior") else _one_normal(_codes(model, x[rest], 1)[0])
        gain = _gain(model, held_out, prior, old)
    return made, PriorFit(gain, *record)


def _one_normal(codes: Tensor) -> Distribution:
    """The mean and the variances of codes as a normal."""
    return diagonal_normal(codes.mean(0), codes.std(0).clamp(min=_LEAST_SPREAD), 1)


def check_roles(model: Any) -> None:
    """Refuses a model whose prior cannot be another one.

    Raises:
        OptionError: If it lacks a prior, a likelihood or a posterior of its own, or is conditioned on labels.
    """
    if getattr(model, "conditions", 0):
        raise OptionError(
            "the codes of a model that is conditioned on labels are those of a row and its label, and a prior fitted "
            "to all of them would fit none. Its samples follow their labels already: jensen sample RUN --label NAME."
        )
    roles = ("likelihood",) if hasattr(model, "with_prior") else ("prior", "likelihood", "posterior")
    missing = [role for role in roles if not isinstance(getattr(model, role, None), nn.Module)]
    if missing:
        raise OptionError(
            "a prior is fitted to the codes of a model with one prior and one posterior, such as vae, or of an "
            f"autoencoder; {type(model).__name__} has no {missing[0]} of its own."
        )


def _with_prior(model: Any, prior: Any) -> Any:
    with_prior = getattr(model, "with_prior", None)
    return VAE(prior, model.likelihood, model.posterior) if with_prior is None else with_prior(prior)


def _event_shape(model: Any) -> tuple[int, ...]:
    return tuple(model.prior().event_shape) if hasattr(model, "posterior") else (model.latent_size,)


def _check(model: Any, x: Tensor, prior: Any) -> None:
    check_roles(model)
    if not any(p.requires_grad for p in _module(prior).parameters()):
        raise OptionError(
            f"{type(prior).__name__} has no parameters to fit; got {prior}. Take priors.Mixture or priors.Flow."
        )
    if hasattr(getattr(model, "prior", None), "unpack"):
        raise OptionError(
            f"the likelihood takes what {type(model.prior).__name__} unpacks; got another prior, which does not. The "
            "meaning of named latents is their prior: it cannot be fitted afterwards."
        )
    old, new = _event_shape(model), tuple(prior().event_shape)
    if old != new:
        raise ShapeError(f"the model has codes of shape {old}; the new prior is over {new}. Give both the same size.")
    if len(x) < 20:
        raise OptionError(f"fitting a prior needs at least 20 rows, some of them for stopping; got {len(x)}.")
    check_data(model, x)


def _module(prior: Any) -> nn.Module:
    if not isinstance(prior, nn.Module):
        raise OptionError(f"a prior to be fitted is a torch module; got {type(prior).__name__}.")
    return prior


@torch.no_grad()
def _codes(model: Any, rows: Tensor, k: int) -> Tensor:
    r"""K codes of each row, shape (K, N, \*Z)."""
    chunks = [rows[i : i + _CHUNK].to(device_of(model)) for i in range(0, len(rows), _CHUNK)]
    if not hasattr(model, "posterior"):  # the code of a row is one
        return torch.cat([model.embed(chunk) for chunk in chunks]).expand(k, len(rows), -1)
    return torch.cat([model.posterior(chunk).sample((k,)) for chunk in chunks], 1)


def _climb(
    model: Any, x: Tensor, rest: Tensor, stop: Tensor, prior: Any, steps: int, batch: int, learning_rate: float
) -> tuple[int, int, tuple[float, ...]]:
    parameters = [p for p in prior.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    best, best_step, kept = _score(prior(), stop), 0, copy.deepcopy(prior.state_dict())
    curve = [best]
    step = 0
    while step < steps and step - best_step < _PATIENCE * _CHECK_EVERY:
        index = rest[torch.randint(len(rest), (min(batch, len(rest)),))]
        loss = -prior().log_prob(_codes(model, x[index], 1)).mean()
        # The posterior may stand inside the prior (VampPrior); only what the prior owns moves.
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(parameters, 10.0)
        optimiser.step()
        step += 1
        if step % _CHECK_EVERY == 0 or step == steps:
            curve.append(_score(prior(), stop))
            if curve[-1] > best:
                best, best_step, kept = curve[-1], step, copy.deepcopy(prior.state_dict())
    prior.load_state_dict(kept)
    prior.zero_grad(set_to_none=True)
    return step, best_step, tuple(curve)


@torch.no_grad()
def _score(p: Distribution, codes: Tensor) -> float:
    score = float(p.log_prob(codes).double().mean())
    if not math.isfinite(score):
        raise NonFiniteError(f"the log-density of the codes under the new prior is {score}; lower the learning rate.")
    return score


@torch.no_grad()
def _gain(model: Any, rows: Tensor, prior: Any, old: Distribution) -> Number:
    k = 16
    z = _codes(model, rows, k)
    difference = (prior().log_prob(z) - old.log_prob(z)).double().cpu()
    mean, se = mean_and_se(difference.mean(0))
    mc_se = math.sqrt(float(difference.var(0).sum()) / k) / len(rows)
    return Number(mean, se, mc_se, len(rows), k, math.nan, kind="estimate", split="held-out")
