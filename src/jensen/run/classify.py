"""What the encoder of a run saves a classifier in labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..classify import LabelledRows, Start, Trial, try_starts
from ..data.sources import DataLike
from ..errors import DataError, OptionError
from ..files import at_home
from ..noise import mix
from ..numbers import SCHEMA_VERSION
from ..saving import load
from .folder import reopen

__all__ = ["classify_run"]

_LABELS = (100, 1000, 10_000)


def classify_run(
    path: str | os.PathLike[str],
    data: DataLike | None = None,
    *,
    labels: Sequence[int] | None = None,
    starts: Sequence[Start] = ("frozen", "fine-tuned"),
    seeds: int = 5,
    steps: int = 1000,
    seed: int = 0,
    modules: Mapping[str, Callable[..., Any]] | None = None,
    told: Callable[[str], None] | None = None,
) -> tuple[list[Trial], dict[str, Any]]:
    """Classifiers of a run's rows that start with its encoder, beside the same network from scratch.

    Arguments:
        path: The run folder.
        data: The data, needed only where they have moved or came from memory.
        labels: The numbers of labels; by default 100, 1000 and 10,000, as far as the training rows go.
        starts: What is compared with a start from scratch.
        seeds: How many times each.
        steps: The number of steps of each.
        seed: The first seed.
        modules: The user's own declared classes and builders by name.
        told: Hears what is trained.

    Raises:
        DataError: If the data have no labels.
        OptionError: If a number is out of range, or the encoder has learned from labels itself.
    """
    folder = at_home(path)
    fitted = load(folder, modules=modules)
    splits = reopen(folder, data)
    if splits.use is not None and splits.use.count:
        raise OptionError(
            f"the encoder of {folder} was trained with {splits.use.count} labels, so a classifier that starts with it "
            "would know more than those it is said to learn from. See how often the model is right with: jensen "
            "evaluate RUN; or classify with the encoder of a model that sees no labels, such as vae."
        )
    if len(splits.label_names) < 2 or not splits.labels:
        raise DataError(
            f"{splits.schema.name} has no labels, or all the same, so there is nothing to classify. Images in "
            "sub-folders have their names as labels."
        )
    rows = len(splits.stored["train"])
    classes = len(splits.label_names)
    usual = [count for count in _LABELS if classes <= count <= rows] or [rows]
    counts = usual if labels is None else list(labels)
    wrong = [count for count in counts if not classes <= count <= rows]
    if wrong:
        raise OptionError(
            f"--labels must lie between {classes}, one of each class, and {rows} training rows; got {wrong[0]}."
        )
    train, test = (LabelledRows(splits.frozen(split), splits.labels[split]) for split in ("train", "test"))
    trials = try_starts(
        fitted.vae,
        train,
        test,
        labels=counts,
        starts=starts,
        seeds=seeds,
        steps=steps,
        seed=mix(seed, "classify"),
        told=told,
    )
    document = {
        "schema_version": SCHEMA_VERSION,
        "run": str(folder),
        "protocol": splits.protocol,
        "classes": splits.label_names,
        "n_test": len(test.labels),
        "seeds": seeds,
        "steps": steps,
        "trials": [trial.to_json() for trial in trials],
    }
    return trials, document
