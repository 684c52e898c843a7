"""Stick-breaking and Gaussian autoencoders on MNIST beside what was published: likelihoods, and neighbours of codes.

Run with: python -m benchmarks.stick_breaking [--quick] [--epochs 60]
"""

from __future__ import annotations

import argparse
import logging
import time
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.record import record, write_table
from benchmarks.side_by_side import side_by_side
from jensen import data, evaluation, train, zoo
from jensen.evaluation import evaluation_mode, in_chunks
from jensen.initialise import start_at_marginal
from jensen.noise import seeded
from jensen.numbers import mean_and_se

NEIGHBOURS = (3, 5, 10)
PUBLISHED: dict[str, dict[str, Any]] = {
    "vae": {"nll": 93.93, "knn": (28.4, 20.96, 15.33)},
    "stick-breaking-vae": {"nll": 98.01, "knn": (9.34, 8.65, 8.90)},
}
OPTIONS: dict[str, dict[str, Any]] = {"vae": {"posterior": "diagonal"}, "stick-breaking-vae": {"alpha": 5.0}}


def codes(model: Any, x: Tensor, *, sampled: bool) -> np.ndarray[Any, Any]:
    """What the decoder sees of each row: one sample, or the posterior mean; of sticks, the pieces."""
    unpack = getattr(model.prior, "unpack", lambda z: z)

    def of(rows: Tensor) -> Tensor:
        z: Tensor = model.posterior(rows).sample() if sampled else model.embed(rows)
        pieces: Tensor = unpack(z)
        return pieces

    with evaluation_mode(model), seeded(0, "codes"):
        return in_chunks(of, x).clone().numpy()


def neighbour_errors(model: Any, known: tuple[Tensor, Any], asked: tuple[Tensor, Any], *, sampled: bool) -> list[float]:
    """The share of rows, in percent, whose class is not that of most of their neighbours in the space of codes."""
    from sklearn.neighbors import KNeighborsClassifier

    here, there = codes(model, known[0], sampled=sampled), codes(model, asked[0], sampled=sampled)
    errors = []
    for count in NEIGHBOURS:
        found = KNeighborsClassifier(count, algorithm="brute").fit(here, known[1]).predict(there)
        errors.append(100 * float(np.mean(found != asked[1])))
    return errors


def measure(name: str, epochs: float, samples: int, seed: int, most: int | None) -> dict[str, Any]:
    """One fit: one layer of 500 units, 50 latents, Adam, batches of 100, static binarisation, as published.

    Published is a constant rate of 3e-4 for as long as it takes.
    """
    source = data.open_source("mnist")
    splits = data.prepare(source, binarisation="static", seed=0)
    x, valid, test = (splits.frozen(split)[:most] for split in ("train", "valid", "test"))
    built = zoo.build(name, splits.schema, rows=len(x), hidden=(500,), latents=50, kl_warmup=0, **OPTIONS[name])
    start_at_marginal(built.model.likelihood, x)
    steps = max(20, round(epochs * len(x) / 100))
    started = time.perf_counter()
    history = train.fit(
        built.model,
        built.objective(steps)[0],
        x,
        steps=steps,
        valid=valid,
        batch_size=100,
        learning_rate=2e-3,
        validate_every=max(1, steps // 40),
        seed=seed,
    )
    row: dict[str, Any] = {"model": name, "seed": seed, "epochs": epochs, "seconds": time.perf_counter() - started}
    scores = evaluation.bounds(built.model, test, k=samples)
    row |= {"best_step": history.best_step, "k": samples}
    row |= {"elbo": mean_and_se(scores.elbo), "log_likelihood": mean_and_se(scores.log_likelihood)}
    if splits.labels:
        known, asked = (
            (part, np.asarray(splits.labels[name])[: len(part)]) for part, name in ((x, "train"), (test, "test"))
        )
        row["knn_sampled"] = neighbour_errors(built.model, known, asked, sampled=True)
        row["knn_means"] = neighbour_errors(built.model, known, asked, sampled=False)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=60)
    parser.add_argument("--samples", type=int, default=100, help="as published")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few steps on a few rows, nothing written")
    options = parser.parse_args()
    logging.disable()
    epochs, samples, most = (2, 10, 500) if options.quick else (options.epochs, options.samples, None)
    rows = list(side_by_side(measure, [(name, epochs, samples, options.seed, most) for name in PUBLISHED]))
    for row in rows:
        print(row, flush=True)
    if options.quick:
        return
    record("stick_breaking", {"rows": rows, "published": PUBLISHED})
    lines = []
    for row in rows:
        mean, se = row["log_likelihood"]
        line = [
            row["model"],
            f"{row['seconds']:.0f}",
            f"{-mean:.2f} ± {se:.2f}",
            f"{PUBLISHED[row['model']]['nll']:.2f}",
        ]
        for errors in (row.get("knn_sampled"), row.get("knn_means"), PUBLISHED[row["model"]]["knn"]):
            line.append(" / ".join(f"{error:.2f}" for error in errors) if errors else "")
        lines.append(line)
    header = ["model", "seconds", f"−log p(x) ≤, K={samples}", "published", "k-NN, samples", "k-NN, means", "published"]
    about = (
        f"MNIST, binarised once; one layer of 500 units, 50 latents, {options.epochs:g} epochs of batches of 100, Adam "
        "with a rate that falls from 2e-3; nats/example on test rows. The errors of nearest "
        "neighbours, in percent for 3, 5 and 10 of them, are those of codes as the decoder sees them."
    )
    command = "python -m benchmarks.stick_breaking"
    write_table("stick_breaking", "Stick-breaking autoencoders", about, header, lines, command)


if __name__ == "__main__":
    main()
