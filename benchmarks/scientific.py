"""Trains the spectral-line example and asks whether its posteriors are right.

On simulated data sets, whose true values are known, 90% intervals must hold the truth 85 to 95 times in 100; on some of
them the draws must agree with long chains of Hamiltonian Monte Carlo within Monte Carlo error.

Run with: python -m benchmarks.scientific
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from typing import Any

import torch
from examples import spectral_line
from torch import Tensor

import jensen
from benchmarks.machine import machine
from benchmarks.record import record, write_table
from jensen import VAE, noise
from jensen.inference import PosteriorDraws, posterior_chains


def simulated(vae: Any, rows: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """True values and the data sets that they made."""
    with noise.seeded(seed, "truth"), torch.no_grad():
        z = vae.prior().sample((rows,))
        x = vae.decode(z[None]).sample()[0]
    return vae.prior.unpack(z), x


def coverage(truth: dict[str, Tensor], found: PosteriorDraws) -> dict[str, Any]:
    """How often the interval from the 5% to the 95% quantile holds the truth, by name."""
    result = {}
    for name, parts in found.summary().items():
        inside = ((parts["q5"] <= truth[name]) & (truth[name] <= parts["q95"])).double()
        result[name] = {"share": float(inside.mean()), "se": float(inside.std() / math.sqrt(len(inside)))}
    return result


def agreement(vae: VAE, x: Tensor, found: PosteriorDraws, draws: int) -> dict[str, Any]:
    """Differences of posterior means and spreads from those of long chains, over their Monte Carlo errors."""
    chains = posterior_chains(vae, x, chains=8, draws=draws, warmup=500, start=vae.posterior, seed=5)
    z, ours = chains.z.flatten(0, 1).double(), found.z[:, : len(x)].double()
    sd = z.std(0)
    ess = torch.tensor([min(row.ess, len(ours)) for row in found.rows[: len(x)]])[:, None].double()
    error = (1 / ess + 1 / chains.ess_bulk).sqrt()
    scores = (ours.mean(0) - z.mean(0)) / sd / error
    spread = ours.std(0) / sd
    return {
        "rows": len(x),
        "draws": draws * 8,
        "r_hat": float(chains.r_hat.max()),
        "z_scores_rms": float(scores.square().mean().sqrt()),
        "z_scores_largest": float(scores.abs().max()),
        "shift_rms_in_sd": float(((ours.mean(0) - z.mean(0)) / sd).square().mean().sqrt()),
        "sd_ratio": [float(spread.min()), float(spread.mean()), float(spread.max())],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--compared", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    vae = spectral_line.trained(options.steps, seed=options.seed)
    training = time.perf_counter() - started
    truth, x = simulated(vae, options.rows, options.seed)
    started = time.perf_counter()
    found = jensen.posterior(vae, x, seed=options.seed)
    inference = time.perf_counter() - started
    result = {
        "seed": options.seed,
        "steps": options.steps,
        "rows": options.rows,
        "seconds": {"training": training, "inference": inference},
        "methods": dict(Counter(found.methods)),
        "failed": int((~found.passed).sum()),
        "coverage": coverage(truth, found),
        "agreement": agreement(vae, x[: options.compared], found, 1000),
        "machine": machine(),
    }
    # The rows that the encoder was not good enough for are those that matter most.
    hard = [row for row, method in enumerate(found.methods) if method != "encoder"][: options.compared]
    if hard:
        chosen = PosteriorDraws({}, found.z[:, hard], tuple(found.rows[row] for row in hard))
        result["agreement_escalated"] = agreement(vae, x[hard], chosen, 1000)
    record("scientific", result)
    table = [[name, f"{entry['share']:.3f} ± {entry['se']:.3f}"] for name, entry in result["coverage"].items()]
    about = (
        f"How often 90% intervals hold the truth, over {options.rows} simulated spectra. Methods: {result['methods']}; "
        f"{result['failed']} rows did not pass their checks. Against long chains of Hamiltonian Monte Carlo on "
        f"{options.compared} spectra, means differ by {result['agreement']['z_scores_rms']:.2f} Monte Carlo errors "
        "(root mean square)."
    )
    title = "A scientific model: five quantities of a spectral line"
    write_table("scientific", title, about, ["quantity", "coverage"], table, "python -m benchmarks.scientific")
    print(result)


if __name__ == "__main__":
    main()
