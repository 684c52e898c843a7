"""How long `jensen fit mnist` takes to a held-out bound, from the command to the validation that reaches it.

Adds a line to benchmarks/results/speedrun.json and makes docs/speedrun.md from it.

Run with: python -m benchmarks.speedrun --note "what changed" [--goal -90] [--unrecorded] [-- options of jensen fit]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .record import ROOT, hardware

RECORDS, PAGE = ROOT / "benchmarks" / "results" / "speedrun.json", ROOT / "docs" / "speedrun.md"
_LOOK_EVERY = 0.1  # seconds


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file with one object a line; none if it is not there yet."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def watch(command: Sequence[str], metrics: Path) -> tuple[dict[int, float], float]:
    """Runs a command: the seconds after which each step was reported, and those of the whole command."""
    arrived: dict[int, float] = {}
    size, started = 0, time.perf_counter()
    process = subprocess.Popen(command)
    while process.poll() is None:
        time.sleep(_LOOK_EVERY)
        now = metrics.stat().st_size if metrics.exists() else 0
        if now != size:
            size, seconds = now, time.perf_counter() - started
            arrived |= {line["step"]: seconds for line in lines_of(metrics) if line["step"] not in arrived}
    whole = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"jensen fit ended with code {process.returncode}.")
    return arrived, whole


def crossing(lines: Sequence[Mapping[str, Any]], goal: float) -> int | None:
    """The first step whose validation ELBO is at least the goal."""
    return next((line["step"] for line in lines if line["valid"]["elbo"] >= goal), None)


def measure(goal: float, options: Sequence[str]) -> dict[str, Any]:
    """Fits, and says when the goal was reached and what the test rows say in the end."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "jensen", "fit", "mnist", "--out", str(run), *options]
        arrived, whole = watch(command, run / "metrics.jsonl")
        step = crossing(lines_of(run / "metrics.jsonl"), goal)
        clock = {line["step"]: line["seconds"] for line in lines_of(run / "timing.jsonl")}
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    test = {name: {part: result["test"][name][part] for part in ("mean", "se", "k")} for name in _BOUNDS}
    return {
        "goal": goal,
        "step": step,
        "seconds": None if step is None else arrived.get(step, whole),
        "training_seconds": None if step is None else clock[step],
        "steps": result["steps"],
        "whole_seconds": whole,
        **test,
        "options": list(options),
    }


_BOUNDS = ("elbo", "log_likelihood")


def page(records: Sequence[Mapping[str, Any]]) -> str:
    """All records as a page, a table for each goal."""
    lines = [
        "# Speed run",
        "",
        "How long `jensen fit mnist` takes until the ELBO of the validation rows reaches a goal, on the clock from the "
        "start of the command, with start-up, compilation and validations; in brackets the time spent in steps of "
        "training. Then what the test rows say once the fit has ended, nats per example ± standard error. The fastest "
        "run on each machine is bold. Made by `python -m benchmarks.speedrun`.",
        "",
    ]
    for goal in sorted({record["goal"] for record in records}):
        lines += [f"## ELBO of {goal:g} nats", "", *_table([r for r in records if r["goal"] == goal]), ""]
    return "\n".join(lines)


def _table(records: Sequence[Mapping[str, Any]]) -> list[str]:
    header = ["date", "commit", "what changed", "s to the goal", "test ELBO", "log p(x) ≥", "s in all", "machine"]
    best: dict[str, float] = {}
    for record in records:
        if record["seconds"] is not None:
            best[_machine(record)] = min(record["seconds"], best.get(_machine(record), record["seconds"]))
    rows = [_row(record, best.get(_machine(record))) for record in records]
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *rows]


def _row(record: Mapping[str, Any], best: float | None) -> str:
    seconds = record["seconds"]
    if seconds is None:
        reached = "not reached"
    else:
        reached = f"{seconds:.1f} ({record['training_seconds']:.1f})"
        reached = f"**{reached}**" if seconds == best else reached
    bound = record["log_likelihood"]
    options = f" (`{' '.join(record['options'])}`)" if record["options"] else ""
    cells = [
        record["date"],
        record["commit"],
        record["note"].replace("|", "/") + options,
        reached,
        f"{record['elbo']['mean']:.2f} ± {record['elbo']['se']:.2f}",
        f"{bound['mean']:.2f} ± {bound['se']:.2f} (K = {bound['k']})",
        f"{record['whole_seconds']:.0f}",
        _machine(record),
    ]
    return "| " + " | ".join(cells) + " |"


def _machine(record: Mapping[str, Any]) -> str:
    return f"{record['gpu'] or record['cpu']}, {record['threads']} threads"


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; what stands after ``--`` is for jensen fit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--note", default="", help="what changed since the last record")
    parser.add_argument("--goal", type=float, default=-90.0, help="the ELBO of the validation rows, nats per example")
    parser.add_argument("--unrecorded", action="store_true", help="print the record, write nothing")
    parser.add_argument("options", nargs="*", help="options of jensen fit, after --")
    return parser.parse_args(words)


def main() -> None:
    arguments = parse()
    record = {**hardware(), "note": arguments.note, **measure(arguments.goal, arguments.options)}
    records = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else []
    records.append(record)
    text = page(records)
    print(text)
    if not arguments.unrecorded:
        RECORDS.parent.mkdir(exist_ok=True)
        RECORDS.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        PAGE.write_text(text, encoding="utf-8")
        print(f"wrote {RECORDS} and {PAGE}")


if __name__ == "__main__":
    main()
