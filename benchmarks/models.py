"""Fits every model of the zoo to data that it suits, for the same time, and writes its page: docs/models/NAME.md.

Models of images get the named data, models of sentences those of Common Voice. What was fitted for the same data and
time before is not fitted again, unless it is named.

Run with: python -m benchmarks.models [--data digits] [--time-budget 60] [--text-budget 300] [--only NAME ...] [--pages]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import jensen
from benchmarks import sentences
from benchmarks.model_pages import write_pages
from benchmarks.model_text import FEW, FEW_ROWS, is_text
from benchmarks.record import ROOT, hardware, record, recorded
from jensen import diagnose, pictures, zoo
from jensen.cli.use import limits_of
from jensen.data import open_source
from jensen.run import describe_data, reopen
from jensen.run.observe import Log

COUNT, SENTENCES = 8000, "sentences"
SHOWN = 8
PICTURES = ROOT / "docs" / "pictures" / "models"
Extra = Callable[[jensen.Run, Path, dict[str, Any]], list[list[str]]]


class Kept(Log):
    """An observer that keeps what a fit found and chose."""

    def __init__(self) -> None:
        self.data, self.choices, self.parameters = "", list[list[str]](), 0

    def found(self, splits: Any) -> None:
        self.data = describe_data(splits)

    def chose(self, choices: list[Any], parameters: int) -> None:
        self.choices = [[choice.what, choice.value, choice.reason, choice.option] for choice in choices]
        self.parameters = parameters


def data_for(name: str, data: str, folder: Path) -> tuple[str, str]:
    """What a model is fitted to, and what that is called."""
    if is_text(name):
        path = folder / f"common-voice-{COUNT}.txt"
        path.write_text("\n".join(sentences.sentences(COUNT, 0)), encoding="utf-8")
        return str(path), f"{COUNT:,} sentences of Common Voice"
    if name == "bayesian-decoder":
        rows = open_source(data).rows
        path = folder / f"{data}-{FEW_ROWS}.npy"
        np.save(path, rows[np.random.default_rng(0).permutation(len(rows))[:FEW_ROWS]])
        return str(path), f"{FEW} rows of {data}"
    return data, data


def measure(name: str, asked: str, time_budget: float | None, folder: Path, seed: int = 0) -> dict[str, Any]:
    """One fit: its numbers, what it chose, what it writes, and its pictures in the docs."""
    data, called = data_for(name, asked, folder)
    kept = Kept()
    options: dict[str, Any] = {"time_budget": time_budget, "seed": seed}
    run = jensen.fit(data, model=name, out=folder / name, observer=kept, **options)
    result = run.result
    row: dict[str, Any] = {"model": name, "asked": asked, "data": called, "time_budget": time_budget, "seed": seed}
    row |= {"machine": hardware(), "found": kept.data, "choices": kept.choices, "parameters": kept.parameters}
    row |= {key: result.get(key) for key in ("steps", "best_step", "seconds", "test", "kl", "baselines", "accuracy")}
    row |= {"active": result["active_latents"], "given": "given" in result["data"]}
    PICTURES.mkdir(parents=True, exist_ok=True)
    start = PICTURES / f"{name}-{asked}"
    row["texts"] = written(run) if is_text(name) else []
    row["pictures"] = [] if is_text(name) else common(run, start)
    for extra in EXTRAS.get(name, ()):
        row["pictures"] += extra(run, start, {"data": data, **options})
    return row


def written(run: jensen.Run) -> list[list[Any]]:
    """What a model of sentences writes."""
    model = run.model
    found: list[list[Any]] = [["Drawn from the model", model.sample(SHOWN, seed=0)]]
    if model.vae.latent_size:
        rows = reopen(run.path).user_rows("test")[:SHOWN].tolist()
        again = model.reconstruct(rows)
        pairs = [f"{a} → {b}" for a, b in zip(rows, again, strict=True)]
        found.append(["Test rows, and the greedy sentences at their codes", pairs])
        for first, second in sentences.PAIRS:
            between = model.interpolate(first, second, steps=6)
            found.append([f"From “{first}” to “{second}”, on the straight line between their codes", between])
    return found


def common(run: jensen.Run, start: Path) -> list[list[str]]:
    """The pictures that every fit makes."""
    found, latents = [], run.model.vae.latent_size
    for kind, caption in (
        ("samples", "Means of p(x|z) for z drawn from the prior" if latents else "Drawn from the model"),
        ("reconstructions", "Test rows and their reconstructions"),
    ):
        if (run.path / f"{kind}.png").exists():
            found.append(_copied(run, start, kind, caption))
    return found


def _copied(run: jensen.Run, start: Path, kind: str, caption: str) -> list[str]:
    """A picture of the run's folder among those of the pages, and what it shows."""
    found = _placed(start, kind, caption)
    shutil.copyfile(run.path / f"{kind}.png", PICTURES / found[0])
    return found


