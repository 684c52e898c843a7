"""Fits data with jensen's defaults, and with a plain PyTorch loop given the same time; both on the same test rows.

The loop is what a careful person writes by hand: SiLU networks, Adam with a cosine, a warm-up of the KL, large batches,
everything in memory. Its hyperparameters were tuned by hand on MNIST.

Run with: python -m benchmarks.handmade digits fashion-mnist
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import jensen
from benchmarks.record import record, recorded, write_table
from jensen import VAE, Conditional, families, priors
from jensen.data import open_source, prepare
from jensen.evaluation import bounds
from jensen.numbers import mean_and_se

BOUND = math.log(1e4)


def scale_of(raw: Tensor) -> Tensor:
    return (BOUND * torch.tanh(raw / BOUND)).exp()


def network(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def log_likelihood(raw: Tensor, x: Tensor, levels: int) -> Tensor:
    """Coins for zeros and ones; logistics integrated over bins for more levels."""
    if levels == 2:
        return -nn.functional.binary_cross_entropy_with_logits(raw, x, reduction="none").sum(1)
    loc, width = raw.chunk(2, 1)
    loc, width, half = loc + 0.5, scale_of(width - 2.0), 0.5 / (levels - 1)
    upper, lower = (x + half - loc) / width, (x - half - loc) / width
    inside = nn.functional.logsigmoid(upper) + nn.functional.logsigmoid(-lower)
    inside = inside + torch.log(-torch.expm1(-2 * half / width))
    edges = torch.where(x > 1 - half, nn.functional.logsigmoid(-lower), inside)
    return torch.where(x < half, nn.functional.logsigmoid(upper), edges).sum(1)


def train(splits: jensen.data.Splits, seconds: float, seed: int) -> VAE:
    """The loop; the learning rate and the weight of the KL follow the share of the time that has passed."""
    schema, x = splits.schema, splits.schema.grey(splits.stored["train"]).flatten(1)
    size, levels = schema.size, 2 if schema.binary else schema.levels
    large = len(x) >= 10_000
    width, latents, batch, peak = (500, 50, 200, 2e-3) if large else (256, 16, 128, 1e-3)
    torch.manual_seed(seed)
    encoder = network([size, width, width, 2 * latents])
    decoder = network([latents, width, width, size * (1 if levels == 2 else 2)])
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=peak, fused=True)
    start = time.perf_counter()
    done = 0.0
    while done < 1:
        for index in torch.randperm(len(x)).split(batch):
            done = (time.perf_counter() - start) / seconds
            for group in optimizer.param_groups:
                group["lr"] = peak * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
            rows = (torch.rand(len(index), size) < x[index]).float() if schema.binarisation == "dynamic" else x[index]
            mean, raw = encoder(rows).chunk(2, 1)
            scale = scale_of(raw)
            kl = 0.5 * (mean.square() + scale.square() - 1).sum(1) - scale.log().sum(1)
            z = mean + scale * torch.randn_like(mean)
            loss = (min(1.0, 4 * done) * kl - log_likelihood(decoder(z), rows, levels)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    event = schema.event_shape
    family = families.Bernoulli(event) if levels == 2 else families.DiscretizedLogistic(event, levels)
    q = families.Normal(latents, families.PredictedScale())
    likelihood = Conditional(decoder, family)
    return VAE(priors.StandardNormal(latents), likelihood, Conditional(encoder, q, event_dims=len(event)))


def compare(name: str, samples: int, seed: int, epochs: float | None) -> dict[str, Any]:
    """Both on one data set."""
    with tempfile.TemporaryDirectory() as folder:
        run = jensen.fit(name, out=Path(folder) / "run", samples=samples, seed=seed, epochs=epochs)
        wall = [json.loads(line) for line in (run.path / "timing.jsonl").read_text().splitlines()][-1]["seconds"]
        own = jensen.load(run.path).vae
        result = run.result
    splits = prepare(open_source(name))
    x = splits.frozen("test")
    rival = train(splits, wall, seed)
    ours, theirs = (bounds(model, x, k=samples, seed=1).log_likelihood for model in (own, rival))
    mean, se = mean_and_se(ours)
    rival_mean, rival_se = mean_and_se(theirs)
    gain, gain_se = mean_and_se(ours - theirs)
    return {
        "data": name,
        "epochs": epochs,
        "seconds": wall,
        "k": samples,
        "jensen": [mean, se],
        "loop": [rival_mean, rival_se],
        "gain": [gain, gain_se],
        "baselines": {row: values["mean"] for row, values in result["baselines"].items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", default=["digits", "fashion-mnist"])
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=None, help="for a shorter look; by default jensen's own choice")
    options = parser.parse_args()
    rows = [compare(name, options.samples, options.seed, options.epochs) for name in options.data]
    rows += [row for row in recorded("handmade").get("rows", []) if row["data"] not in options.data]
    record("handmade", {"seed": options.seed, "rows": rows})
    header = ["data", "seconds", "K", "epochs", "jensen", "plain loop", "gain, paired", "best baseline"]
    table = [
        [
            str(row["data"]),
            f"{row['seconds']:.0f}",
            str(row["k"]),
            "default" if row["epochs"] is None else f"{row['epochs']:g}",
            *(f"{mean:.2f} ± {se:.2f}" for mean, se in (row["jensen"], row["loop"], row["gain"])),
            f"{max(row['baselines'].values()):.2f}",
        ]
        for row in rows
    ]
    about = "log p(x) ≥, nats/example, test rows, after the same time of training; ± one standard error over rows."
    write_table("handmade", "jensen and a loop written by hand", about, header, table, "python -m benchmarks.handmade")


if __name__ == "__main__":
    main()
