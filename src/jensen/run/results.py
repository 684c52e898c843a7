"""The results of a run: measured once after the fit, measured again, and compared with another's."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..baselines import Baseline, baselines, rows_fitted
from ..classify import accuracy
from ..data import SPLITS, Splits
from ..data.sources import DataLike
from ..errors import FileFormatError, RunError
from ..evaluation import evidence_of, latent_size, measure_of, reconstructions
from ..files import at_home, read_json, read_tensors, write_json, write_tensors
from ..fitted import Evaluation, Fitted, score
from ..noise import mix, row_keys
from ..numbers import QUANTITIES, SCHEMA_VERSION, Number, Precision, finite, mean_and_se
from ..recipe import FitOptions
from ..saving import load, read_config, refuse_several, to_resume
from ..train import History
from .folder import check_split, how_to_measure, read_lines, read_options, reopen, resumable
from .observe import Observer

__all__ = ["clocked", "compare", "evaluate_run", "measure", "number_of"]

_SAMPLES = 1000


def measure(
    folder: Path, fitted: Fitted, splits: Splits, history: History, options: FitOptions, observer: Observer
) -> dict[str, Any]:
    """Scores a fitted model on validation and test rows with fresh noise, beside the baselines, and writes it down."""
    seconds, examples = clocked(folder)
    result = {
        "schema_version": SCHEMA_VERSION,
        "run": str(folder),
        "steps": history.step,
        "best_step": history.best_step,
        "seconds": seconds,
        "examples_per_second": examples / seconds if seconds else None,
        "data": _data_json(splits),
    }
    if evidence_of(fitted.vae) == "none":
        found, scores = _reconstructed(fitted, splits, observer)
    else:
        found, scores = _scored(fitted, splits, options, observer)
    result |= found | _accuracy(fitted, splits, ("valid", "test"))
    write_json(folder / "result.json", result)
    write_tensors(folder / "scores.safetensors", scores)
    return result


def _scored(
    fitted: Fitted, splits: Splits, options: FitOptions, observer: Observer
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Bounds on log p(x), or log p(x) itself."""
    k = options.samples or _SAMPLES
    exact = evidence_of(fitted.vae) == "exact"
    observer.phase("scoring validation and test rows" + ("" if exact else f" with {k} samples"))
    fresh = mix(options.seed, "evaluation")
    valid, test = (
        score(fitted, splits.frozen(split), k=k, seed=fresh, split=split, given=splits.given(split))
        for split in ("valid", "test")
    )
    rows, seen = len(splits.stored["train"]), rows_fitted(splits)
    observer.phase("fitting baselines" + ("" if seen == rows else f" to {seen:,} of {rows:,} training rows"))
    simple = _comparable(splits, latent_size(fitted.vae))
    own, jacobian = test.scores.log_likelihood, splits.schema.log_jacobian
    found = {
        **test.to_json(),
        "valid": {name: number for name, number in valid.to_json()["test"].items() if name != "bits_per_dim"},
        "baselines": baseline_json(own + jacobian, simple, test.log_likelihood.measure),
    }
    scores = {
        **({} if exact else {"elbo": test.scores.elbo + jacobian}),
        "log_likelihood": own + jacobian,
        "keys": torch.tensor(test.scores.keys, dtype=torch.int64),
    }
    return found, scores


def _accuracy(fitted: Fitted, splits: Splits, parts: tuple[str, ...]) -> dict[str, Any]:
    """How often a model with a class distribution of each row is right, where the rows have labels."""
    if not (hasattr(fitted.vae, "classify") and splits.labels):
        return {}
    found: dict[str, Any] = {"labels": splits.use.count if splits.use is not None else None}
    for split in parts:
        found[split] = accuracy(fitted.vae.classify, splits.frozen(split), splits.labels[split], fitted.vae)
    return {"accuracy": found}


def _comparable(splits: Splits, latents: int) -> dict[str, Baseline]:
    """The baselines of log p(x); a bound on log p(x) given the label is none of their kind."""
    return {} if splits.conditioned else baselines(splits, max(1, latents))


