"""Discrete codes of MNIST: how much of the codebook is used, and what a learned prior over codes is worth.

One fit of vq-vae; its bound on test rows under the prior that was learned with the codes, and under the uniform one,
with the same codes and the same decoder, so that the difference is that of the priors. Prints whether the perplexity
of the codes of test rows is above 100 and whether the learned prior is better.

Run with: python -m benchmarks.vq [mnist] [--time-budget 900] [--quick]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import jensen
from benchmarks.record import ROOT, record, write_table
from jensen import VAE, priors
from jensen.evaluation import evaluation_mode, in_chunks
from jensen.fitted import score
from jensen.run.folder import reopen

WANTED = 100  # perplexity, of 512 codes


def perplexity(codes: Tensor, count: int) -> tuple[float, int]:
    """The perplexity of codes, and how many different ones there are."""
    share = torch.bincount(codes.flatten().long(), minlength=count).double() / codes.numel()
    return float((-torch.special.xlogy(share, share).sum()).exp()), int((share > 0).sum())


def measure(data: str, out: Path, **options: Any) -> dict[str, Any]:
    """One fit, measured with both priors."""
    run = jensen.fit(data, model="vq-vae", out=out, **options)
    fitted = run.model
    learned, schema = fitted.vae, fitted.schema
    splits = reopen(out)
    x = splits.frozen("test")
    codebook = learned.posterior.codebook
    uniform = VAE(priors.Codes(codebook, learned.prior.grid), learned.likelihood, learned.posterior)
    with evaluation_mode(learned):
        codes = in_chunks(lambda rows: learned.posterior.codes(rows).cpu(), x)
    scores = score(jensen.Fitted(uniform, schema, fitted.protocol), x, k=1, seed=0, split="test")
    found, used = perplexity(codes, codebook.codes)
    return {
        "data": data,
        "protocol": fitted.protocol,
        "steps": run.step,
        "seconds": run.result["seconds"],
        "grid": list(learned.prior.grid),
        "codes": codebook.codes,
        "perplexity": found,
        "used": used,
        "learned": run.result["test"]["log_likelihood"],
        "learned_bits": run.result["test"]["bits_per_dim"],
        "uniform": scores.log_likelihood.to_json(),
        "uniform_bits": scores.bits_per_dim,
        "rate": run.result["kl"],
        "uniform_rate": scores.latents.kl,
    }


def keep_pictures(run: Path) -> None:
    pictures = ROOT / "docs" / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for kind in ("samples", "reconstructions"):
        shutil.copyfile(run / f"{kind}.png", pictures / f"vq-{kind}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default="mnist")
    parser.add_argument("--time-budget", type=float, default=900.0, help="seconds of training")
    parser.add_argument("--quick", action="store_true", help="digits, a few steps: whether the script runs")
    options = parser.parse_args()
    data = "digits" if options.quick else options.data
    length: dict[str, Any] = {"steps": 60} if options.quick else {"time_budget": options.time_budget, "batch_size": 100}
    with tempfile.TemporaryDirectory() as folder:
        row = measure(data, Path(folder) / "run", **length)
        if not options.quick:
            keep_pictures(Path(folder) / "run")
    print(row)
    verdict = "above" if row["perplexity"] > WANTED else "NOT above"
    print(f"perplexity {row['perplexity']:.1f} of {row['codes']}: {verdict} {WANTED}")
    gain = row["uniform_bits"] - row["learned_bits"]
    print(f"the learned prior saves {gain:.4f} bits/dim: {'better' if gain > 0 else 'NOT better'}")
    if not options.quick:
        record("vq", row)
        write(row)


def write(row: dict[str, Any]) -> None:
    table = [
        [
            name,
            f"≥ {row[name]['mean']:.2f} ± {row[name]['se']:.2f}",
            f"≤ {row[f'{name}_bits']:.4f}",
            f"{row[rate]:.1f}",
        ]
        for name, rate in (("learned", "rate"), ("uniform", "uniform_rate"))
    ]
    header = ["prior over codes", "log p(x), nats", "bits/dim", "−log p(z), nats"]
    height, width = row["grid"]
    about = (
        f"`jensen fit {row['data']} --model vq-vae`: {row['steps']} steps in {row['seconds']:.0f} s, a grid of "
        f"{height}x{width} codes, each one of {row['codes']}. On test rows {row['used']} codes occur, their "
        f"perplexity is {row['perplexity']:.1f}. The bound is log p(x|z) + log p(z) at the one code z of each row; "
        f"both lines have the same codes and the same decoder. Protocol: {row['protocol']}.\n\n"
        "![samples](pictures/vq-samples.png)\n\n![reconstructions](pictures/vq-reconstructions.png)"
    )
    write_table("vq", "Discrete codes with a learned prior", about, header, table, "python -m benchmarks.vq")


if __name__ == "__main__":
    main()
