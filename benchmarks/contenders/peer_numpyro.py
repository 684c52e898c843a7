"""NumPyro with the whole epoch in one XLA program, the rows on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import lax, random
from jax.example_libraries import stax
from numpyro.infer import SVI, TraceMeanField_ELBO

from .job import HIDDEN, LATENTS, PIXELS, Array, Job, Turn, versions

__all__ = ["make"]

_UNITS = {"silu": stax.elementwise(jax.nn.silu), "relu": stax.Relu}


def _hidden(sizes: tuple[int, ...], activation: str) -> list[Any]:
    return [layer for size in sizes for layer in (stax.Dense(size), _UNITS[activation])]


class Trainer:
    """Trains with SVI, Adam and the KL by its formula."""

    def __init__(self, job: Job) -> None:
        self.versions = versions("numpyro", "jax", "jaxlib")
        self.job, self.rows = job, jnp.asarray(job.load())
        scale = stax.serial(stax.Dense(LATENTS), stax.elementwise(lambda value: jnp.exp(0.5 * value)))
        heads = (stax.FanOut(2), stax.parallel(stax.Dense(LATENTS), scale))
        self.encoder = stax.serial(*_hidden(HIDDEN, job.activation), *heads)
        self.decoder = stax.serial(*_hidden(HIDDEN[::-1], job.activation), stax.Dense(PIXELS))
        self.svi = SVI(self.model, self.guide, numpyro.optim.Adam(job.rate), TraceMeanField_ELBO())
        self.key, key = random.split(random.key(job.seed))
        self.state = self.svi.init(key, self.rows[: job.batch])

    def model(self, x: Any) -> None:
        """p(z) p(x|z)."""
        decode = numpyro.module("decoder", self.decoder, (len(x), LATENTS))
        with numpyro.plate("rows", len(x)):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([LATENTS]).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)

    def guide(self, x: Any) -> None:
        """q(z|x)."""
        encode = numpyro.module("encoder", self.encoder, (len(x), PIXELS))
        mean, scale = encode(x)
        with numpyro.plate("rows", len(x)):
            numpyro.sample("z", dist.Normal(mean, scale).to_event(1))

    def _epoch(self, state: Any, key: Any, rows: Any) -> tuple[Any, Any]:
        batches = len(rows) // self.job.batch
        order = random.permutation(key, len(rows))[: batches * self.job.batch].reshape(batches, -1)

        def step(state: Any, index: Any) -> tuple[Any, Any]:
            updated: tuple[Any, Any] = self.svi.update(state, rows[index])
            return updated

        state, losses = lax.scan(step, state, order)
        return state, losses.sum() / order.size

    def run(self, turn: Turn) -> None:
        """Trains; a turn is an epoch, and the first one compiles it."""
        epoch = jax.jit(self._epoch)
        for _ in range(self.job.turns):
            self.key, key = random.split(self.key)
            self.state, loss = epoch(self.state, key, self.rows)
            turn(len(self.rows) // self.job.batch * self.job.batch, float(loss))

    def weights(self) -> Mapping[str, Array]:
        """What was learned."""
        found = self.svi.get_params(self.state)
        *hidden, _, (mean, (log_variance, _)) = found["encoder$params"]
        heads = tuple(np.concatenate([a, b], axis=-1) for a, b in zip(mean, log_variance, strict=True))
        encoder = [layer for layer in hidden if layer]
        decoder = [layer for layer in found["decoder$params"] if layer]
        return {**_arrays("encoder", [*encoder, heads]), **_arrays("decoder", decoder)}


def _arrays(role: str, layers: list[Any]) -> dict[str, Array]:
    """Weights as torch lays them out."""
    found = {}
    for number, (weight, bias) in enumerate(layers):
        found[f"{role}.{number}.weight"] = np.ascontiguousarray(np.asarray(weight).T)
        found[f"{role}.{number}.bias"] = np.asarray(bias).reshape(-1)
    return found


def make(job: Job) -> Trainer:
    """The contender."""
    return Trainer(job)
