"""Sentences of Common Voice: a language model, the same network with latents, and what keeps these from collapsing.

Each model is fitted to the same rows with the same networks, and scored on the same test rows; differences to the
language model are paired over them. Then both models as `jensen fit` makes them, for several seeds, which also decide
the split.

References: Bowman et al. (2016), Generating sentences from a continuous space. He et al. (2019), Lagging inference
networks and posterior collapse in variational autoencoders. Li et al. (2019), A surprisingly effective fix for deep
latent variable modeling of text. Dieng et al. (2019), Avoiding latent variable collapse with generative skip models.

Run with: python -m benchmarks.sentences, or with --quick for a short look that records nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import jensen
import jensen.run
from benchmarks.record import ROOT, record, table, write_table
from benchmarks.side_by_side import side_by_side
from jensen.data import open_source
from jensen.files import read_json, read_tensors
from jensen.noise import mix
from jensen.numbers import mean_and_se

DATA = "common-voice-en-sentences"
NETWORK: dict[str, Any] = {
    "vocabulary": 2000,
    "embedding": 128,
    "units": 64,
    "dropout": 0.4,
    "batch_size": 128,
    "epochs": 40.0,
}
QUICK: dict[str, Any] = {"vocabulary": 300, "embedding": 16, "units": 32, "batch_size": 64, "epochs": 2.0}
BASELINE = "language model"
DEFAULTS = {BASELINE: "language-model", "sentence-vae": "sentence-vae"}
_VAE: dict[str, Any] = {"model": "sentence-vae", "latents": 8, "kl_warmup": 0, "free_bits_total": 0.0, "skip": False}
_SKIP: dict[str, Any] = {**_VAE, "skip": True, "free_bits_total": 2.3}
MODELS: dict[str, dict[str, Any]] = {
    BASELINE: {"model": "language-model"},
    "no cure": _VAE,
    "annealing and word dropout": {**_VAE, "kl_warmup": 1500, "annealing": "sigmoid", "word_dropout": 0.25},
    "2.3 free nats": {**_VAE, "free_bits_total": 2.3},
    "2.3 free nats, z skips": _SKIP,
    "2.3 free nats, z skips, annealing": {**_SKIP, "kl_warmup": 1500},
    "2.3 free nats, z skips, aggressive": {**_SKIP, "aggressive": 1000},
}
_LITTLE: dict[str, Any] = {"aggressive": 5, "kl_warmup": 5}
_HEADER = ["model", "−log p(x), nats", "perplexity", "gain, nats", "KL, nats", "active", "s"]
PAIRS = (
    ("He tried the latch.", "I was talking about you, Emily."),
    ("What do you want?", "The boy went back to the city."),
    ("She was very happy.", "There was nothing else to do."),
)
_ABOUT = """
Rows are {rows:,} sentences of Common Voice (CC0), shuffled and split by content 80/10/10, as words of a vocabulary of
at most {vocabulary:,}; the networks are LSTMs of {units} units. The log p(x) of a language model is exact; of the
others the table has the importance-weighted bound (K = {samples}), which can only make them look worse. Gains are over
the language model, paired over the test rows. Where the KL is near zero the posterior has collapsed, and z says
nothing about x. Without a cure `jensen check` says: "{verdict}"
"""
_ABOUT_DEFAULTS = """
The same rows, fitted by `jensen fit sentences.txt --model NAME --seed SEED` with no other option (but K = {samples}):
the vocabulary holds what occurs twice or more. Numbers compare within a seed, which also decides the split.
"""


def sentences(count: int, seed: int) -> list[str]:
    """The sentences of the data in an order of their own, since the file is alphabetical."""
    found = open_source(DATA).rows
    order = np.random.default_rng(mix(seed, "sentences") % 2**32).permutation(len(found))
    return [str(found[i]) for i in order[:count]]


def measure(name: str, path: Path, folder: Path, samples: int, options: dict[str, Any]) -> dict[str, Any]:
    """One fit, if there is none yet, its numbers, and what the model writes."""
    out = folder / name.replace(" ", "-")
    if not (out / "result.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        jensen.fit(path, out=out, samples=samples, **options)
    model = jensen.load(out)
    result: Any = read_json(out / "result.json")
    found = {
        "name": name,
        "options": options,
        "steps": result["steps"],
        "seconds": result["seconds"],
        "log_likelihood": result["test"]["log_likelihood"],
        "elbo": result["test"].get("elbo"),
        "perplexity": result["test"]["perplexity"],
        "kl": result["kl"],
        "active": result["active_latents"],
        "baselines": result["baselines"],
        "samples": model.sample(8, seed=0),
        "scores": read_tensors(out / "scores.safetensors")["log_likelihood"],
    }
    if model.vae.latent_size:
        rows = jensen.run.reopen(out).user_rows("test")
        page = jensen.check(model, rows, rows=100, samples=100, parts=("use",))
        found["faults"] = [str(finding) for finding in page.findings if finding.kind == "fault"]
        found["interpolations"] = [model.interpolate(a, b, steps=6) for a, b in PAIRS]
        found["reconstructions"] = list(zip(rows[:6].tolist(), model.reconstruct(rows[:6].tolist()), strict=True))
    return found


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their differences to the language model, paired over the test rows."""
    own = next(row["scores"] for row in rows if row["options"]["model"] == "language-model")
    return [
        {**{key: row[key] for key in row if key != "scores"}, "difference": mean_and_se(row["scores"] - own)}
        for row in rows
    ]


