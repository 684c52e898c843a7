"""The inference gaps of a 200-200/50 ELU model on MNIST and Fashion-MNIST, beside the published values.

References: Cremer, Li, Duvenaud (2018), Inference suboptimality in variational autoencoders.

Run with: python -m benchmarks.gaps, or with --quick for a short look at digits that records nothing.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

from torch import nn

from benchmarks.record import record, recorded, write_table
from jensen import VAE, Conditional, families, objectives, priors, schedules
from jensen.data import Splits, open_source, prepare
from jensen.data.schema import Binarisation
from jensen.diagnose import inference_gaps
from jensen.hardware import find_device
from jensen.initialise import start_at_marginal
from jensen.noise import seeded
from jensen.train import fit

PUBLISHED = {
    "mnist-static": {"log_p": -89.80, "best": -91.23, "encoder": -92.57, "approximation": 1.43, "amortisation": 1.34},
    "fashion-mnist": {
        "log_p": -97.47,
        "best": -100.53,
        "encoder": -104.75,
        "approximation": 3.06,
        "amortisation": 4.22,
    },
}
"""Of table 2, a factorised posterior on 1000 training rows, after 3280 epochs; quoted at second hand."""

NAMES = ("log_p", "best", "encoder", "approximation", "amortisation")
BINARISATION: dict[str, Binarisation] = {"fashion-mnist": "threshold", "digits": "threshold"}
BATCH = 100


def network(*sizes: int) -> nn.Sequential:
    """A dense network with ELU units."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ELU()]
    return nn.Sequential(*layers[:-1])


def train(splits: Splits, epochs: float, seed: int) -> tuple[VAE, int, float]:
    """200-200/50 units, a KL that rises over the first eighth of the training as in the paper."""
    event = splits.schema.event_shape
    size = splits.schema.size
    with seeded(seed, "networks"):
        q = families.Normal(50, families.PredictedScale())
        encoder = Conditional(network(size, 200, 200, 100), q, event_dims=len(event))
        decoder = Conditional(network(50, 200, 200, size), families.Bernoulli(event))
    model = VAE(priors.StandardNormal(50), decoder, encoder)
    start_at_marginal(decoder, splits.frozen("train")[:20_000])
    model.to(find_device())
    steps = max(1, round(epochs * len(splits.stored["train"]) / BATCH))
    objective = objectives.ELBO(beta=schedules.Linear(0.0, 1.0, steps=max(1, steps // 8)))
    start = time.perf_counter()
    fit(
        model,
        objective,
        splits.train,
        valid=splits.frozen("valid"),
        steps=steps,
        batch_size=BATCH,
        learning_rate=1e-3,
        validate_every=max(1, steps // 50),
        seed=seed,
    )
    return model, steps, time.perf_counter() - start


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One training, and the gaps of the first training and test rows."""
    splits = prepare(open_source(name), binarisation=BINARISATION.get(name))
    model, steps, seconds = train(splits, options.epochs, options.seed)
    train_rows, test_rows = (splits.frozen(split)[: options.rows] for split in ("train", "test"))
    start = time.perf_counter()
    budget = {"steps": options.climb, "samples": options.samples}
    budget |= {"temperatures": options.temperatures, "chains": options.chains}
    found = inference_gaps(model, test_rows, train_rows, seed=options.seed, **budget)
    seen, unseen = found.train, found.held_out
    checks = {"non-negative": True, "amortisation larger on test rows": False}
    if seen is not None:
        parts = (seen.approximation, seen.amortisation, unseen.approximation, unseen.amortisation)
        checks = {
            "non-negative": all(part.beyond(0) > -3 for part in parts),
            "amortisation larger on test rows": unseen.amortisation.value > seen.amortisation.value,
        }
    return {
        "data": name,
        "protocol": splits.protocol,
        "rows": options.rows,
        "epochs": options.epochs,
        "steps": steps,
        "training_seconds": seconds,
        "gap_seconds": time.perf_counter() - start,
        **budget,
        "gaps": found.to_json(),
        "checks": checks,
    }


def cells(row: dict[str, Any]) -> list[list[str]]:
    """Two rows of the table, training and test; what was published stands in brackets."""
    published = PUBLISHED.get(row["data"], {})
    table = []
    for split in ("train", "held_out"):
        texts = [row["data"], "training" if split == "train" else "test"]
        for name in NAMES:
            number = row["gaps"][split][name]
            known = f" ({published[name]:.2f})" if split == "train" and name in published else ""
            texts.append(f"{number['value']:.2f} ± {number['se']:.2f}{known}")
        table.append(texts)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", default=list(PUBLISHED))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=200)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--climb", type=int, default=1000, help="the most steps of the search for each row's posterior")
    parser.add_argument("--temperatures", type=int, default=0, help="of annealing; by default importance weights alone")
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="digits, few steps and rows; nothing is recorded")
    options = parser.parse_args()
    if options.quick:
        options.data, options.epochs, options.rows, options.samples, options.climb = ["digits"], 30, 50, 500, 200
    rows = []
    for name in options.data:
        rows.append(measure(name, options))
        for line in cells(rows[-1]):
            print(" | ".join(line), flush=True)
        print(rows[-1]["checks"], flush=True)
    if options.quick:
        return
    rows = [row for row in recorded("gaps").get("rows", []) if row["data"] not in options.data] + rows
    record("gaps", {"seed": options.seed, "published": PUBLISHED, "rows": rows})
    header = ["data", "rows", "log p(x) ≥", "L[q*]", "L[q]", "approximation gap", "amortisation gap"]
    epochs = ", ".join(f"{row['epochs']:g}" for row in rows)
    about = (
        f"Nats/example over the first {options.rows} training and test rows, 200-200/50 ELU networks, a factorised "
        "posterior; ± one standard error over rows; in brackets what is quoted of Cremer, Li and Duvenaud (2018) on "
        f"training rows, after 3280 epochs where these have {epochs}."
    )
    table = [line for row in rows for line in cells(row)]
    write_table("gaps", "Inference gaps", about, header, table, "python -m benchmarks.gaps")


if __name__ == "__main__":
    main()
