"""Four ways to write down a distribution over the 512 binary images of 3x3 pixels, where everything can be counted.

The truth: the image is made of rows or of columns, three or none of whose pixels are one, each with probability 0.4;
then each pixel is flipped with probability 0.05. Every model is fitted to the truth itself, by the weights of all 512
images, and to a sample; its KL from the truth is a sum over all images, for the VAE with log p(x) by quadrature.

Run with: python -m benchmarks.tiny_images [--steps 1000] [--draws 2000]
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.record import record, write_table
from jensen import VAE, Conditional, families, likelihoods, nets, priors, testing
from jensen.model import Explicit
from jensen.noise import seeded
from jensen.schedules import Cosine

IMAGES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=9)), dtype=torch.float64).reshape(-1, 3, 3)
ON, FLIP, SMOOTHING = 0.4, 0.05, 0.5
SAMPLES = 16  # of the bound that a VAE is trained by


def truth() -> Tensor:
    """The probability of each image."""
    total = torch.zeros(len(IMAGES), dtype=torch.float64)
    for bits in itertools.product([0.0, 1.0], repeat=3):
        on = torch.tensor(bits, dtype=torch.float64)
        weight = 0.5 * ON ** sum(bits) * (1 - ON) ** (3 - sum(bits))
        for clean in (on[:, None].expand(3, 3), on.expand(3, 3)):
            flips = (clean != IMAGES).double().sum((1, 2))
            total += weight * FLIP**flips * (1 - FLIP) ** (9 - flips)
    return total


def pixel_model(net: nn.Module) -> Explicit:
    return Explicit(likelihoods.Raster(net, families.Bernoulli((3, 3)))).double()


def vae(latents: int) -> VAE:
    decoder = Conditional(nets.mlp(latents, 9, (16,)), families.Bernoulli((3, 3)))
    encoder = Conditional(nets.mlp(9, 2 * latents, (32,)), families.Normal(latents, families.PredictedScale()), 2)
    return VAE(priors.StandardNormal(latents), decoder, encoder).double()


MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "mixture over 1 continuous latent (VAE)": (lambda: vae(1), "a bound; the integral by quadrature"),
    "mixture over 2 continuous latents (VAE)": (lambda: vae(2), "a bound; the integral by quadrature"),
    "gated PixelCNN": (
        lambda: pixel_model(nets.GatedPixelCNN(2, 1, width=4, layers=1, first_kernel=5)),
        "exact, one pass",
    ),
    "row LSTM (PixelRNN)": (
        lambda: pixel_model(nets.RowLSTM(2, 1, width=3, layers=1, first_kernel=5)),
        "exact, one pass",
    ),
}


def fitted(make: Callable[[], Any], weights: Tensor, steps: int) -> Any:
    """A model trained on all images that have a weight: log p(x), or the bound on it from 16 samples, by Adam."""
    with seeded(0, "tiny"):
        model = make()
        k = SAMPLES if isinstance(model, VAE) else 1
        parameters = list(model.parameters())
        adam, rate = torch.optim.Adam(parameters), Cosine(1e-2, steps)
        seen = weights > 0
        x, w = IMAGES[seen], weights[seen]
        for step in range(steps):
            adam.param_groups[0]["lr"] = rate(step)
            loss = -(w * (model.draw(x, k=k).log_weight.logsumexp(0) - math.log(k))).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
    return model


@torch.no_grad()
def log_p(model: Any) -> Tensor:
    """log p(x) of all images."""
    if isinstance(model, VAE):
        parts = [testing.quadrature(model, part, width=7.0, points=141) for part in IMAGES.split(64)]
        return torch.cat(parts)
    exact: Tensor = model.draw(IMAGES).log_weight[0]
    return exact


@torch.no_grad()
def bound_gap(model: VAE, weights: Tensor, exact: Tensor) -> float:
    """How far the bound that a VAE was trained by lies below log p(x), on average over images, from 50 such bounds."""
    with seeded(1):
        log_weight = model.draw(IMAGES, k=50 * SAMPLES).log_weight.reshape(50, SAMPLES, -1)
    bound = (log_weight.logsumexp(1) - math.log(SAMPLES)).mean(0)
    return float((weights * (exact - bound)).sum())


def parameters_of(model: Any) -> int:
    """The parameters of p(x); the encoder of a VAE is none of them."""
    own = [p for name, p in model.named_parameters() if not name.startswith("posterior.")]
    return sum(p.numel() for p in own)


def kl(p: Tensor, log_q: Tensor) -> float:
    return float((p * (p.log() - log_q)).sum())


def tables(p: Tensor, counts: Tensor) -> list[dict[str, Any]]:
    """The two models that need no training: one probability for each image, and one for each pixel."""
    smooth = (counts + SMOOTHING) / (counts.sum() + SMOOTHING * len(counts))
    rows = [("one probability for each image", 511, p.log(), smooth.log(), "exact, a table")]
    each = []
    for weights in (p, smooth):
        ones = (weights[:, None, None] * IMAGES).sum(0)
        each.append((IMAGES * ones.log() + (1 - IMAGES) * torch.log1p(-ones)).sum((1, 2)))
    rows.append(("independent pixels", 9, each[0], each[1], "exact, a product"))
    return [
        {
            "model": name,
            "parameters": n,
            "kl_truth": kl(p, a),
            "kl_sample": kl(p, b),
            "sum": float(a.exp().sum()),
            "how": how,
        }
        for name, n, a, b, how in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=2000, help="images in the sample")
    options = parser.parse_args()
    p = truth()
    with seeded(0, "sample"):
        counts = torch.bincount(torch.multinomial(p, options.draws, replacement=True), minlength=len(p)).double()
    rows = tables(p, counts)
    for name, (make, how) in MODELS.items():
        started = time.perf_counter()
        models = [fitted(make, weights, options.steps) for weights in (p, counts / counts.sum())]
        exact = [log_p(model) for model in models]
        row: dict[str, Any] = {"model": name, "parameters": parameters_of(models[0]), "how": how}
        row |= {"kl_truth": kl(p, exact[0]), "kl_sample": kl(p, exact[1]), "sum": float(exact[0].exp().sum())}
        row["gap"] = bound_gap(models[0], p, exact[0]) if isinstance(models[0], VAE) else 0.0
        row["seconds"] = time.perf_counter() - started
        rows.append(row)
        print(row, flush=True)
    entropy = float(-(p * p.log()).sum())
    record("tiny_images", {"entropy": entropy, "steps": options.steps, "draws": options.draws, "rows": rows})
    write(rows, entropy, options.draws)


def write(rows: list[dict[str, Any]], entropy: float, draws: int) -> None:
    table = [
        [
            row["model"],
            str(row["parameters"]),
            f"{row['kl_truth']:.4f}",
            f"{row['kl_sample']:.4f}",
            row["how"] + (f"; the bound lies {row['gap']:.3f} nats below" if row.get("gap") else ""),
            f"{row['sum'] - 1:.0e}" if row["sum"] != 1 else "0",
        ]
        for row in rows
    ]
    header = [
        "model",
        "parameters",
        "KL, fitted to the truth",
        f"KL, fitted to {draws} draws",
        "log p(x)",
        "Σ p(x) − 1",
    ]
    about = (
        f"All 512 binary images of 3x3 pixels under one known distribution with an entropy of {entropy:.3f} nats (full "
        f"rows or columns, pixels flipped with probability {FLIP:g}; {9 * math.log(2):.3f} nats would be uniform). "
        "KL(truth ‖ model) in nats, a sum over all images. A table of all images can be anything and needs a "
        "probability for each, half a count added to those of the sample; independent pixels miss what pixels say "
        "about one another; a mixture over a continuous latent and a chain of conditionals say it with few "
        "parameters, the one as an integral that has to be bounded (here by the importance-weighted bound from "
        f"{SAMPLES} samples), the other exactly. Parameters are those of p(x); one seed, so that "
        "a fit may be some hundredths from the best that a model can do, and that of a VAE more."
    )
    write_table("tiny-images", "All images of 3x3 pixels", about, header, table, "python -m benchmarks.tiny_images")


if __name__ == "__main__":
    main()
