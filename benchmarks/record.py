"""Results of benchmarks: what was measured, when, on what, with which versions; as JSON and as a table in the docs."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent


def hardware() -> dict[str, Any]:
    """The machine and the versions that a figure depends on."""
    found = [line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": str(datetime.date.today()),
        "commit": _commit(),
        "cpu": found[0] if found else platform.processor(),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "jensen": version("jensen"),
    }


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def record(name: str, result: dict[str, Any]) -> None:
    """Writes benchmarks/results/NAME.json."""
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    text = json.dumps({**hardware(), **result}, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def recorded(name: str) -> dict[str, Any]:
    """What benchmarks/results/NAME.json holds; empty where there is none."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def write_table(name: str, title: str, about: str, header: list[str], rows: list[list[str]], command: str) -> None:
    """Writes docs/NAME.md with one table."""
    lines = [f"# {title}", "", about, "", made_by(command, hardware()), "", *table(header, rows), ""]
    (ROOT / "docs" / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")


def made_by(command: str, machine: dict[str, Any]) -> str:
    """How, when and on what figures were measured, in one sentence."""
    return (
        f"Made by `{command}` on {machine['date']} at {machine['commit']}: {machine['gpu'] or machine['cpu']}, "
        f"{machine['threads']} threads, torch {machine['torch']}."
    )


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A table as lines of Markdown."""
    first, *others = (f"| {' | '.join(row)} |" for row in (header, *rows))
    return [first, "|" + "---|" * len(header), *others]