def _reconstructed(fitted: Fitted, splits: Splits, observer: Observer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """How well rows are reconstructed, where log p(x) is not defined."""
    observer.phase("reconstructing validation and test rows")
    jacobian, found, scores = splits.schema.log_jacobian, {}, {}
    for split in ("valid", "test"):
        rows = splits.frozen(split)
        each = reconstructions(fitted.vae, rows, splits.given(split)) + jacobian
        mean, se = mean_and_se(each)
        number = Number(
            mean,
            se,
            0.0,
            len(each),
            None,
            math.nan,
            kind="none",
            measure=measure_of(fitted.vae),
            split=split,
            protocol=fitted.protocol,
        )
        found[split] = {"reconstruction": number.to_json()}
        scores = {"reconstruction": each, "keys": torch.tensor(row_keys(rows), dtype=torch.int64)}
    return {**found, "baselines": {}, "kl": None, "active_latents": None}, scores


def clocked(folder: Path) -> tuple[float, float]:
    """The seconds spent training and the examples seen in them, over all calls: each call's clock starts at zero.

    Raises:
        FileFormatError: If ``timing.jsonl`` is damaged.
    """
    path = folder / "timing.jsonl"
    last = {line.get("call"): line for line in read_lines(path)}
    try:
        calls = [(float(line["seconds"]), float(line["examples_per_second"])) for line in last.values()]
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} is damaged: {error!r}. Start the fit anew.") from error
    return math.fsum(seconds for seconds, _ in calls), math.fsum(seconds * rate for seconds, rate in calls)


def _data_json(splits: Splits) -> dict[str, Any]:
    counts = {f"n_{split}": len(splits.stored[split]) for split in SPLITS}
    schema = splits.schema
    given = {"given": "label"} if splits.conditioned else {}
    shape = list(schema.event_shape)
    return {"name": schema.name, "protocol": splits.protocol, "event_shape": shape, **counts, **given}


def baseline_json(own: Tensor, simple: Mapping[str, Baseline], measure: str) -> dict[str, Any]:
    """Each baseline of the measure of a model beside it, the differences paired over the same rows."""
    table = {}
    for name, baseline in simple.items():
        if baseline.measure != measure:
            continue
        mean, se = mean_and_se(baseline.log_likelihood)
        difference, difference_se = mean_and_se(own - baseline.log_likelihood)
        table[name] = {
            "mean": mean,
            "se": finite(se),
            "difference": difference,
            "difference_se": finite(difference_se),
            "kind": baseline.kind,
            "measure": baseline.measure,
        }
    return table


def evaluate_run(
    path: str | os.PathLike[str],
    data: DataLike | None = None,
    *,
    split: str = "test",
    k: int | None = None,
    seed: int | None = None,
    precision: Precision = "fp32",
    modules: Mapping[str, Callable[..., Any]] | None = None,
) -> tuple[Evaluation, dict[str, Any]]:
    """Scores rows of a run's data again; the result has the shape of that of a fit.

    Arguments:
        path: The run folder.
        data: The data, needed only where they have moved or came from memory.
        split: Which rows.
        k: The number of samples K; by default that of the fit's own evaluation.
        seed: The seed of the noise; by default that of the fit's own evaluation.
        precision: What networks compute in.
        modules: The user's own declared classes and builders by name.
    """
    folder = at_home(path)
    check_split(split)
    fitted = load(folder, modules=modules)
    splits = reopen(folder, data)
    options = read_options(folder, read_config(folder))
    noise = mix(options.seed, "evaluation") if seed is None else seed
    k = (options.samples or _SAMPLES) if k is None else k
    rows, given = splits.frozen(split), splits.given(split)
    found = score(fitted, rows, k=k, seed=noise, split=split, given=given, precision=precision)
    result = read_json(folder / "result.json") if (folder / "result.json").exists() else {}
    if not isinstance(result, dict):
        raise FileFormatError(f"{folder / 'result.json'} is not the result of a fit. {how_to_measure(folder)}")
    own = found.scores.log_likelihood + splits.schema.log_jacobian
    simple = _comparable(splits, latent_size(fitted.vae)) if split == "test" else {}
    timing = {key: result.get(key) for key in ("steps", "seconds", "examples_per_second")}
    document = {
        "schema_version": SCHEMA_VERSION,
        "run": str(folder),
        **timing,
        "data": _data_json(splits),
        **found.to_json(),
        "baselines": baseline_json(own, simple, found.log_likelihood.measure),
        **_accuracy(fitted, splits, (split,)),
    }
    if split != "test":
        document[split] = document.pop("test")
    return found, document


