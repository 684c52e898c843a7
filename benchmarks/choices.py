"""Measures what the defaults of ``jensen fit`` were chosen by: one change at a time against them.

Run with: python -m benchmarks.choices [mnist] [digits] [--epochs 20] [--samples 100]
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from torch import nn

import jensen
from benchmarks.record import record, recorded, write_table

VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "diagonal posterior": {"posterior": "diagonal"},
    "no warm-up of the KL": {"kl_warmup": 0},
    "20 latents": {"latents": 20},
    "50 latents": {"latents": 50},
    "gated networks": {"network": "gated"},
    "residual networks": {"network": "residual"},
    "batches of 128": {"batch_size": 128},
    "batches of 500": {"batch_size": 500},
    "learning rate halved": {"learning_rate": 0.5},
    "learning rate doubled": {"learning_rate": 2.0},
    "constant learning rate": {"constant_rate": True},
    "averaged weights": {"average": 0.999},
    "weight decay 0.01": {"weight_decay": 0.01},
    "initial weights of torch": {},
    "fp32": {"precision": "fp32"},
    "not compiled": {"compile": "off"},
}


def measure(data: str, name: str, epochs: float | None, samples: int) -> dict[str, Any]:
    """One fit with one change."""
    options = dict(VARIANTS[name])
    if "learning_rate" in options:
        options["learning_rate"] *= 2e-3 if data != "digits" else 1e-3
    torch_starts = mock.patch.object(import_module("jensen.nets.mlp"), "_started", nn.Linear)
    start = torch_starts if name == "initial weights of torch" else contextlib.nullcontext()
    with tempfile.TemporaryDirectory() as folder, start:
        run = jensen.fit(data, out=Path(folder) / "run", epochs=epochs, samples=samples, **options)
        test = run.result["test"]
        row = {"data": data, "change": name, "options": options, "steps": run.step, "seconds": run.result["seconds"]}
        return {**row, "elbo": test["elbo"], "log_likelihood": test["log_likelihood"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", default=["mnist", "digits"])
    parser.add_argument("--epochs", type=float, default=None, help="by default 20 for mnist, the default for digits")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS), help="some of the changes")
    options = parser.parse_args()
    rows = [row for row in recorded("choices").get("rows", []) if row["data"] not in options.data]
    for data in options.data:
        epochs = options.epochs or (None if data == "digits" else 20)
        for name in options.only:
            rows.append(measure(data, name, epochs, options.samples))
            print(rows[-1]["data"], name, rows[-1]["log_likelihood"]["mean"], rows[-1]["seconds"], flush=True)
    record("choices", {"rows": rows})
    table = [
        [
            row["data"],
            row["change"],
            str(row["steps"]),
            f"{row['seconds']:.0f}",
            *(f"{row[kind]['mean']:.2f} ± {row[kind]['se']:.2f}" for kind in ("elbo", "log_likelihood")),
            str(row["log_likelihood"]["k"]),
        ]
        for row in rows
    ]
    header = ["data", "change", "steps", "seconds", "ELBO", "log p(x) ≥", "K"]
    about = (
        "The defaults of `jensen fit`, and one change at a time against them: nats/example on test rows, one seed; ± "
        "is the standard error over rows, which pairs of fits share."
    )
    write_table("choices", "What the defaults were chosen by", about, header, table, "python -m benchmarks.choices")


if __name__ == "__main__":
    main()
