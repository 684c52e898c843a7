"""Samples of vae, vq-vae and pixelcnn beside those of a generative adversarial network with the same time to train.

A classifier is trained first; in the features of its last hidden layer, draws of each contender are compared with the
test images. Images are compared as zeros and ones, which is what the models are models of; where there are grey levels
behind the zeros and ones, they are compared with grey test images too.

Each contender and seed is recorded when it is done, so that an interrupted run goes on where it was.

Run with: python -m benchmarks.gan [--seeds 0 1 2] [--time-budget 300] [--rows 10000] [--only gan vae] [--quick]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks import features, generator
from benchmarks.record import ROOT, record, recorded, write_table
from benchmarks.sample_quality import quality
from benchmarks.side_by_side import side_by_side
from jensen.data import Splits, open_source, prepare
from jensen.noise import mix, seeded
from jensen.run import fit

# Those of benchmarks.pixelcnn and benchmarks.vq: small batches, since the time allows few epochs.
MODELS: dict[str, dict[str, Any]] = {
    "vae": {"samples": 100},
    "vq-vae": {"batch_size": 100},
    "pixelcnn": {"batch_size": 32, "average": 0.995, "validate_every": 4000},
}
CONTENDERS = ("real", *MODELS, "gan")
SHOWN, CHUNK = 64, 250
TOGETHER = 2
"""How many are trained at a time, with one thread each."""


@dataclass(frozen=True)
class Drawn:
    """Images, shape (N, H, W): zeros and ones, and the grey levels behind them; None where there are none."""

    coins: Tensor
    grey: Tensor | None
    about: dict[str, Any]


@dataclass(frozen=True)
class Judge:
    """A classifier, the test images in its features, and real images that it has not seen either.

    Arguments:
        classifier: The classifier.
        test: The features of test images, as ``coins`` and as ``grey``.
        held: Grey training images that were kept from it.
        accuracy: The share of test images whose class it finds, likewise.
    """

    classifier: features.Classifier
    test: dict[str, Any]
    held: Tensor
    accuracy: dict[str, float]

    def score(self, x: Tensor, kind: str, seed: int) -> dict[str, float]:
        """The figures of images, which are coins or grey."""
        found = features.features(self.classifier, x)
        subset = min(1000, len(found) // 4, len(self.test[kind]) // 4)
        return quality(found, self.test[kind], subset=subset, seed=seed).to_json()


def appoint(splits: Splits, epochs: int) -> Judge:
    """Trains the classifier on three quarters of the training images."""
    schema = splits.schema
    grey, labels = schema.grey(splits.stored["train"]), splits.labels["train"]
    with seeded(0, "held"):
        held, used = torch.randperm(len(grey)).tensor_split([len(grey) // 4])
    model = features.train_classifier(grey[used], labels[used], epochs, seed=0)
    images = {"coins": splits.frozen("test"), "grey": schema.grey(splits.stored["test"])}
    accuracy = {kind: features.accuracy(model, x, splits.labels["test"]) for kind, x in images.items()}
    return Judge(model, {kind: features.features(model, x) for kind, x in images.items()}, grey[held], accuracy)


def draw(name: str, splits: Splits, judge: Judge, seed: int, options: argparse.Namespace) -> Drawn:
    """Trains a contender, if it is one that is trained, and draws from it."""
    if name in MODELS:
        return draw_model(name, splits.schema.name, seed, options)
    with seeded(seed, name):
        if name == "real":
            grey = judge.held[torch.randperm(len(judge.held))[: options.rows]]
            return Drawn(features.coins(grey), grey, {})
        train = splits.schema.grey(splits.stored["train"])
        start = time.perf_counter()
        model, steps = generator.train_gan(train, options.time_budget, seed)
        about = {"steps": steps, "seconds": time.perf_counter() - start}
        grey = generator.draw(model, options.rows, seed)
        return Drawn(features.coins(grey), grey, about)


def draw_model(name: str, data: str, seed: int, options: argparse.Namespace) -> Drawn:
    """A fit by one command, and draws of it; where it has latents, also the means of p(x|z) for the same z."""
    with tempfile.TemporaryDirectory() as folder:
        length = {"time_budget": options.time_budget, "binarisation": "dynamic"}
        run = fit(data, model=name, seed=seed, out=Path(folder) / "run", **length, **MODELS[name])
        fitted = run.model
    latents = name != "pixelcnn"
    drawn: dict[bool, list[Any]] = {False: [], True: []}
    for start in range(0, options.rows, CHUNK):
        count, chosen = min(CHUNK, options.rows - start), mix(seed, name, start)
        for mean in (False, True) if latents else (False,):
            drawn[mean].append(fitted.sample(count, seed=chosen, mean=mean))
    coins, grey = (torch.from_numpy(np.concatenate(part)).float() if part else None for part in drawn.values())
    assert coins is not None
    about = {"steps": run.step, "seconds": run.result["seconds"]}
    return Drawn(coins, grey, {**about, "log_likelihood": run.result["test"]["log_likelihood"]})


def measure(name: str, splits: Splits, judge: Judge, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """A contender with one seed, and its picture, if this is the first."""
    logging.disable()
    drawn = draw(name, splits, judge, seed, options)
    images = {"coins": drawn.coins} | ({} if drawn.grey is None else {"grey": drawn.grey})
    if seed == options.seeds[0]:
        folder = Path(tempfile.gettempdir()) if options.quick else ROOT / "docs" / "pictures"
        folder.mkdir(exist_ok=True)
        picture(folder / f"gan-{name}.png", images)
    scores = {kind: judge.score(x, kind, seed) for kind, x in images.items()}
    return {"contender": name, "seed": seed, **drawn.about, **scores}


def picture(path: Path, images: dict[str, Tensor]) -> None:
    """Writes 8×8 images of each kind side by side."""
    figure = Figure(figsize=(2.6 * len(images), 2.8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    titles = {"coins": "zeros and ones", "grey": "grey levels"}
    for axes, (kind, x) in zip(figure.subplots(1, len(images), squeeze=False)[0], images.items(), strict=True):
        padded = np.pad(x[:SHOWN].numpy(), ((0, 0), (0, 1), (0, 1)), constant_values=0.5)
        lines = [np.concatenate(list(padded[i : i + 8]), axis=1) for i in range(0, SHOWN, 8)]
        axes.imshow(np.concatenate(lines), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(titles[kind], fontsize=8)
        axes.axis("off")
    figure.savefig(path)


def settings_of(options: argparse.Namespace, judge: Judge) -> dict[str, Any]:
    """What must not change between lines of one table."""
    found = features.fingerprint(judge.classifier)
    return {"rows": options.rows, "time_budget": options.time_budget, "classifier": found, "accuracy": judge.accuracy}


def main() -> None:
    options = parse()
    logging.disable()
    splits = prepare(open_source("digits" if options.quick else "mnist"), binarisation="dynamic")
    judge = appoint(splits, epochs=5)
    if options.rows > len(judge.held):
        raise SystemExit(f"only {len(judge.held)} real images are held back; --rows is {options.rows}.")
    print("accuracy of the classifier on test images:", judge.accuracy, flush=True)
    settings = settings_of(options, judge)
    before: dict[str, Any] = {} if options.quick else recorded("gan")
    if before and before["settings"] != settings:
        raise SystemExit(
            f"benchmarks/results/gan.json holds lines of {before['settings']}, which do not compare with those of "
            f"{settings}. Move it away to start again."
        )
    wanted = [(name, seed) for seed in options.seeds for name in options.only]
    kept = [row for row in before.get("rows", []) if not (options.again and (row["contender"], row["seed"]) in wanted)]
    done = {(row["contender"], row["seed"]) for row in kept}
    jobs = [(name, splits, judge, seed, options) for name, seed in wanted if (name, seed) not in done]
    for row in side_by_side(measure, jobs, TOGETHER):
        kept.append(row)
        print(row, flush=True)
        if not options.quick:
            record("gan", {"settings": settings, "rows": kept})
    if not options.quick:
        write(settings, kept)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--time-budget", type=float, default=300.0, help="seconds of training for each")
    parser.add_argument("--rows", type=int, default=10_000, help="images drawn from each")
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--again", action="store_true", help="measure again what is recorded")
    parser.add_argument("--quick", action="store_true", help="digits, a few seconds: whether the script runs")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.time_budget, options.rows = [0], 1.0, 200
    return options


def over_seeds(values: list[float], digits: int) -> str:
    """The mean, and the standard deviation where there is one."""
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def lines_of(rows: list[dict[str, Any]], kind: str) -> list[list[str]]:
    """Lines of the table for images of a kind."""
    lines = []
    for name in CONTENDERS:
        own = [row for row in rows if row["contender"] == name and kind in row]
        if not own:
            continue
        columns = [
            over_seeds([scale * row[kind][figure] for row in own], digits)
            for figure, scale, digits in (
                ("frechet", 1, 2),
                ("kernel", 1000, 2),
                ("precision", 1, 3),
                ("recall", 1, 3),
            )
        ]
        lines.append([LABELS.get(name, name), KINDS[kind][name != "real"], *columns, *training(own, kind)])
    return lines


LABELS = {"real": "training images", "gan": "GAN"}
KINDS = {"coins": ("zeros and ones", "zeros and ones"), "grey": ("grey levels", "grey levels behind them")}


def training(rows: list[dict[str, Any]], kind: str) -> list[str]:
    """The bound or the log-likelihood, the steps and the seconds of a contender, once."""
    if "steps" not in rows[0] or kind != "coins":
        return ["", "", ""]
    bounds = [row["log_likelihood"] for row in rows if "log_likelihood" in row]
    sign = "=" if bounds and bounds[0]["kind"] == "exact" else "≥"
    likelihood = f"{sign} {over_seeds([each['mean'] for each in bounds], 2)}" if bounds else "none"
    return [likelihood, *(over_seeds([row[key] for row in rows], 0) for key in ("steps", "seconds"))]


def write(settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    header = ["images of", "as", "Fréchet", "kernel, ×1000", "precision", "recall", "log p(x)", "steps", "seconds"]
    table = lines_of(rows, "coins") + lines_of(rows, "grey")
    command = f"python -m benchmarks.gan --time-budget {settings['time_budget']:g} --rows {settings['rows']}"
    write_table("gan", "Samples beside those of a GAN", page(settings, rows), header, table, command)


def page(settings: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """What was compared, what the figures mean and what they do not."""
    seeds = sorted({row["seed"] for row in rows})
    accuracy = settings["accuracy"]
    names = [name for name in CONTENDERS if any(row["contender"] == name for row in rows)]
    pictures = "\n\n".join(f"{LABELS.get(name, name)}:\n\n![{name}](pictures/gan-{name}.png)" for name in names)
    return ABOUT.format(
        rows=f"{settings['rows']:,}",
        options=options_in_words(),
        budget=f"{settings['time_budget']:g}",
        seeds=", ".join(map(str, seeds)),
        coins=f"{accuracy['coins']:.2%}",
        grey=f"{accuracy['grey']:.2%}",
        pictures=pictures,
    )


def options_in_words() -> str:
    """What the models are told beyond the time: the options of the command line."""
    words = {
        name: " ".join(f"--{key.replace('_', '-')} {value}" for key, value in options.items())
        for name, options in MODELS.items()
    }
    return ", ".join(f"`{text}` for {name}" for name, text in words.items())


ABOUT = """\
{rows} draws of each contender beside all test images of MNIST, after {budget} seconds of training each; mean ± standard
deviation over seeds {seeds}. The models are those of `jensen fit mnist --model NAME`, with {options}; the GAN is a
small convolutional one with the non-saturating loss and averaged weights, written for this comparison
(`benchmarks/generator.py`). Two train at a time, with one thread each. The time is that of the clock, so the steps
taken say what it was worth.

