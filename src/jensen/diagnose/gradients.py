"""How noisy the gradients of encoder and decoder are under each estimator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import JensenError, OptionError
from ..evaluation import check_data, device_of
from ..modes import evaluating
from ..noise import seeded
from ..roles import Objective
from .measured import Measured

__all__ = ["GradientNoise", "gradient_noise", "least_noisy"]

REPEATS = 50
_ROLES = {
    "encoder": ("posterior", "encoder", "shared_posterior"),
    "decoder": ("likelihood", "prior", "row_prior", "shared_prior"),
}


@dataclass(frozen=True)
class GradientNoise:
    r"""The noise of the gradient g of one batch, over fresh draws of the latents.

    Arguments:
        variance: The total variance :math:`E\|g - E g\|^2`.
        snr: The signal-to-noise ratio :math:`\|E g\| / \sqrt{E\|g - E g\|^2}`, the bias of the estimate removed.
        repeats: The number of gradients that were drawn.
    """

    variance: Measured
    snr: float
    repeats: int

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data."""
        snr = self.snr if math.isfinite(self.snr) else None
        return {"variance": self.variance.to_json(), "snr": snr, "repeats": self.repeats}


def gradient_noise(
    model: Any,
    x: Tensor,
    objectives: Mapping[str, Objective],
    *,
    repeats: int = REPEATS,
    step: int = 10**9,
    seed: int = 0,
) -> dict[str, dict[str, GradientNoise]]:
    r"""The noise of the gradients of encoder and decoder, prior included, under several objectives, on one batch.

    Objectives that differ only in their estimator have the same mean gradient, and the least noisy one learns fastest.
    One that does not apply to this model is left out of the result.

    References:
        Roeder, Wu, Duvenaud (2017), Sticking the landing. Rainforth et al. (2018), Tighter variational bounds are not
        necessarily better. Tucker, Lawson, Gu, Maddison (2019), Doubly reparameterized gradient estimators.

    Arguments:
        model: A model with a posterior and a likelihood.
        x: One batch of rows, shape (B, \*X), in the values that the model sees.
        objectives: The objectives by name.
        repeats: The number of gradients drawn for each.
        step: The step at which schedules are taken.
        seed: The seed of the draws.

    Returns:
        For each objective that applies, ``encoder`` and ``decoder``; a part without parameters is left out.

    Raises:
        OptionError: If there are fewer than 2 repeats.

    Example:
        >>> from jensen import objectives, testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> x = torch.zeros(4, 3, dtype=torch.float64)
        >>> list(gradient_noise(oracle.model, x, {"ELBO": objectives.ELBO()}, repeats=3)["ELBO"])
        ['decoder']
    """
    if repeats < 2:
        raise OptionError(f"the noise of a gradient shows from 2 repeats on; got {repeats}.")
    check_data(model, x)
    x = x.to(device_of(model))
    found = {}
    with evaluating(model):
        for name, objective in objectives.items():
            try:
                found[name] = _noise(model, x, objective, repeats, step, seed)
            except JensenError:  # this estimator and this model do not compose
                continue
    return found


def _noise(model: Any, x: Tensor, objective: Objective, repeats: int, step: int, seed: int) -> dict[str, GradientNoise]:
    groups = {part: _parameters(model, roles) for part, roles in _ROLES.items()}
    parameters = [parameter for group in groups.values() for parameter in group]
    gradients: dict[str, list[Tensor]] = {part: [] for part in _ROLES}
    for repeat in range(repeats):
        with torch.enable_grad(), seeded(seed, "gradients", repeat):
            loss = objective(model, x, None, step).loss
            flat = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        size = len(groups["encoder"])
        for part, some in (("encoder", flat[:size]), ("decoder", flat[size:])):
            if some:
                gradients[part].append(torch.cat([g.flatten() for g in some]).detach().cpu())
    return {part: _summary(torch.stack(rows)) for part, rows in gradients.items() if rows}


def _parameters(model: Any, roles: tuple[str, ...]) -> list[nn.Parameter]:
    """What learns in the modules of some roles; a model may make its prior and posterior of several."""
    modules = [module for role in roles if isinstance(module := getattr(model, role, None), nn.Module)]
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def _summary(gradients: Tensor) -> GradientNoise:
    repeats = len(gradients)
    mean = gradients.mean(0)
    distances = (gradients - mean).double().square().sum(1) * repeats / (repeats - 1)
    variance = float(distances.mean())
    error = float(distances.std()) / math.sqrt(repeats)
    signal = float(mean.double().square().sum()) - variance / repeats
    snr = math.sqrt(max(signal, 0.0) / variance) if variance > 0 else math.inf
    return GradientNoise(Measured(variance, error, unit="squared norm"), snr, repeats)


def least_noisy(noise: Mapping[str, Mapping[str, GradientNoise]], part: str = "encoder") -> str | None:
    """The name with the smallest variance, if no other is within two standard errors of it; else the first of those.

    Example:
        >>> quiet, loud = (GradientNoise(Measured(v, 0.1), 1.0, 9) for v in (1.0, 5.0))
        >>> least_noisy({"plain": {"encoder": loud}, "other": {"encoder": quiet}})
        'other'
    """
    known = {name: parts[part].variance for name, parts in noise.items() if part in parts}
    if not known:
        return None
    best = min(known.values(), key=lambda number: number.value)
    # Of those that cannot be told apart the first is named: the caller lists the simplest first.
    return next(
        name
        for name, number in known.items()
        if number.value - best.value <= 2 * math.hypot(number.se, best.se if number is not best else 0.0)
    )
