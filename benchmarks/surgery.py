"""ELBO surgery of models with 2, 10 and 20 latents on binarised MNIST, beside the published values.

Each model is fitted with jensen's defaults and a diagonal posterior; the KL over all training rows is then taken apart.

References: Hoffman, Johnson (2016), ELBO surgery: yet another way to carve up the variational evidence lower bound.

Run with: python -m benchmarks.surgery, or with --quick for a short look at digits that records nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import jensen
from benchmarks.record import record, recorded, write_table
from jensen.data import open_source, prepare
from jensen.diagnose import elbo_surgery

PUBLISHED = {
    2: {"elbo": -129.63, "mean_kl": 7.41, "mutual_information": 7.20, "marginal_kl": 0.21},
    10: {"elbo": -88.95, "mean_kl": 19.17, "mutual_information": 10.82, "marginal_kl": 8.35},
    20: {"elbo": -87.45, "mean_kl": 20.20, "mutual_information": 10.67, "marginal_kl": 9.53},
}
"""Of the workshop paper's table, as reprinted at rachtsingh.github.io/elbo_surgery, without networks or recipe."""

DATA = "mnist-static"
NAMES = ("mean_kl", "mutual_information", "marginal_kl", "total_correlation", "dimension_wise", "residual")


def measure(name: str, latents: int, seed: int, steps: int | None, draws: int, samples: int) -> dict[str, Any]:
    """One fit, and the surgery of its training rows."""
    splits = prepare(open_source(name))
    x = splits.frozen("train")
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"latents": latents, "posterior": "diagonal", "seed": seed, "steps": steps}
        run = jensen.fit(name, out=Path(folder) / "run", samples=samples, **options)
        model, result = jensen.load(run.path).vae, run.result
    found = elbo_surgery(model, x, draws=draws, seed=seed)
    return {
        "latents": latents,
        "steps": result["steps"],
        "seconds": result["seconds"],
        "elbo": {"test": result["test"]["elbo"], "train": jensen.elbo(model, x[:2000], k=10, split="train").to_json()},
        "active": result["active_latents"],
        "surgery": found.to_json(),
    }


def shape(rows: list[dict[str, Any]]) -> dict[str, bool]:
    """Whether the table has the published shape."""
    by = {row["latents"]: row["surgery"] for row in rows}

    def value(latents: int, name: str) -> float:
        return float(by[latents][name]["value"])

    ceiling = rows[0]["surgery"]["ceiling"]
    return {
        "information saturates at 10 and 20 latents": all(
            value(n, "mutual_information") > 0.95 * ceiling for n in by if n >= 10
        ),
        "information does not saturate at 2": value(2, "mutual_information") < 0.9 * ceiling,
        "marginal KL jumps from 2 to 10": value(10, "marginal_kl") > value(2, "marginal_kl") + 4,
        "the identity holds": all(abs(s["residual"]["value"]) < 4 * s["residual"]["se"] for s in by.values()),
    }


def cells(row: dict[str, Any]) -> list[str]:
    """One row of the table; what was published stands in brackets."""
    published = PUBLISHED[row["latents"]]
    texts = [str(row["latents"]), f"{row['elbo']['train']['mean']:.2f} ({published['elbo']:.2f})"]
    for name in NAMES:
        number = row["surgery"][name]
        text = "–" if number is None else f"{number['value']:.2f}" + (f" ± {number['se']:.2f}" if number["se"] else "")
        texts.append(text + (f" ({published[name]:.2f})" if name in published else ""))
    return [*texts, f"{row['surgery']['ceiling']:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("latents", nargs="*", type=int, default=[2, 10, 20])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=None, help="by default jensen's own choice")
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--quick", action="store_true", help="digits and few steps; nothing is recorded")
    options = parser.parse_args()
    name, steps, draws = ("digits", 400, 500) if options.quick else (DATA, options.steps, options.draws)
    rows = []
    for latents in options.latents:
        rows.append(measure(name, latents, options.seed, steps, draws, 20 if options.quick else 500))
        print(" | ".join(cells(rows[-1])), flush=True)
    if options.quick:
        return
    kept = [row for row in recorded("surgery").get("rows", []) if row["latents"] not in options.latents]
    rows = sorted([*kept, *rows], key=lambda row: row["latents"])
    complete = {row["latents"] for row in rows} >= set(PUBLISHED)
    record("surgery", {"data": name, "seed": options.seed, "shape": shape(rows) if complete else None, "rows": rows})
    header = ["latents", "ELBO, training rows", "average KL", "mutual information", "marginal KL"]
    header += ["total correlation", "dimension-wise KL", "residual", "log N"]
    about = (
        "Nats/example over all training rows of binarised MNIST; ± one standard error of the draws; in brackets the "
        "values of Hoffman and Johnson (2016), whose networks and recipe are not known."
    )
    write_table("surgery", "ELBO surgery", about, header, [cells(row) for row in rows], "python -m benchmarks.surgery")


if __name__ == "__main__":
    main()
