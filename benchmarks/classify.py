"""What an autoencoder's weights are worth to a classifier with few labels, beside the same network from scratch.

References: Hinton, Salakhutdinov (2006), Reducing the dimensionality of data with neural networks.

Run with: python -m benchmarks.classify [digits mnist], or with --quick for fewer steps and labels, recording nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import jensen
from benchmarks.record import record, recorded, write_table
from jensen.run.classify import classify_run


def measure(data: str, model: str, options: argparse.Namespace) -> dict[str, Any]:
    """One fit, and classifiers that start with its encoder."""
    with tempfile.TemporaryDirectory() as folder:
        own: dict[str, Any] = {} if model == "autoencoder" else {"samples": 10}
        length: dict[str, Any] = {"steps": options.fit_steps} if options.fit_steps else {}
        run = jensen.fit(data, model=model, out=Path(folder) / "run", binarisation="none", **own, **length)
        _, document = classify_run(run.path, labels=options.labels, seeds=options.seeds, steps=options.steps)
    few = [trial for trial in document["trials"] if trial["labels"] == min(t["labels"] for t in document["trials"])]
    best = max((trial for trial in few if trial["gain"] is not None), key=lambda trial: trial["gain"])
    checks = {"beats scratch by two errors": best["gain"] > 2 * (best["gain_se"] or 0)}
    found = {key: document[key] for key in ("protocol", "n_test", "seeds", "steps", "trials")}
    return {"data": data, "model": model, "fit_steps": run.step, **found, "checks": checks}


def cells(row: dict[str, Any]) -> list[list[str]]:
    """A line of the table for each number of labels and start."""
    lines = []
    for trial in row["trials"]:
        accuracy = f"{trial['mean']:.2%} ± {trial['se'] or 0:.2%}"
        gain = "" if trial["gain"] is None else f"{trial['gain']:+.2%} ± {trial['gain_se'] or 0:.2%}"
        name = f"{row['model']}, {row['fit_steps']:,} steps"
        lines.append([row["data"], name, str(trial["labels"]), trial["start"], accuracy, gain])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", default=["digits", "mnist"])
    parser.add_argument("--models", nargs="*", default=["autoencoder", "vae"])
    parser.add_argument("--labels", type=int, nargs="*", default=None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--fit-steps", type=int, default=None, help="of each model; by default its own")
    parser.add_argument("--quick", action="store_true", help="1000 steps, 100 labels; nothing is recorded")
    options = parser.parse_args()
    if options.quick:
        options.labels, options.steps, options.fit_steps, options.models = [100], 300, 1000, ["autoencoder"]
    rows = []
    for data in options.data:
        for model in options.models:
            rows.append(measure(data, model, options))
            for line in cells(rows[-1]):
                print(" | ".join(line), flush=True)
            print(rows[-1]["checks"], flush=True)
    if options.quick:
        return
    kept = [row for row in recorded("classify").get("rows", []) if row["data"] not in options.data]
    rows = kept + rows
    record("classify", {"rows": rows})
    write(rows)


def write(rows: list[dict[str, Any]]) -> None:
    header = ["data", "encoder of", "labels", "start", "test accuracy", "gain over scratch"]
    about = (
        f"Accuracy on all test rows, mean ± standard error over {rows[0]['seeds']} seeds, each with its own balanced "
        "labelled rows; gains are paired over seeds. All classifiers are one network: the encoder up to its last "
        "hidden layer and a linear map. Nothing is tuned by further labels."
    )
    table = [line for row in rows for line in cells(row)]
    write_table("classify", "Labels that an encoder saves", about, header, table, "python -m benchmarks.classify")


if __name__ == "__main__":
    main()
