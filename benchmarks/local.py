"""Posteriors without an encoder on 500 MNIST images: joint against alternating, full covariance against mean field.

Joint: the mean and scale of every image are parameters like those of the decoder. Alternating: they are fitted until
their ELBO stands still within each step of the decoder. Both start from the same decoder. Then, the decoder held fixed,
each image gets its best mean-field normal, and from there its best normal with full covariance.

Run with: python -m benchmarks.local [--images 500] [--quick]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import record, write_table
from jensen import VAE, Conditional, families, inference, nets, objectives, posteriors, priors, train
from jensen.data import open_source, prepare
from jensen.initialise import start_at_marginal
from jensen.noise import seeded
from jensen.numbers import mean_and_se
from jensen.roles import Given

LATENTS, HIDDEN = 5, ()


def make(x: Tensor, *, learned: bool) -> VAE:
    """A decoder, the same each time, and a mean-field posterior for each image."""
    with seeded(0, "local"):
        decoder = Conditional(nets.mlp(LATENTS, 784, HIDDEN), families.Bernoulli((28, 28)))
    start_at_marginal(decoder, x)
    prior = priors.StandardNormal(LATENTS)
    family = families.Normal(LATENTS, scale=families.PredictedScale())
    return VAE(prior, decoder, posteriors.Local(len(x), family, like=prior, learned=learned))


def trained(x: Tensor, objective: Any, steps: int, *, learned: bool) -> tuple[VAE, float]:
    """A model after training on all images at once, and the seconds it took."""
    model, start = make(x, learned=learned), time.perf_counter()
    options: dict[str, Any] = {"batch_size": len(x), "learning_rate": 3e-2, "validate_every": steps, "select": False}
    train.fit(model, objective, x, steps=steps, **options)
    return model.eval(), time.perf_counter() - start


def settled(model: VAE, x: Tensor) -> Tensor:
    """The ELBO of each image once its posterior stands still, on fresh noise."""
    inference.fit_local(model, x, steps=500, seed=1)
    with torch.no_grad(), seeded(2, "settled"):
        return model.draw(x, Given(index=torch.arange(len(x))), 200).log_weight.double().mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--steps", type=int, default=3000, help="of joint optimisation")
    parser.add_argument("--outer", type=int, default=2500, help="of the decoder in alternating optimisation")
    parser.add_argument("--inner", type=int, default=5, help="the most steps on the posteriors within one step")
    parser.add_argument("--quick", action="store_true", help="few steps; nothing is recorded")
    options = parser.parse_args()
    steps = 100 if options.quick else options.steps
    x = prepare(open_source("mnist-static")).frozen("train")[: options.images].clone()
    joint, joint_seconds = trained(x, objectives.ELBO(4), steps, learned=True)
    alternating = inference.FitLocally(objectives.ELBO(4), steps=options.inner, samples=4, held_out=16)
    other, other_seconds = trained(x, alternating, 10 if options.quick else options.outer, learned=False)
    scores = {"joint": settled(joint, x), "alternating": settled(other, x)}
    print({name: mean_and_se(each) for name, each in scores.items()}, flush=True)
    numbers = Given(index=torch.arange(len(x)))
    diagonal = families.Normal(LATENTS, scale=families.PredictedScale())
    best = inference.best_in_family(joint, x, diagonal, given=numbers, steps=300)
    full = inference.best_in_family(
        joint, x, families.FullNormal(LATENTS), start=best.posterior, given=numbers, steps=300
    )
    gain, error = full.elbo - best.elbo, (full.variance + best.variance).sqrt()
    worse = int((gain < -4 * error).sum())
    rows = {name: dict(zip(("mean", "se"), mean_and_se(each), strict=True)) for name, each in scores.items()}
    difference = rows["alternating"]["mean"] - rows["joint"]["mean"]
    result = {
        "images": len(x), "steps": steps,
        "outer": options.outer, "inner": options.inner, "rows": rows, "difference": difference,
        "seconds": {"joint": joint_seconds, "alternating": other_seconds},
        "full_over_mean_field": {"mean": float(gain.mean()), "smallest": float(gain.min()), "worse_by_4_se": worse},
    }  # fmt: skip
    print(result, flush=True)
    if options.quick:
        return
    record("local", result)
    mean, least = float(gain.mean()), float(gain.min())
    about = (
        f"{len(x)} images of mnist-static, {LATENTS} latents and a linear decoder, so that the two ways can be "
        "expected to meet; ELBO in nats/example on the images themselves, after the posteriors have been fitted until "
        f"they stand still. Alternating minus joint: {difference:+.2f}. With the decoder of joint optimisation held "
        f"fixed, full covariance gains {mean:.2f} over mean field on average, at least {least:.2f}; it is worse by "
        f"four standard errors on {worse} images."
    )
    table = [
        [name, f"{row['mean']:.2f} ± {row['se']:.2f}", f"{result['seconds'][name]:.0f}"] for name, row in rows.items()
    ]
    write_table(
        "local",
        "Posteriors without an encoder",
        about,
        ["optimisation", "ELBO", "seconds"],
        table,
        "python -m benchmarks.local",
    )


if __name__ == "__main__":
    main()
