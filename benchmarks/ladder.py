"""A ladder and learned priors against the one-layer VAE on dynamic MNIST, each with the same time to train.

All train at the same time, each in a process of its own with one thread, so that whatever slows the machine down slows
all of them.

References: Sønderby et al. (2016), Ladder variational autoencoders. Tomczak, Welling (2018), VAE with a VampPrior. Chen
et al. (2017), Variational lossy autoencoder.

Run with: python -m benchmarks.ladder [--time-budget 1800], or with --quick for a short look at digits that records
nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import jensen
from benchmarks.record import record, write_table
from benchmarks.side_by_side import side_by_side
from jensen.files import read_json

DIAGONAL = {"posterior": "diagonal"}
CONTENDERS: dict[str, tuple[str, dict[str, Any], float | None]] = {
    "vae": ("vae", DIAGONAL, None),
    "vae, full covariance": ("vae", {"posterior": "full"}, None),
    "vampprior-vae": ("vampprior-vae", DIAGONAL, 1.0),
    "flow-prior-vae": ("flow-prior-vae", DIAGONAL, 1.0),
    "ladder-vae": ("ladder-vae", {}, 1.5),
}
"""Each with its model, its options beside those of all, and the nats by which it should beat the first."""


def fitted(name: str, folder: Path, options: argparse.Namespace) -> Path:
    """One fit."""
    model, own, _ = CONTENDERS[name]
    extra = {"width": options.width} if name == "ladder-vae" and options.width else {}
    run = jensen.fit(
        options.data,
        model=model,
        out=folder / name.replace(", ", "-").replace(" ", "-"),
        binarisation="dynamic",
        time_budget=options.time_budget,
        samples=options.samples,
        seed=options.seed,
        **own,
        **extra,
    )
    return run.path


def measure(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All fits side by side, each compared with the first, paired over the test rows."""
    paths = list(side_by_side(fitted, [(name, folder, options) for name in options.only]))
    return [compared(name, paths[0], path) for name, path in zip(options.only, paths, strict=True)]


def compared(name: str, first: Path, path: Path) -> dict[str, Any]:
    """The numbers of one fit beside those of the first."""
    numbers = jensen.compare(first, path)
    result: Any = read_json(path / "result.json")
    goal = CONTENDERS[name][2]
    found = {quantity: numbers[quantity] for quantity in ("elbo", "log_likelihood")}
    reached = None if goal is None else found["log_likelihood"]["difference"] >= goal
    row = {"model": name, "steps": result["steps"], "seconds": result["seconds"], "kl": result["kl"], **found}
    row |= {"goal": goal, "reached": reached}
    print(" | ".join(cells(row)), flush=True)
    return row


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    texts = [row["model"]]
    for quantity in ("elbo", "log_likelihood"):
        number, difference = row[quantity]["numbers"][1], row[quantity]["difference"]
        texts += [
            f"{number['mean']:.2f} ± {number['se']:.2f}",
            f"{difference:+.2f} ± {row[quantity]['difference_se'] or 0:.2f}",
        ]
    goal = "–" if row["goal"] is None else f"{row['goal']:.1f}: {'yes' if row['reached'] else 'no'}"
    kl = "–" if row["kl"] is None else f"{row['kl']:.1f}"
    return [*texts, goal, kl, str(row["steps"]), f"{row['seconds']:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--time-budget", type=float, default=1800.0, help="seconds of training for each")
    parser.add_argument("--samples", type=int, default=500, help="K of the bound on log p(x)")
    parser.add_argument("--width", type=int, default=None, help="the width of the ladder; by default its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--quick", action="store_true", help="digits for 15 seconds each; nothing is recorded")
    options = parser.parse_args()
    if options.quick:
        options.data, options.time_budget, options.samples = "digits", 15.0, 100
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options)
    if options.quick or options.only != list(CONTENDERS):
        return
    settings = {"data": options.data, "seed": options.seed, "time_budget": options.time_budget}
    write({**settings, "samples": options.samples, "rows": rows})


def write(result: dict[str, Any]) -> None:
    record("ladder", result)
    budget, k = result["time_budget"], result["samples"]
    header = [
        "model",
        "ELBO",
        "against vae",
        f"log p(x) ≥, K = {k}",
        "against vae",
        "goal",
        "KL",
        "steps",
    ]
    about = (
        f"Dynamic binarisation, {budget:g} s of training for each, all at the same time with one thread each, seed "
        f"{result['seed']}; nats per test example ± standard error, differences paired over the test rows. The first "
        "four have the same dense networks; unless it says otherwise their posteriors are diagonal. The goal is on the "
        "bound on log p(x). A KL that has no formula is not given."
    )
    command = f"python -m benchmarks.ladder --time-budget {budget:g} --samples {k}"
    lines = [cells(row) for row in result["rows"]]
    write_table("ladder", "A ladder and learned priors", about, [*header, "s"], lines, command)


if __name__ == "__main__":
    main()