def by_seed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each compared with the language model of its seed."""
    seeds = dict.fromkeys(row["options"]["seed"] for row in rows)
    return [found for seed in seeds for found in compared([row for row in rows if row["options"]["seed"] == seed])]


def better(row: dict[str, Any]) -> bool:
    """Whether z is in use and the model beats the language model by two standard errors."""
    return row["kl"] is not None and row["kl"] > 2 and row["difference"][0] > 2 * row["difference"][1]


def shape(rows: list[dict[str, Any]], defaults: list[dict[str, Any]]) -> dict[str, bool]:
    """Whether the tables have the shape that the papers report."""
    by = {row["name"]: row for row in rows}
    cured = [row for row in rows if row["name"] != "no cure"]
    return {
        "without a cure the KL vanishes": by["no cure"]["kl"] < 0.1,
        "the collapse is diagnosed": any("ignores z" in text for text in by["no cure"]["faults"]),
        "with one the KL is above 2 nats": any(row["kl"] is not None and row["kl"] > 2 for row in cured),
        "and the small model is better than the language model": any(better(row) for row in cured),
        "so is the one without options, for each seed": all(better(row) for row in defaults if row["kl"] is not None),
    }


def cells(row: dict[str, Any]) -> list[str]:
    """One row of the table."""
    number, (difference, error) = row["log_likelihood"], row["difference"]
    sign = "=" if number["kind"] == "exact" else "≤"
    return [
        row["name"],
        f"{sign} {-number['mean']:.2f} ± {number['se']:.2f}",
        f"{sign} {row['perplexity']:.1f}",
        "–" if row["options"]["model"] == "language-model" else f"{difference:+.2f} ± {error:.2f}",
        "–" if row["kl"] is None else f"{row['kl']:.2f}",
        "–" if row["active"] is None else str(row["active"]),
        f"{row['seconds']:.0f}",
    ]


def write_docs(result: dict[str, Any]) -> None:
    """Writes docs/sentences.md: the tables, then what the models write."""
    rows = result["rows"]
    verdict = next((text for row in rows if row["name"] == "no cure" for text in row["faults"]), "no fault found")
    lines = [cells(row) for row in rows]
    for name, found in rows[0]["baselines"].items():
        number, gain = f"= {-found['mean']:.2f} ± {found['se']:.2f}", -found["difference"]
        lines.append([name, number, "–", f"{gain:+.2f} ± {found['difference_se']:.2f}", "–", "–", "–"])
    about = _ABOUT.format(rows=result["count"], samples=result["samples"], verdict=verdict, **result["network"]).strip()
    write_table("sentences", "Sentences", about, _HEADER, lines, "python -m benchmarks.sentences")
    path = ROOT / "docs" / "sentences.md"
    path.write_text(path.read_text(encoding="utf-8") + defaults(result) + written(result), encoding="utf-8")


def defaults(result: dict[str, Any]) -> str:
    """The table of the models as they are without options, and which claims hold, as Markdown."""
    lines = ["", "## With no options", "", _ABOUT_DEFAULTS.format(samples=result["samples"]).strip(), ""]
    lines += table(_HEADER, [cells(row) for row in result["defaults"]])
    claims = "; ".join(f"{a}: {'yes' if b else 'no'}" for a, b in result["shape"].items())
    return "\n".join([*lines, "", f"What the papers report: {claims}.", ""])


def written(result: dict[str, Any]) -> str:
    """What the models write, as Markdown."""
    lines: list[str] = []
    for row in [*result["rows"], *result["defaults"]]:
        lines += ["", f"## {row['name'].capitalize()}", "", "Drawn from the model:", ""]
        lines += [f"- {text}" for text in row["samples"]]
        if "interpolations" in row:
            lines += ["", "Between two sentences, greedily decoded on the straight line between their codes:", ""]
            for (first, second), between in zip(PAIRS, row["interpolations"], strict=True):
                lines += [f"*{first}*", "", *[f"- {text}" for text in between], "", f"*{second}*", ""]
    return "\n".join(lines) + "\n"


def jobs(count: int, folder: Path, samples: int, arguments: argparse.Namespace) -> list[tuple[Any, ...]]:
    """What is fitted: the models of one small network, then those without options."""
    path = folder / f"common-voice-{count}.txt"
    path.write_text("\n".join(sentences(count, arguments.seed)), encoding="utf-8")
    found = []
    for title, options in MODELS.items():
        every = {**(QUICK if arguments.quick else NETWORK), **options, "seed": arguments.seed}
        if arguments.quick:
            every |= {name: value for name, value in _LITTLE.items() if options.get(name)}
            every |= {"free_bits_total": 0.05} if options.get("free_bits_total") else {}
        found.append((title, path, folder, samples, every))
    for seed in range(1 if arguments.quick else arguments.seeds):
        for title, model in DEFAULTS.items():
            every = {**(QUICK if arguments.quick else {}), "model": model, "seed": seed}
            found.append((f"{title}, seed {seed}", path, folder, samples, every))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short look that records nothing")
    parser.add_argument("--rows", type=int, default=15_000, help="how many sentences")
    parser.add_argument("--samples", type=int, default=500, help="K of the bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=2, help="how many fits of each model without options")
    parser.add_argument("--processes", type=int, default=2, help="how many models are fitted at a time")
    parser.add_argument("--folder", help="where runs are kept, so that finished ones are not fitted again")
    arguments = parser.parse_args()
    count, samples = (600, 4) if arguments.quick else (arguments.rows, arguments.samples)
    network = QUICK if arguments.quick else NETWORK
    kept = contextlib.nullcontext(arguments.folder) if arguments.folder else tempfile.TemporaryDirectory()
    with kept as name:
        Path(name).mkdir(parents=True, exist_ok=True)
        found = []
        for row in side_by_side(measure, jobs(count, Path(name), samples, arguments), arguments.processes):
            print(row["name"], row["log_likelihood"]["mean"], row["kl"], row["seconds"], flush=True)
            found.append(row)
    rows, own = compared(found[: len(MODELS)]), by_seed(found[len(MODELS) :])
    result = {"count": count, "samples": samples, "network": network, "rows": rows, "defaults": own}
    result["shape"] = shape(rows, own)
    if arguments.quick:
        print(defaults(result), written(result))
        return
    record("sentences", result)
    write_docs(result)


if __name__ == "__main__":
    main()
