"""Checks the model of a run: its data are opened again, and labels come with them where there are any."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ..data import Splits
from ..data.sources import DataLike
from ..diagnose.checking import check_subject
from ..diagnose.page import Page, Subject
from ..evaluation import measure_of
from ..files import at_home
from ..noise import mix
from ..saving import load, read_config, rebuild
from .folder import check_split, read_options, reopen

__all__ = ["check_run"]


def check_run(
    path: str | os.PathLike[str],
    data: DataLike | None = None,
    *,
    split: str = "test",
    rows: int = 200,
    samples: int = 1000,
    seed: int | None = None,
    time_budget: float | None = None,
    modules: Mapping[str, Callable[..., Any]] | None = None,
    told: Callable[[str], None] | None = None,
) -> tuple[Page, dict[str, Any]]:
    """One page about the model of a run, and the same as plain data.

    Arguments:
        path: The run folder.
        data: The data, needed only where they have moved or came from memory.
        split: Which rows: ``test``, ``valid`` or ``train``.
        rows: The costly parts take a sample of this many rows.
        samples: The number of draws of the latents for each of those rows.
        seed: The seed of everything that is drawn; by default one that follows from that of the fit.
        time_budget: About how long it may take, seconds, as in :func:`jensen.check`; None for all of everything.
        modules: The user's own declared classes and builders by name.
        told: Hears the name of each part before it is measured.

    Raises:
        OptionError: If there is no such split, or an option is out of range.
        RunError: If the run is unfinished, or its data have changed.
    """
    check_split(split)
    folder = at_home(path)
    fitted = load(folder, modules=modules)
    splits = reopen(folder, data)
    config = read_config(folder)
    options = read_options(folder, config)
    subject = Subject(
        model=fitted.vae,
        x=splits.frozen(split),
        train=None if split == "train" else splits.frozen("train"),
        labels=_labels(splits, split),
        train_labels=None if split == "train" else _labels(splits, "train"),
        objective=None if config.objective is None else rebuild(folder, config.objective, modules),
        log_jacobian=splits.schema.log_jacobian,
        measure=measure_of(fitted.vae),
        split=split,
        protocol=splits.protocol,
        rows=rows,
        samples=samples,
        seed=mix(options.seed, "check") % 2**31 if seed is None else seed,
    )
    page = check_subject(subject, time_budget=time_budget, told=told)
    return page, {"run": str(folder), **page.to_json()}


def _labels(splits: Splits, split: str) -> Any:
    """The labels of a split where there are at least two kinds."""
    return splits.labels.get(split) if len(splits.label_names) > 1 else None
