"""Trains by the ELBO and by the importance-weighted bound, and evaluates both four ways, as Nowozin (2018) did.

Dynamic MNIST, two hidden layers of 300, 40 latents, K = 32. The published values come from thousands of epochs; what a
short training shows is their order.

Run with: python -m benchmarks.jackknife [mnist] [--epochs 20] [--hidden 300,300]
"""

from __future__ import annotations

import argparse
import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import jensen
from benchmarks.record import record, write_table
from jensen import diagnose
from jensen.numbers import mean_and_se
from jensen.run.folder import reopen

K = 32
PUBLISHED = {"vae": (-93.38, -89.22, -88.66, -88.40), "iwae": (-95.30, -86.05, -85.28, -85.01)}
EVALUATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "ELBO": lambda w: w.mean(0),
    "IWAE-32": lambda w: w.logsumexp(0) - math.log(len(w)),
    "JVI-1": lambda w: diagnose.jackknife(w, 1),
    "JVI-2": lambda w: diagnose.jackknife(w, 2),
}


def evaluated(folder: Path) -> dict[str, Any]:
    """The four numbers on all test rows of a run."""
    model, x = jensen.load(folder).vae, reopen(folder).frozen("test")
    parts: dict[str, list[Tensor]] = {name: [] for name in EVALUATORS}
    for start in range(0, len(x), 1024):
        log_weight = diagnose.draws_of(model, x[start : start + 1024], k=K, seed=1).log_weight
        for name, function in EVALUATORS.items():
            parts[name].append(function(log_weight))
    return {name: dict(zip(("mean", "se"), mean_and_se(torch.cat(each)), strict=True)) for name, each in parts.items()}


def ordered(rows: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """Whether the published order holds: along the evaluators, and between the two trainings."""
    names = list(EVALUATORS)
    along = all(rows[model][a]["mean"] < rows[model][b]["mean"] for model in rows for a, b in itertools.pairwise(names))
    return {
        "each evaluator above the one before": along,
        "ELBO better when trained by the ELBO": rows["vae"]["ELBO"]["mean"] > rows["iwae"]["ELBO"]["mean"],
        "the others better when trained by IWAE-32": all(
            rows["iwae"][name]["mean"] > rows["vae"][name]["mean"] for name in names[1:]
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default="mnist")
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--hidden", default="300,300")
    parser.add_argument("--latents", type=int, default=40)
    options = parser.parse_args()
    hidden = tuple(int(width) for width in options.hidden.split(","))
    shared: dict[str, Any] = {
        "epochs": options.epochs,
        "hidden": hidden,
        "latents": options.latents,
        "posterior": "diagonal",
    }
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        trainings: dict[str, dict[str, Any]] = {"vae": {}, "iwae": {"k": K, "estimator": "reparameterised"}}
        for name, own in trainings.items():
            run = jensen.fit(options.data, model=name, out=Path(folder) / name, samples=K, **shared, **own)
            rows[name] = {**evaluated(run.path), "seconds": run.result["seconds"]}
            print(name, rows[name], flush=True)
    order = ordered(rows)
    record("jackknife", {"data": options.data, "k": K, **shared, "rows": rows, "order": order, "published": PUBLISHED})
    table = []
    for name, row in rows.items():
        trained = "ELBO" if name == "vae" else "IWAE-32"
        table.append([trained, *(f"{row[e]['mean']:.2f} ± {row[e]['se']:.2f}" for e in EVALUATORS)])
        table.append([f"{trained}, published", *(f"{value:.2f}" for value in PUBLISHED[name])])
    holds = "; ".join(f"{what}: {'yes' if kept else 'NO'}" for what, kept in order.items())
    about = (
        f"Models of {options.data} trained for {options.epochs:g} epochs by one objective (rows) and evaluated on all "
        f"test rows by four (columns), nats/example, K = {K}. The jackknife gives estimates, not bounds. {holds}. "
        f"Published "
        "values: Nowozin (2018), dynamic MNIST, thousands of epochs."
    )
    write_table(
        "jackknife",
        "Trained by one, evaluated by another",
        about,
        ["trained by", *EVALUATORS],
        table,
        f"python -m benchmarks.jackknife {options.data} --epochs {options.epochs:g}",
    )


if __name__ == "__main__":
    main()
