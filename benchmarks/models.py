"""Fits every model that suits images to the same data with its defaults: their numbers and samples side by side.

Run with: python -m benchmarks.models [digits] [--time-budget 60] [--only vae iwae]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jensen
from benchmarks.record import ROOT, record, recorded, write_table
from jensen import zoo

WORDS = {"lower": "≥", "exact": "=", "predictive": "≥ (new rows given the old)", "none": "–"}


def measure(name: str, data: str, seconds: float | None) -> dict[str, Any]:
    """One fit: its numbers, and its samples as a picture in the docs."""
    with tempfile.TemporaryDirectory() as folder:
        run = jensen.fit(data, model=name, out=Path(folder) / "run", time_budget=seconds)
        pictures = ROOT / "docs" / "pictures" / "models"
        pictures.mkdir(parents=True, exist_ok=True)
        for kind in ("samples", "reconstructions"):
            if (run.path / f"{kind}.png").exists():
                shutil.copyfile(run.path / f"{kind}.png", pictures / f"{data}-{name}.png")
                break
        test = run.result["test"]
        number = test.get("log_likelihood") or test["reconstruction"]
        row = {"model": name, "data": data, "steps": run.step, "seconds": run.result["seconds"], "number": number}
        return {**row, "elbo": test.get("elbo"), "kl": run.result["kl"], "active": run.result["active_latents"]}


def line(row: dict[str, Any]) -> list[str]:
    number = row["number"]
    entry = zoo.MODELS[row["model"]]
    return [
        row["model"],
        entry.summary,
        entry.paper,
        f"{WORDS[number['kind']]} {number['mean']:.2f} ± {number['se']:.2f}",
        "–" if row["kl"] is None else f"{row['kl']:.1f}",
        "–" if row["active"] is None else str(row["active"]),
        f"{row['steps']}",
        f"{row['seconds']:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument(
        "--time-budget", type=float, default=None, help="seconds of training for each; by default its own"
    )
    parser.add_argument("--only", nargs="*", default=None)
    options = parser.parse_args()
    names = options.only or [name for name, entry in zoo.MODELS.items() if "images" in entry.data]
    rows = [
        row for row in recorded("models").get("rows", []) if row["data"] != options.data or row["model"] not in names
    ]
    for name in names:
        rows.append(measure(name, options.data, options.time_budget))
        print(line(rows[-1]), flush=True)
    order = list(zoo.MODELS)
    rows.sort(key=lambda row: (row["data"], order.index(row["model"])))
    record("models", {"time_budget": options.time_budget, "rows": rows})
    shown = [row for row in rows if row["data"] == options.data]
    pictures = "\n\n".join(
        f"**{r['model']}**\n\n![{r['model']}](pictures/models/{options.data}-{r['model']}.png)" for r in shown
    )
    about = (
        f"Test rows of {options.data}, nats/example; se over rows. Each model has its defaults, so sizes and steps "
        f"differ; "
        "`jensen fit DATA --model NAME --help` lists what can be changed.\n\n" + pictures
    )
    header = ["model", "what it is", "paper", "log p(x)", "KL", "active latents", "steps", "seconds"]
    write_table(
        "models", "Models", about, header, [line(row) for row in shown], f"python -m benchmarks.models {options.data}"
    )


if __name__ == "__main__":
    main()
