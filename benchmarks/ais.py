"""Scores the same test rows of a run by annealed importance sampling and by the bound from 5000 samples of q(z|x).

Run with: python -m benchmarks.ais runs/mnist --rows 100 --temperatures 2000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

import jensen
from benchmarks.machine import machine
from benchmarks.record import record, recorded
from jensen.evaluation import bounds, check_data, summarise
from jensen.inference import ais
from jensen.noise import mix
from jensen.numbers import mean_and_se
from jensen.run.folder import reopen

T = TypeVar("T")


def timed(function: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def compare(run: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both numbers for the first test rows, and their difference row by row."""
    fitted = jensen.load(run)
    x = reopen(run).frozen("test")[: options.rows]
    check_data(fitted.vae, x)
    measure = getattr(fitted.vae.likelihood, "measure", "density")
    scores, bound_seconds = timed(lambda: bounds(fitted.vae, x, k=options.samples, seed=mix(options.seed, "bound")))
    bound = summarise(scores.log_likelihood, scores.log_likelihood_variance, scores, measure=measure)
    start = fitted.vae.posterior if options.start == "posterior" else None
    annealed, seconds = timed(
        lambda: ais(
            fitted.vae,
            x,
            temperatures=options.temperatures,
            chains=options.chains,
            leapfrogs=options.leapfrogs,
            start=start,
            seed=options.seed,
        )
    )
    gain, gain_se = mean_and_se(annealed.log_likelihood - scores.log_likelihood)
    return {
        "run": run.name,
        "protocol": fitted.protocol,
        "latents": fitted.vae.prior().event_shape.numel(),
        "rows": len(x),
        "start": options.start,
        "temperatures": options.temperatures,
        "chains": options.chains,
        "leapfrogs": options.leapfrogs,
        "seed": options.seed,
        "ais": annealed.number().to_json(),
        "bound": bound.to_json(),
        "difference": [gain, gain_se],
        "rows_above": int((annealed.log_likelihood > scores.log_likelihood).sum()),
        "acceptance": float(annealed.acceptance.mean()),
        "ais_seconds": seconds,
        "bound_seconds": bound_seconds,
    }


def show(result: dict[str, Any]) -> str:
    """The result in lines."""
    below, above = result["bound"], result["ais"]
    gain, gain_se = result["difference"]
    lines = [
        f"{result['run']}: {result['rows']} test rows, {result['latents']} latents; nats/example, ± one standard error "
        "over rows",
        f"bound, K = {below['k']}: {below['mean']:.3f} ± {below['se']:.3f} (MC se {below['mc_se']:.2g}, median ESS "
        f"{below['ess']:.3g}), {result['bound_seconds']:.0f} s",
        f"AIS from the {result['start']}, {result['temperatures']} temperatures, {result['chains']} chains: "
        f"{above['mean']:.3f} ± {above['se']:.3f} (MC se {above['mc_se']:.2g}, median ESS {above['ess']:.3g}, "
        f"acceptance {result['acceptance']:.2f}), {result['ais_seconds']:.0f} s",
        f"AIS - bound, paired: {gain:+.3f} ± {gain_se:.3f}; above on {result['rows_above']} of {result['rows']} rows",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--temperatures", type=int, default=2000)
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--leapfrogs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=5000, help="K of the bound")
    parser.add_argument("--start", choices=["prior", "posterior"], default="prior", help="where annealing starts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--dry-run", action="store_true", help="print, and write no record")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    result = compare(options.run, options)
    print(show(result))
    if not options.dry_run:
        kept = ("protocol", "latents", "start", "temperatures")
        others = [
            row for row in recorded("ais").get("results", []) if any(row.get(name) != result[name] for name in kept)
        ]
        record("ais", {"machine": machine(), "results": [*others, result]})


if __name__ == "__main__":
    main()
