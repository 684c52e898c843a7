"""An autoregressive model beside a VAE on static MNIST, each with the same time to train.

Both are fitted by one command with the same time budget, at the same time, each in a process with one thread. The
log-likelihood of pixelcnn is exact; that of vae is the importance-weighted bound. Beside them stands what was
published.

Run with: python -m benchmarks.pixelcnn [mnist-static] [--time-budget 3600] [--only pixelcnn vae] [--quick]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jensen
from benchmarks.record import ROOT, record, recorded, write_table
from benchmarks.side_by_side import side_by_side

MODELS: dict[str, dict[str, Any]] = {
    # Small batches: the time allows few epochs, and a convolution gains nothing from larger ones on a CPU. Few
    # validations, each of which takes as long as hundreds of steps.
    "pixelcnn": {"batch_size": 32, "average": 0.995, "validate_every": 4000},
    "vae": {"samples": 500},
    "pixelcnn rnn": {"batch_size": 32, "average": 0.995, "validate_every": 4000, "variant": "rnn"},
    "pixel-vae": {"batch_size": 32, "average": 0.995, "validate_every": 4000, "samples": 10},
}
PUBLISHED = [
    ("PixelCNN", "= -81.30", "Gulrajani et al. 2017"),
    ("Gated PixelCNN", "= -80.10", "Gulrajani et al. 2017"),
    ("PixelRNN", "= -79.20", "Gulrajani et al. 2017"),
    ("PixelVAE", "≥ -80.64", "Gulrajani et al. 2017"),
]


def measure(data: str, name: str, length: dict[str, Any], pictures: Path | None) -> dict[str, Any]:
    """One fit, and its samples as a picture in the docs, if there is a folder for it."""
    with tempfile.TemporaryDirectory() as folder:
        options = {**MODELS[name], **length}
        run = jensen.fit(data, model=name.split()[0], out=Path(folder) / "run", **options)
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.path / "samples.png", pictures / picture(name))
        test = run.result["test"]
        row = {"data": data, "model": name, "options": options, "steps": run.step, "seconds": run.result["seconds"]}
        return {**row, "log_likelihood": test["log_likelihood"], "kl": run.result["kl"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default="mnist-static")
    parser.add_argument("--time-budget", type=float, default=3600.0, help="seconds of training for each")
    parser.add_argument("--only", nargs="*", choices=list(MODELS), default=["pixelcnn", "vae"])
    parser.add_argument("--quick", action="store_true", help="digits, a few steps: whether the script runs")
    options = parser.parse_args()
    data = "digits" if options.quick else options.data
    length: dict[str, Any] = {"steps": 20} if options.quick else {"time_budget": options.time_budget}
    kept = [] if options.quick else recorded("pixelcnn").get("rows", [])
    rows = [row for row in kept if row["model"] not in options.only]
    pictures = None if options.quick else ROOT / "docs" / "pictures"
    for row in side_by_side(measure, [(data, name, length, pictures) for name in options.only]):
        rows.append(row)
        print(row, flush=True)
    found = {row["model"]: row["log_likelihood"]["mean"] for row in rows}
    if {"pixelcnn", "vae"} <= set(found):
        ahead = found["pixelcnn"] - found["vae"]
        print(f"pixelcnn is {ahead:.2f} nats {'ahead of' if ahead > 0 else 'BEHIND'} the vae's bound at equal time")
    if not options.quick:
        record("pixelcnn", {"rows": rows})
        write(rows)


def picture(name: str) -> str:
    """The file name of a model's samples."""
    return f"pixels-{name.replace(' ', '-')}.png"


def write(rows: list[dict[str, Any]]) -> None:
    signs = {"exact": "=", "lower": "≥"}
    table = [
        [
            row["model"],
            "{kind} {mean:.2f} ± {se:.2f}".format(
                **{**row["log_likelihood"], "kind": signs[row["log_likelihood"]["kind"]]}
            ),
            f"{row['steps']}",
            f"{row['seconds']:.0f}",
            "this run",
        ]
        for row in rows
    ]
    table += [[name, value, "–", "–", paper] for name, value, paper in PUBLISHED]
    header = ["model", "log p(x), nats", "steps", "seconds of training", "from"]
    about = (
        "Static MNIST, test rows, nats per example; models were trained at the same time, with one thread each. The "
        "log-likelihood of pixelcnn is exact (=), that of models with latents a bound (≥). Published rows trained for "
        "far longer."
    )
    about += "".join(f"\n\nDraws of {row['model']}:\n\n![draws](pictures/{picture(row['model'])})" for row in rows)
    write_table("pixelcnn", "Pixel by pixel beside a VAE", about, header, table, "python -m benchmarks.pixelcnn")


if __name__ == "__main__":
    main()
