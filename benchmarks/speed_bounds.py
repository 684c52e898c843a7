"""One evaluator for what all contenders learned: the same model around their weights, the same rows, the same noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from jensen import VAE, Conditional, families, priors
from jensen.distributions import diagonal_normal
from jensen.evaluation import bounds
from jensen.numbers import mean_and_se

from .contenders.dense import dense, linear
from .contenders.job import HIDDEN, LATENTS, PIXELS

__all__ = ["measure", "read_model", "rounding"]


class LogVarianceNormal(families.Normal):
    """A normal whose second parameter is the logarithm of its variance, as the others have it."""

    def forward(self, loc: Tensor, raw_scale: Tensor | None = None) -> Independent[Normal]:
        assert raw_scale is not None
        return diagonal_normal(loc, torch.exp(0.5 * raw_scale), 1)


def read_model(path: Path, activation: str) -> Any:
    """The model with the weights of a file that a contender saved."""
    with np.load(path) as found:
        arrays = {name: torch.from_numpy(found[name].astype(np.float32)) for name in found.files}
    encoder = dense([PIXELS, *HIDDEN, 2 * LATENTS], activation)
    decoder = dense([LATENTS, *HIDDEN[::-1], PIXELS], activation)
    _fill("encoder", encoder, arrays)
    _fill("decoder", decoder, arrays)
    normal = families.Normal if "bounded_scale" in arrays else LogVarianceNormal
    posterior = Conditional(encoder, normal(LATENTS, scale=families.PredictedScale()))
    return VAE(priors.StandardNormal(LATENTS), Conditional(decoder, families.Bernoulli(PIXELS)), posterior)


@torch.no_grad()
def _fill(role: str, net: nn.Module, arrays: dict[str, Tensor]) -> None:
    for number, layer in enumerate(linear(net)):
        for name, parameter in layer.named_parameters():
            given = arrays[f"{role}.{number}.{name}"]
            assert given.shape == parameter.shape, (role, number, name, given.shape)
            parameter.copy_(given)


def measure(path: Path, rows: Tensor, activation: str, samples: int) -> dict[str, Any]:
    """The ELBO and the bound of K samples on rows, nats per example, both from the same samples."""
    scores = bounds(read_model(path, activation), rows, k=samples)
    elbo, elbo_se = mean_and_se(scores.elbo)
    bound, bound_se = mean_and_se(scores.log_likelihood)
    errors = {"elbo_se": elbo_se, "bound_se": bound_se}
    return {
        "n": len(rows),
        "k": samples,
        "elbo": elbo,
        "bound": bound,
        **{name: value if math.isfinite(value) else None for name, value in errors.items()},
    }


def rounding(path: Path, rows: Tensor, activation: str, samples: int) -> dict[str, float]:
    """By how many nats per example the bound changes where the networks compute in bf16, and its standard error."""
    model = read_model(path, activation)
    exact = bounds(model, rows, k=samples).log_likelihood
    change, error = mean_and_se(bounds(model, rows, k=samples, precision="bf16").log_likelihood - exact)
    return {"change": change, "se": error}
