"""Frey faces with two latents: the manifold picture of Kingma & Welling (2013), and the estimators they compared with.

The same decoder is trained three ways for the same number of examples: by the ELBO with an amortised posterior
(auto-encoding variational Bayes), by wake-sleep, and by Monte Carlo EM, whose posterior samples come from a Hamiltonian
chain for each row. Each is scored by importance weights on held-out rows, with the best posterior of each row found
anew, so that an encoder's quality does not enter.

Run with: python -m benchmarks.frey [--examples 2000000] [--quick]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Tensor

from benchmarks.record import ROOT, record, write_table
from jensen import VAE, Conditional, families, inference, nets, objectives, priors, train
from jensen.data import open_source, prepare
from jensen.evaluation import evaluation_mode
from jensen.initialise import start_at_marginal
from jensen.noise import seeded
from jensen.numbers import mean_and_se

LATENTS, HIDDEN, BATCH = 2, 200, 100
DRAWN = 50  # latents of each row at a time
LEAPFROGS, CHAIN = 10, 4


def make(shape: tuple[int, ...], x: Tensor) -> VAE:
    """The model, from the same start for every way of training."""
    size = int(np.prod(shape))
    with seeded(0, "frey"):
        decoder = Conditional(nets.mlp(LATENTS, size, (HIDDEN,)), families.Normal(shape))
        encoder = nets.mlp(size, 2 * LATENTS, (HIDDEN,))
    q = families.Normal(LATENTS, scale=families.PredictedScale())
    start_at_marginal(decoder, x)
    return VAE(priors.StandardNormal(LATENTS), decoder, Conditional(encoder, q, event_dims=len(shape)))


def by_encoder(model: VAE, objective: Any, x: Tensor, steps: int) -> None:
    """Auto-encoding variational Bayes, or wake-sleep."""
    train.fit(model, objective, x, steps=steps, batch_size=BATCH, learning_rate=1e-3, validate_every=steps)


def by_monte_carlo_em(model: Any, x: Tensor, steps: int) -> None:
    """Posterior samples by Hamiltonian Monte Carlo, persistent from visit to visit, then a step on the decoder."""
    parameters = list(model.likelihood.parameters())
    optimiser = torch.optim.Adam(parameters, 1e-3)
    generator = torch.Generator().manual_seed(0)
    codes, sizes = torch.randn(len(x), LATENTS, generator=generator), torch.full((len(x),), 0.1)
    for _ in range(steps):
        index = torch.randint(len(x), (BATCH,), generator=generator)
        rows, z, step = x[index], codes[index], sizes[index]
        for _ in range(CHAIN):
            z, accepted = hamiltonian(model, rows, z, step, generator)
            step = torch.where(accepted, step * 1.02, step * 0.98)
        codes[index], sizes[index] = z, step
        optimiser.zero_grad()
        (-model.log_joint(rows, z[None]).mean()).backward()
        optimiser.step()


def hamiltonian(model: VAE, x: Tensor, z: Tensor, step: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One transition with a step size for each row."""

    def slope(at: Tensor) -> tuple[Tensor, Tensor]:
        at = at.detach().requires_grad_()
        value = model.log_joint(x, at[None])[0]
        return value.detach(), torch.autograd.grad(value.sum(), at)[0]

    momentum = torch.randn(z.shape, generator=generator)
    value, gradient = slope(z)
    energy, moved, size = value - 0.5 * momentum.square().sum(1), z, step[:, None]
    for _ in range(LEAPFROGS):
        momentum = momentum + 0.5 * size * gradient
        moved = moved + size * momentum
        value, gradient = slope(moved)
        momentum = momentum + 0.5 * size * gradient
    change = value - 0.5 * momentum.square().sum(1) - energy
    accepted = torch.rand(len(z), generator=generator).log() < change
    return torch.where(accepted[:, None], moved, z), accepted


def scored(model: VAE, x: Tensor, jacobian: float, samples: int) -> dict[str, float]:
    """The importance-weighted bound with the best full-covariance posterior of each row as proposal."""
    q = inference.best_in_family(model, x, families.FullNormal(LATENTS), steps=300).posterior
    parts = []
    with evaluation_mode(model), seeded(0, "frey", "scored"):
        for _ in range(0, samples, DRAWN):
            z = q.sample(torch.Size((DRAWN,)))
            parts.append(model.log_joint(x, z) - q.log_prob(z))
    log_weight = torch.cat(parts).double()
    mean, se = mean_and_se(log_weight.logsumexp(0) - math.log(len(log_weight)) + jacobian)
    return {"log_likelihood": mean, "se": se}


def manifold(model: VAE, schema: Any, side: int = 15) -> None:
    """The decoder's mean over a grid of latents, even in the probability of the prior."""
    axis = torch.from_numpy(norm.ppf(np.linspace(0.03, 0.97, side))).float()
    z = torch.cartesian_prod(axis, axis)[:, [1, 0]]
    with evaluation_mode(model):
        faces = schema.user_values(model.decode(z).mean.clone(), exact=False).reshape(side, side, *schema.event_shape)
    figure = Figure(figsize=(6, 8.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(np.concatenate(np.concatenate(list(faces), axis=1), axis=1), cmap="gray", vmin=0, vmax=255)
    axes.axis("off")
    (ROOT / "docs" / "pictures").mkdir(exist_ok=True)
    figure.savefig(ROOT / "docs" / "pictures" / "frey.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=2_000_000)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="few examples; nothing is recorded")
    options = parser.parse_args()
    steps = 50 if options.quick else options.examples // BATCH
    splits = prepare(open_source("freyfaces"), density=True)
    x, test = splits.frozen("train"), splits.frozen("test")
    ways: dict[str, Callable[[VAE], None]] = {
        "variational Bayes": lambda model: by_encoder(model, objectives.ELBO(), x, steps),
        "wake-sleep": lambda model: by_encoder(model, objectives.ReweightedWakeSleep(1, wake=0.0, sleep=1.0), x, steps),
        "Monte Carlo EM": lambda model: by_monte_carlo_em(model, x, steps),
    }
    rows: dict[str, dict[str, Any]] = {}
    for name, fit in ways.items():
        model, start = make(splits.schema.event_shape, x), time.perf_counter()
        fit(model)
        seconds = time.perf_counter() - start
        values = {
            split: scored(model.eval(), part, splits.schema.log_jacobian, options.samples)
            for split, part in (("train", x[: len(test)]), ("test", test))
        }
        rows[name] = {**values, "seconds": seconds}
        print(name, rows[name], flush=True)
        if name == "variational Bayes":
            manifold(model, splits.schema)
    if options.quick:
        return
    record("frey", {"steps": steps, "batch": BATCH, "samples": options.samples, "rows": rows})
    table = [
        [
            name,
            *(f"{row[s]['log_likelihood']:.1f} ± {row[s]['se']:.1f}" for s in ("train", "test")),
            f"{row['seconds']:.0f}",
        ]
        for name, row in rows.items()
    ]
    about = (
        f"The same decoder with {LATENTS} latents and {HIDDEN} hidden units after {steps * BATCH:,} examples, trained "
        f"three "
        f"ways; log p(x) ≥ by {options.samples} weights with the best posterior of each row, nats/example, a density "
        f"of "
        "grey values.\n\n![The decoder's mean over the two latents](pictures/frey.png)"
    )
    write_table(
        "frey",
        "Frey faces",
        about,
        ["trained by", "training rows", "test rows", "seconds"],
        table,
        f"python -m benchmarks.frey --examples {options.examples}",
    )


if __name__ == "__main__":
    main()
