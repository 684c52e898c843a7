"""Fits digits with the defaults and writes docs/digits.png and docs/digits.md.

Run with: python -m benchmarks.pictures
"""

from __future__ import annotations

import datetime
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import jensen

DOCS = Path(__file__).parent.parent / "docs"
ROWS = 24


def picture(model: jensen.Fitted, path: Path) -> None:
    """Data, their reconstructions and draws from the prior, in three blocks."""
    x = load_digits().images[:ROWS]
    blocks = {
        "data": x,
        "mean of p(x|z) at the posterior mean": model.reconstruct(x),
        "mean of p(x|z), z drawn from the prior": model.sample(ROWS, seed=0, mean=True),
    }
    figure = Figure(figsize=(9, 2.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, rows) in zip(figure.subplots(1, 3), blocks.items(), strict=True):
        padded = np.pad(rows, ((0, 0), (0, 1), (0, 1)), constant_values=16)
        lines = [np.concatenate(list(padded[i : i + 6]), axis=1) for i in range(0, ROWS, 6)]
        axes.imshow(np.concatenate(lines), cmap="gray", vmin=0, vmax=16, interpolation="nearest")
        axes.set_title(title, fontsize=8)
        axes.axis("off")
    figure.savefig(path)


def page(result: dict[str, Any], environment: dict[str, Any]) -> str:
    """The result as a page."""
    test = result["test"]
    bound = test["log_likelihood"]
    lines = [
        "# Digits",
        "",
        f"Made by `python -m benchmarks.pictures` on {datetime.date.today()}: seed 0, defaults, "
        f"{environment['cpus']} CPU cores, {platform.machine()}, torch {environment['torch']}, "
        f"jensen {environment['jensen']}.",
        "",
        f"{result['data']['protocol']}; {result['data']['n_test']} test rows; {result['steps']} steps in "
        f"{result['seconds']:.0f} s.",
        "",
        "| | nats/example | |",
        "|---|---|---|",
        f"| ELBO | {test['elbo']['mean']:.2f} ± {test['elbo']['se']:.2f} | MC se {test['elbo']['mc_se']:.2g} |",
        f"| log p(x) ≥ | {bound['mean']:.2f} ± {bound['se']:.2f} | K = {bound['k']}, MC se {bound['mc_se']:.2g}, "
        f"median ESS {bound['ess']:.3g}; {test['bits_per_dim']:.4f} bits/dim |",
    ]
    for name, row in result["baselines"].items():
        gain = f"the model is {row['difference']:+.2f} ± {row['difference_se']:.2f} better, paired"
        lines.append(f"| {name} | {row['mean']:.2f} ± {row['se']:.2f} | {gain} |")
    return "\n".join([*lines, ""])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = jensen.fit("digits", out=Path(folder) / "digits")
        environment = json.loads((run.path / "environment.json").read_text())
        picture(run.model, DOCS / "digits.png")
        (DOCS / "digits.md").write_text(page(run.result, environment), encoding="utf-8")
    print(f"wrote {DOCS / 'digits.png'} and {DOCS / 'digits.md'}")


if __name__ == "__main__":
    main()
