"""jensen's own training loop, all guards on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from jensen import VAE, Conditional, families, nets, objectives, priors
from jensen.numbers import Precision
from jensen.train import Report, fit

from .dense import arrays, dense, linear
from .job import HIDDEN, LATENTS, PIXELS, Array, Job, Turn, versions

__all__ = ["IMAGE", "IMAGE_LATENTS", "make"]

IMAGE, IMAGE_LATENTS = (32, 32, 3), 64


class Ours:
    """Trains a model with :func:`jensen.train.fit`, called once for all turns."""

    def __init__(self, job: Job, precision: Precision, *, compiled: bool, images: bool) -> None:
        self.versions = versions("jensen", "torch")
        self.job, self.precision, self.compiled = job, precision, compiled
        torch.manual_seed(job.seed)
        self.rows = torch.from_numpy(job.load())
        self.model = _image_model() if images else _dense_model(job.activation)

    def run(self, turn: Turn) -> None:
        """Trains; a turn is an epoch."""
        job, per_epoch = self.job, -(-len(self.rows) // self.job.batch)
        journal, steps = _Journal(), 0

        def after_step() -> bool:
            nonlocal steps
            steps += 1
            if steps % per_epoch == 0:
                turn(len(self.rows), journal.loss)
            return False

        fit(
            self.model,
            objectives.ELBO(),
            self.rows,
            steps=job.turns * per_epoch,
            batch_size=job.batch,
            learning_rate=job.rate,
            decay=False,
            validate_every=per_epoch,
            seed=job.seed,
            precision=self.precision,
            compiled=self.compiled,
            should_stop=after_step,
            journal=journal,
        )

    def weights(self) -> Mapping[str, Array]:
        """What was learned; jensen's map from a number to a scale is marked."""
        return {
            **arrays("encoder", *linear(self.model.posterior.net)),
            **arrays("decoder", *linear(self.model.likelihood.net)),
            "bounded_scale": torch.ones(1).numpy(),
        }


class _Journal:
    """Keeps the loss of the last report."""

    def __init__(self) -> None:
        self.loss: float | None = None

    def write(self, report: Report) -> None:
        self.loss = -report.line["objective"]

    def clock(self, step: int, timing: Mapping[str, float]) -> None: ...

    def position(self) -> dict[str, int]:
        return {}

    def rewind(self, position: Mapping[str, int]) -> None: ...


def _dense_model(activation: str) -> Any:
    posterior = families.Normal(LATENTS, scale=families.PredictedScale())
    encoder, decoder = _dense_nets(activation)
    return VAE(
        priors.StandardNormal(LATENTS),
        Conditional(decoder, families.Bernoulli(PIXELS)),
        Conditional(encoder, posterior),
    )


def _dense_nets(activation: str) -> tuple[nn.Module, nn.Module]:
    if activation == "silu":
        return nets.mlp(PIXELS, 2 * LATENTS, HIDDEN), nets.mlp(LATENTS, PIXELS, HIDDEN[::-1])
    return dense([PIXELS, *HIDDEN, 2 * LATENTS], activation), dense([LATENTS, *HIDDEN[::-1], PIXELS], activation)


def _image_model() -> Any:
    posterior = families.Normal(IMAGE_LATENTS, scale=families.PredictedScale())
    likelihood = families.DiscretizedLogistic(IMAGE, levels=256)
    return VAE(
        priors.StandardNormal(IMAGE_LATENTS),
        Conditional(nets.conv_decoder(IMAGE_LATENTS, IMAGE, parameters=2), likelihood),
        Conditional(nets.conv_encoder(IMAGE, 2 * IMAGE_LATENTS), posterior, event_dims=3),
    )


def make(job: Job, precision: Precision = "fp32", *, compiled: bool = False, images: bool = False) -> Ours:
    """The contender."""
    return Ours(job, precision, compiled=compiled, images=images)