**What is compared.** First, images of zeros and ones. Here MNIST is binarised by coins whose probabilities are the grey
levels, and vae, vq-vae and pixelcnn are models of what comes of it: a coin for each pixel is then no assumption about
values, and the bounds elsewhere in these pages are of the same data. The GAN, which cannot learn through coins, is
trained on grey levels, and its images are binarised by the same rule, as are the test images and the training images of
the reference line. Second, the grey levels behind those coins: means of p(x|z) for the same draws of z, as samples of
such models are usually shown, and the GAN's images as they are, beside grey test images. A mean is not a draw of the
model, and pixelcnn has none.

**What is measured.** The features are the {features} values of the last hidden layer of a classifier trained on three
quarters of the training images, half of them binarised, each value brought to mean 0 and variance 1 over those images
binarised; it finds the class of {coins} of binarised and {grey} of grey test images. The reference line is of the
training images that it has not seen: no contender can be expected to be better.

- *Fréchet*: the squared Fréchet distance of Gaussian fits (Heusel et al. 2017). Features are not Gaussian, and it is
  too large in small samples; compare with the reference line, not with zero.
- *kernel*: the squared maximum mean discrepancy with a cubic kernel (Bińkowski et al. 2018), the mean over disjoint
  subsets of 1000 images. It has no bias, and may be negative.
- *precision*: the share of draws that lie among test images; *recall*: the share of test images that lie among draws
  (Kynkäänniemi et al. 2019, k = 3). Blurred or broken images cost precision, missing kinds of images cost recall.

**What is not.** All four see images through one small classifier trained here: what it ignores costs nothing, and
figures compare within this table only, not with published ones, which are in features of other networks. None of them
notices a generator that repeats its training images. None is a likelihood: a GAN gives no image a probability that
could be computed, so that the column log p(x) (nats, binarised test rows) has nothing to set against those of the
others.

{pictures}"""
ABOUT = ABOUT.replace("{features}", str(features.FEATURES))


if __name__ == "__main__":
    main()
