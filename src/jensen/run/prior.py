"""A new run from an old one: the same encoder and decoder, with a prior that is fitted to the codes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from .. import priors
from ..data.sources import DataLike
from ..errors import FileFormatError, OptionError, RunError
from ..files import at_home, read_json, write_json, write_tensors
from ..fitted import Fitted
from ..inference.fit_prior import PriorFit, check_roles, fit_prior
from ..noise import mix, seeded
from ..saving import describe_model, load, read_config
from ..train import History
from .draw import draw_inputs, draw_results
from .fitting import Run
from .folder import (
    environment,
    how_to_measure,
    new_folder,
    read_lines,
    read_options,
    refuse_existing,
    reopen,
    write_data,
    write_files,
)
from .observe import Log, Observer
from .results import clocked, measure

__all__ = ["fit_prior_run"]

_COMPONENTS = 50
_JOURNALS = ("metrics.jsonl", "timing.jsonl")


def fit_prior_run(
    path: str | os.PathLike[str],
    prior: Literal["mixture", "flow"] = "mixture",
    data: DataLike | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    components: int = _COMPONENTS,
    steps: int = 5000,
    seed: int = 0,
    modules: Mapping[str, Callable[..., Any]] | None = None,
    observer: Observer | None = None,
) -> tuple[Run, PriorFit]:
    """Fits a prior to the codes of a run's training rows and measures the new model as a fit does.

    Arguments:
        path: The finished run.
        prior: A mixture of normals, or a normalising flow.
        data: The data, needed only where they have moved or came from memory.
        out: The new run folder, which must not exist; by default that of the old one with ``-mixture`` or ``-flow``.
        components: The number of normals of a mixture.
        steps: The most steps.
        seed: The seed of the fit.
        modules: The user's own declared classes and builders by name.
        observer: Who is told what happens.

    Raises:
        OptionError: If there is no such prior.
        RunError: If the run is unfinished, its data have changed, or the new folder exists.
        FileFormatError: If a file of the run is damaged.
    """
    source, observer = at_home(path), observer or Log()
    if prior not in ("mixture", "flow"):
        raise OptionError(f"--prior cannot be {prior!r}; choose mixture or flow.")
    target = at_home(out) if out is not None else _beside(source, prior)
    refuse_existing(target)
    fitted = load(source, modules=modules)
    check_roles(fitted.vae)
    splits = reopen(source, data)
    config = read_config(source)
    options, history = read_options(source, config), _history(source)
    observer.phase(f"fitting a {prior} to the codes of {len(splits.stored['train']):,} training rows")
    new = _new_prior(prior, fitted.vae, components, seed)
    train, valid = splits.frozen("train"), splits.frozen("valid")
    vae, record = fit_prior(fitted.vae, train, new, held_out=valid, steps=steps, seed=mix(seed, "prior"))
    with new_folder(target, splits.schema.name) as folder:
        extra = {"options": options.model_dump(mode="json"), "objective": config.objective}  # that of the posterior
        describe_model(vae, folder, extra=extra)
        write_data(folder, splits)
        write_files(folder, splits)
        write_json(folder / "environment.json", environment())
        for name in _JOURNALS:  # the training is that of the old run
            shutil.copyfile(source / name, folder / name)
        draw_inputs(folder, splits)
        write_tensors(folder / "model.safetensors", vae.state_dict())
        model = Fitted(vae, splits.schema, splits.protocol)
        result = measure(folder, model, splits, history, options, observer)
        gain = {"kind": prior, "steps": record.steps, "best_step": record.best_step, "gain": record.gain.to_json()}
        result["prior"] = {"from": str(source), **gain}
        write_json(folder / "result.json", result)
        draw_results(folder, model, splits, history.lines, history)
    return Run(folder, result, finished=True, step=history.step), record


def _new_prior(kind: str, model: Any, components: int, seed: int) -> Any:
    shape = tuple(model.prior().event_shape) if hasattr(model, "prior") else (model.latent_size,)
    if len(shape) != 1:
        raise OptionError(f"a {kind} is a prior over a vector of latents; this model's have shape {shape}.")
    if kind == "flow" and components != _COMPONENTS:
        raise OptionError("components are those of a mixture; a flow has none. Leave them out.")
    with seeded(seed, "new prior"):
        return priors.Mixture(shape[0], components) if kind == "mixture" else priors.Flow(shape[0])


def _beside(source: Path, prior: str) -> Path:
    """The folder beside a run that is named after it, also where the run is given as ``.`` or ``..``."""
    named = source if source.name not in ("", "..") else Path(os.path.abspath(source))
    return named.parent / f"{named.name}-{prior}"


def _history(source: Path) -> History:
    """How the old run was trained."""
    for name in _JOURNALS:
        if not (source / name).exists():
            raise RunError(f"{source} has no {name}; expected a finished run.")
    clocked(source)
    lines, path = read_lines(source / "metrics.jsonl"), source / "result.json"
    result = read_json(path) if path.exists() else {}
    try:
        step = int(result.get("steps") or (lines[-1]["step"] if lines else 0))
        return History(lines=lines, step=step, finished=True, best_step=int(result.get("best_step") or step))
    except (AttributeError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} is not the result of a fit: {error}. {how_to_measure(source)}") from error