def _placed(start: Path, kind: str, caption: str) -> list[str]:
    """The name of a picture's file, and what it shows."""
    return [f"{start.name}-{kind}.png", caption]


def traversals(run: jensen.Run, start: Path, _: dict[str, Any]) -> list[list[str]]:
    """What each latent does to a test row."""
    model, rows = run.model, reopen(run.path).user_rows("test")
    walk = jensen.traverse(model, rows)
    found = _placed(start, "traversals", "One latent at a time from 1 % to 99 % of its prior, from a test row")
    names = [f"latent {number}" for number in walk.latents]
    pictures.traversals(PICTURES / found[0], walk.rows, names, "mean of p(x|z)", limits_of(model, walk.rows))
    return [found]


def two_latents(run: jensen.Run, start: Path, options: dict[str, Any]) -> list[list[str]]:
    """A second fit, with two latents, and the map of them."""
    again = jensen.fit(out=run.path.parent / "two", latents=2, **options)
    model, splits = again.model, reopen(again.path)
    chart = jensen.latent_map(model, splits.user_rows("test"))
    number = again.result["test"]["log_likelihood"]
    caption = f"A second fit, with `--latents 2`: log p(x) ≥ {number['mean']:.2f} ± {number['se']:.2f} nats/example"
    found = _placed(start, "map", caption)
    labels = splits.labels["test"].tolist() if splits.labels else None
    limits = limits_of(model, chart.rows)
    title = f"{len(chart.codes)} test rows in the space of two latents"
    pictures.latent_map(PICTURES / found[0], chart, title, limits, labels, splits.label_names)
    return [found]


def features(run: jensen.Run, start: Path, _: dict[str, Any]) -> list[list[str]]:
    """The dictionary of an Indian buffet, and how often each of its features is on."""
    found = diagnose.feature_frequencies(run.model.vae, reopen(run.path).frozen("test"))
    counted = f"{found.used} tell rows apart, {found.inside:.0%} in the band"
    captions = {
        "dictionary": "What each feature adds to the mean of p(x|z); grey is nothing",
        "frequencies": f"How often each feature is on, over test rows; {counted}",
    }
    return [_copied(run, start, kind, caption) for kind, caption in captions.items()]


def pieces(run: jensen.Run, start: Path, _: dict[str, Any]) -> list[list[str]]:
    """How long the pieces of the stick are, beside what the prior expects."""
    model = run.model
    prior = model.vae.prior
    codes = torch.as_tensor(model.embed(reopen(run.path).user_rows("test")))
    expected = prior.unpack(prior().mean)
    found = _placed(
        start, "pieces", "The mean length of each piece over test rows, at the posterior means; the last is the rest"
    )
    pictures.shares(PICTURES / found[0], prior.unpack(codes).mean(0).numpy(), expected.numpy(), "pieces of the stick")
    return [found]


EXTRAS: dict[str, tuple[Extra, ...]] = {
    "vae": (traversals, two_latents),
    "beta-vae": (traversals,),
    "beta-tcvae": (traversals,),
    "ibp-vae": (features,),
    "stick-breaking-vae": (pieces,),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="digits", help="images, such as digits or mnist")
    parser.add_argument("--time-budget", type=float, default=60.0, help="seconds of training for each; 0 for its own")
    parser.add_argument("--text-budget", type=float, default=300.0, help="the same for models of sentences")
    parser.add_argument("--only", nargs="*", default=None, metavar="NAME", help="fit these, again if need be")
    parser.add_argument("--pages", action="store_true", help="fit nothing; write the pages from what is recorded")
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = recorded("models").get("fits", {})
    for name in [] if options.pages else options.only or list(zoo.MODELS):
        data = SENTENCES if is_text(name) else options.data
        budget = (options.text_budget if is_text(name) else options.time_budget) or None
        key = f"{name}/{data}"
        if options.only is None and key in found and found[key]["time_budget"] == budget:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found[key] = measure(name, data, budget, Path(folder))
        record("models", {"fits": found})  # after each, so that nothing is lost
        print(key, found[key]["test"], f"{found[key]['seconds']:.0f} s", flush=True)
    write_pages(found, ROOT / "docs")


if __name__ == "__main__":
    main()
