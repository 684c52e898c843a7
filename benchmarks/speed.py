"""How fast jensen trains and scores, beside a plain loop, other libraries and the matrix products alone.

All contenders train the same model on the same rows, each in a process of its own, one epoch of each after the other
in one run; what they learned is scored by one evaluator. Writes benchmarks/results/speed.json and docs/speed.md.

Run with: python -m benchmarks.speed [--quick] [--without-peers] [--without-compiled] [--parts dense conv scoring]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jensen.data import open_source, prepare
from jensen.errors import JensenError
from jensen.evaluation import CHUNK_ROWS
from jensen.hardware import can_compile

from . import speed_bounds
from .contenders import CONTENDERS
from .contenders.job import Job
from .machine import machine
from .race import ROOT, Runner, Track, race
from .speed_page import write

PEERS = ROOT / "benchmarks" / ".venv-peers" / "bin" / "python"
PRODUCTS = ["products-fp32", "products-onednn", "products-bf16"]
SEVERAL_SEEDS = ["jensen-bf16", "plain"]
CONV = ["conv-jensen-fp32", "conv-jensen-bf16", "conv-jensen-bf16-compiled", "conv-plain"]
PARTS = ["dense", "conv", "scoring"]
SCORING = ["bound-jensen", "bound-jensen-bf16", "bound-products", "bound-pythae"]
ROUNDED = "jensen-bf16-compiled"


@dataclass(frozen=True)
class Size:
    """How much is measured: epochs after the first, rows, seeds, and samples of bounds."""

    epochs: int
    rows: int
    test_rows: int
    seeds: int
    samples: int
    conv_rows: int
    conv_epochs: int
    scoring_rows: int
    scoring_samples: int
    growth: tuple[int, ...]
    rounds: int


FULL = Size(
    epochs=20,
    rows=10**9,
    test_rows=10_000,
    seeds=3,
    samples=100,
    conv_rows=3840,
    conv_epochs=6,
    scoring_rows=CHUNK_ROWS,
    scoring_samples=5000,
    growth=(1000, 100_000),
    rounds=3,
)
QUICK = replace(
    FULL,
    epochs=3,
    rows=4096,
    test_rows=256,
    seeds=2,
    samples=8,
    conv_rows=1280,
    conv_epochs=2,
    scoring_samples=200,
    growth=(100, 200),
    rounds=2,
)


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return dict.fromkeys(("median", "q1", "q3"), values[0])
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "q1": q1, "q3": q3}


def rates(runner: Runner) -> list[float]:
    """Examples per second of each turn after the first, which warms up."""
    return [turn["examples"] / turn["seconds"] for turn in runner.turns[1:]]


def summary(runner: Runner, examples: int) -> dict[str, Any]:
    """What was measured of a contender; ``examples`` make an epoch."""
    rate = rates(runner)
    first = runner.turns[0]
    epoch = [examples / value for value in rate]
    return {
        "label": CONTENDERS[runner.name].label,
        "examples_per_second": quartiles(rate),
        "epoch_seconds": quartiles(epoch),
        "rounds": len(rate),
        "start_seconds": runner.ready["seconds"],
        "first_turn_extra_seconds": max(0.0, first["seconds"] - first["examples"] / quartiles(rate)["median"]),
        "peak_bytes": runner.turns[-1]["peak_bytes"],
        "training_loss": runner.turns[-1]["loss"],
        "versions": runner.ready["versions"],
        "rates": rate,
    }


def ratios(runners: Mapping[str, Runner], name: str) -> dict[str, dict[str, float]]:
    """How many times faster one contender is than each, of the ratios round by round."""
    own = rates(runners[name])
    return {
        other: quartiles([a / b for a, b in zip(own, rates(runner), strict=True)])
        for other, runner in runners.items()
        if other != name
    }


def table(runners: Mapping[str, Runner], examples: int, of: Sequence[str]) -> dict[str, Any]:
    """The summaries of all, and the ratios of some to all."""
    return {
        "contenders": {name: summary(runner, examples) for name, runner in runners.items()},
        "ratios": {name: ratios(runners, name) for name in of if name in runners},
    }


@dataclass
class Bench:
    """One run of the benchmark.

    Arguments:
        size: How much is measured.
        track: Where contenders run.
        seed: The first seed.
        activation: What the units of the dense networks do.
        compiled: Whether compiled training is measured too.
    """

    size: Size
    track: Track
    seed: int
    activation: str
    compiled: bool

    def __post_init__(self) -> None:
        self.failures: dict[str, str] = {}

    def _save_rows(self, name: str, rows: Tensor) -> str:
        path = self.track.folder / f"{name}.npy"
        np.save(path, rows.numpy())
        return str(path)

    def _job(self, rows: str, turns: int) -> Job:
        return Job(rows, turns, self.track.threads, self.seed, activation=self.activation)

    def _entrants(self, names: Sequence[str]) -> list[str]:
        chosen = [name for name in names if self.compiled or "compiled" not in name]
        return [name for name in chosen if self.track.peers or not CONTENDERS[name].peer]

    def _race(self, names: Sequence[str], job: Job) -> dict[str, Runner]:
        return race(dict.fromkeys(self._entrants(names), job), self.track, self.failures)

    def dense(self) -> dict[str, Any]:
        """The dense model: speed in turns, then bounds, with more seeds for some."""
        splits = prepare(open_source("mnist"), binarisation="static")
        train, test = splits.frozen("train").flatten(1), splits.frozen("test").flatten(1)[: self.size.test_rows]
        job = self._job("", self.size.epochs)
        train = train[: min(self.size.rows, len(train)) // job.batch * job.batch]
        job = replace(job, rows=self._save_rows("mnist", train))
        names = [name for name in CONTENDERS if not name.startswith(("conv", "bound", "memory"))]
        runners = self._race(names, job)
        trained = [name for name in runners if name not in PRODUCTS]
        files = {(name, self.seed): self._finish(runners[name]) for name in trained}
        for name in PRODUCTS:
            if name in runners:
                runners[name].close()
        files |= self._more_seeds(job, [name for name in SEVERAL_SEEDS if name in runners])
        result = table(runners, len(train), ["jensen-fp32", "jensen-bf16", "jensen-bf16-compiled"])
        result |= {"rows": len(train), "batch": job.batch, "epochs": self.size.epochs, "protocol": splits.protocol}
        result["bounds"] = self._bounds(files, test)
        if (ROUNDED, self.seed) in files:
            path = files[ROUNDED, self.seed]
            result["rounding"] = speed_bounds.rounding(path, test, self.activation, self.size.samples)
        return result

    def _finish(self, runner: Runner) -> Path:
        path = runner.save(self.track.folder / f"{runner.name}-{runner.job.seed}.npz")
        runner.close()
        return path

    def _more_seeds(self, job: Job, names: Sequence[str]) -> dict[tuple[str, int], Path]:
        files: dict[tuple[str, int], Path] = {}
        for seed in range(self.seed + 1, self.seed + self.size.seeds):
            runners = self._race(names, replace(job, seed=seed))
            files |= {(name, seed): self._finish(runner) for name, runner in runners.items()}
        return files

    def _bounds(self, files: Mapping[tuple[str, int], Path], test: Tensor) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for (name, seed), path in files.items():
            try:
                scores = speed_bounds.measure(path, test, self.activation, self.size.samples)
            except JensenError as error:
                self.failures[f"the bound of {name}, seed {seed}"] = str(error)
                continue
            print(f"{name}, seed {seed}: ELBO {scores['elbo']:.2f}, bound {scores['bound']:.2f}", flush=True)
            found.setdefault(name, []).append({"seed": seed, **scores})
        return found

    def conv(self) -> dict[str, Any]:
        """The convolutional model."""
        rows = prepare(open_source("cifar10")).frozen("train")[: self.size.conv_rows]
        job = self._job(self._save_rows("cifar10", rows), 1 + self.size.conv_epochs)
        runners = self._race(CONV, job)
        for runner in runners.values():
            runner.close()
        return {**table(runners, len(rows), CONV[:3]), "rows": len(rows), "batch": job.batch}

    def scoring(self) -> dict[str, Any]:
        """Bounds on log p(x): how many samples of rows a second, and how much memory they need."""
        splits = prepare(open_source("mnist"), binarisation="static")
        rows = splits.frozen("test").flatten(1)[: self.size.scoring_rows]
        job = self._job(self._save_rows("scored", rows), 1 + self.size.rounds)
        job = replace(job, samples=self.size.scoring_samples)
        runners = self._race(SCORING, job)
        for runner in runners.values():
            runner.close()
        result = table(runners, job.samples * len(rows), SCORING[:2])
        growth = replace(job, turns=len(self.size.growth), growth=self.size.growth)
        watched = self._race(["memory-jensen"], growth)
        return {**result, "rows": len(rows), "samples": job.samples, "few": job.few, "memory": _memory(watched, growth)}


def _memory(runners: Mapping[str, Runner], job: Job) -> list[dict[str, Any]]:
    """Peak memory before the first bound, and after each number of samples."""
    found = []
    for runner in runners.values():
        runner.close()
        found.append({"k": 0, "seconds": None, "peak_bytes": runner.ready["peak_bytes"]})
        for k, turn in zip(job.growth, runner.turns, strict=True):
            found.append({"k": k, "seconds": turn["seconds"], "peak_bytes": turn["peak_bytes"]})
    return found


def _peers(*, wanted: bool) -> Path | None:
    if wanted and not PEERS.exists():
        print("pythae, Pyro and NumPyro are left out; `make bench-peers` installs them.", flush=True)
    return PEERS if wanted and PEERS.exists() else None


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the benchmark."""
    size = QUICK if arguments.quick else FULL
    size = replace(size, epochs=arguments.epochs or size.epochs, seeds=arguments.seeds or size.seeds)
    torch.set_num_threads(arguments.threads)
    started, load = time.time(), os.getloadavg()
    compiled = not arguments.without_compiled and can_compile(torch.device("cpu"))
    result: dict[str, Any] = {**machine(), "threads": arguments.threads, "quick": arguments.quick}
    with tempfile.TemporaryDirectory() as folder:
        track = Track(Path(folder), arguments.threads, _peers(wanted=not arguments.without_peers))
        bench = Bench(size, track, arguments.seed, arguments.activation, compiled)
        for part in arguments.parts:
            result[part] = getattr(bench, part)()
    load_after = os.getloadavg()
    return {
        **result,
        "activation": arguments.activation,
        "seeds": list(range(arguments.seed, arguments.seed + size.seeds)),
        "left_out": bench.failures,
        "minutes": (time.time() - started) / 60,
        "load_average": {"before": load[0], "after": load_after[0]},
    }


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="epochs of training, of which the first one warms up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, help="seeds of the bounds of some contenders")
    parser.add_argument("--activation", choices=["silu", "relu"], default="silu")
    parser.add_argument(
        "--parts", nargs="+", choices=["dense", "conv", "scoring"], default=["dense", "conv", "scoring"]
    )
    parser.add_argument("--quick", action="store_true", help="a small run that shows that all works; writes nothing")
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--without-compiled", action="store_true")
    return parser.parse_args(words)


def main() -> None:
    arguments = parse()
    result = measure(arguments)
    write(result, keep=not arguments.quick)


if __name__ == "__main__":
    main()