def compare(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> dict[str, Any]:
    """Compares the test bounds of two runs, paired over the same rows.

    Arguments:
        first: A finished run.
        second: Another.

    Returns:
        For each quantity that both runs measure: both numbers, and the difference ``second - first`` with its error;
        and a ``note`` where one number is exact and the other a bound.

    Raises:
        RunError: If a run is unfinished, or the numbers cannot be compared: another protocol, other test rows, another
            kind of bound, or a mass against a density.
    """
    folders = [Path(first), Path(second)]
    records = [_finished(folder) for folder in folders]
    (a, data_a, scores_a), (b, data_b, scores_b) = records
    names = [name for name in QUANTITIES if name in a["test"] and name in b["test"]]
    if not names:
        raise RunError(
            f"not comparable: {folders[0]} measures {_measured(a)}, {folders[1]} measures {_measured(b)}, and nothing "
            "that both do."
        )
    numbers = {name: [a["test"][name], b["test"][name]] for name in names}
    mixed = {x["kind"] for x in numbers.get("log_likelihood", [])} == {"exact", "lower"}
    samples = [number["k"] for number in numbers[names[-1]]]
    kinds = [] if mixed else [(_KIND, x["kind"], y["kind"]) for x, y in numbers.values()]
    for what, x, y in (
        ("protocol", a["data"]["protocol"], b["data"]["protocol"]),
        ("measure", *(number["measure"] for number in numbers[names[0]])),
        *kinds,
        *([] if mixed or None in samples else [("number of samples", *samples)]),
        ("test rows (SHA-256)", data_a["sha256"]["test"], data_b["sha256"]["test"]),
    ):
        if x != y:
            raise RunError(f"not comparable: the {what} of {folders[0]} is {x}; that of {folders[1]} is {y}.")
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "runs": [str(folder) for folder in folders],
        "protocol": a["data"]["protocol"],
        "note": _mixed_note(folders, numbers["log_likelihood"]) if mixed else None,
    }
    for name in names:
        difference, se = mean_and_se(scores_b[name] - scores_a[name])
        result[name] = {"numbers": numbers[name], "difference": difference, "difference_se": finite(se)}
    return result


_KIND = "kind of bound"


def _mixed_note(folders: list[Path], numbers: list[Mapping[str, Any]]) -> str:
    """On which side the difference errs where one number is log p(x) itself and the other a lower bound of it."""
    bound, exact = folders if numbers[0]["kind"] == "lower" else folders[::-1]
    side = "no more" if bound == folders[0] else "no less"
    return (
        f"log p(x) of {exact} is exact, that of {bound} a lower bound, so {bound} may be better than it looks, never "
        f"worse: the true difference is {side} than the one shown, which errs in favour of {exact}"
    )


def _measured(result: Mapping[str, Any]) -> str:
    return " and ".join(QUANTITIES[name] for name in QUANTITIES if name in result["test"])


def _finished(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    refuse_several(folder)
    if not folder.is_dir():
        raise RunError(f"there is no run {folder}; expected the folder of a finished one, such as runs/digits.")
    if not (folder / "result.json").exists():
        run = resumable(folder)
        remedy = "Name one that is." if run is None else f"Finish it with: {to_resume(run)}"
        raise RunError(f"{folder} is not a finished run: it has no result.json. {remedy}")
    result, data = read_json(folder / "result.json"), read_json(folder / "data.json")
    scores = read_tensors(folder / "scores.safetensors")
    try:
        count = int(result["data"]["n_test"])
        _ = str(result["data"]["protocol"]), str(data["sha256"]["test"])
        present = [name for name in QUANTITIES if name in result["test"]]
        if not present:
            raise ValueError("nothing was measured")
        for name in present:
            number = number_of(result["test"][name])
            _ = result["test"][name]["kind"], result["test"][name]["k"], result["test"][name]["measure"]
            if scores[name].shape != (count,) or not isinstance(number.mean, float):
                raise ValueError(f"{name} and its scores disagree")
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"the results in {folder} are damaged: {type(error).__name__} {error}. Fit again, or restore the folder."
        ) from error
    return result, data, scores


def number_of(document: Mapping[str, Any]) -> Number:
    """A number as it stands in a result file."""
    values: dict[str, Any] = dict(document)
    for name in ("se", "mc_se", "ess"):
        values[name] = float("nan") if values[name] is None else values[name]
    return Number(**values)
