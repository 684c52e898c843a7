"""A distribution over the decoder's weights against one value for each, at few training rows.

Run with: python -m benchmarks.bayesian_decoder [digits] [mnist-static] [--rows 500] [--steps 1500] [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import logging
import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import record, recorded, write_table
from jensen import data, evaluation, train, zoo
from jensen.initialise import start_at_marginal
from jensen.numbers import mean_and_se

TEST_ROWS = 1000
MODELS: dict[str, dict[str, Any]] = {"vae": {}, "bayesian-decoder": {}}
KINDS = ("elbo", "log_likelihood")


def rows_of(name: str, count: int, seed: int) -> tuple[Any, Tensor, Tensor, Tensor]:
    """The schema, some training rows, and validation and test rows as the model sees them."""
    splits = data.prepare(data.open_source(name), binarisation="threshold" if name == "digits" else None, seed=0)
    train_rows = splits.frozen("train")
    chosen = torch.randperm(len(train_rows), generator=torch.Generator().manual_seed(seed))[:count]
    return splits.schema, train_rows[chosen], _some(splits.frozen("valid")), _some(splits.frozen("test"))


def _some(rows: Tensor) -> Tensor:
    """Rows from all over: those of a file may lie in an order."""
    return rows[torch.linspace(0, len(rows) - 1, min(TEST_ROWS, len(rows))).long()]


def measure(name: str, model: str, rows: int, steps: int, samples: int, seed: int) -> dict[str, Any]:
    """One fit on some rows; the weights with the best validation bound are scored on test rows."""
    schema, x, valid, test = rows_of(name, rows, seed)
    options = {"hidden": (100,), "latents": 10, "posterior": "diagonal", "seed": seed, **MODELS[model]}
    built = zoo.build(model, schema, rows=len(x), **options)
    start_at_marginal(built.model.likelihood, x)
    started = time.perf_counter()
    history = train.fit(
        built.model,
        built.objective(steps)[0],
        x,
        steps=steps,
        valid=valid,
        batch_size=100,
        validate_every=steps // 40,
        seed=seed,
    )
    seconds = time.perf_counter() - started
    scores = evaluation.bounds(built.model, test, k=samples)
    last = history.lines[-1]["valid"]["elbo"]
    return {
        "data": name,
        "model": model,
        "rows": rows,
        "seed": seed,
        "steps": steps,
        "seconds": seconds,
        "best_step": history.best_step,
        "valid_elbo_at_the_end": last,
        "elbo": scores.elbo.tolist(),
        "log_likelihood": scores.log_likelihood.tolist(),
        "k": samples,
    }


def paired(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Both models on the same rows with the same seed, and the differences of their scores over test rows."""
    by_model = {run["model"]: run for run in runs}
    point, bayes = (by_model[model] for model in MODELS)
    pair: dict[str, Any] = {name: point[name] for name in ("data", "rows", "seed", "steps", "k")}
    for model, run in by_model.items():
        pair[model] = {name: run[name] for name in ("seconds", "best_step", "valid_elbo_at_the_end")}
        pair[model] |= {kind: sum(run[kind]) / len(run[kind]) for kind in KINDS}
    for kind in KINDS:
        gain = torch.tensor(bayes[kind]).double() - torch.tensor(point[kind]).double()
        pair[f"{kind}_gain"] = mean_and_se(gain)
    return pair


def table(pairs: list[dict[str, Any]]) -> list[list[str]]:
    """A line for each data set and seed."""
    lines = []
    for pair in sorted(pairs, key=lambda pair: (pair["data"], pair["seed"])):
        cells = [pair["data"], str(pair["rows"]), str(pair["seed"])]
        for kind in KINDS:
            mean, se = pair[f"{kind}_gain"]
            cells += [*(f"{pair[model][kind]:.2f}" for model in MODELS), f"{mean:+.2f} ± {se:.2f}"]
        lines.append([*cells, *(f"{pair[model]['valid_elbo_at_the_end']:.2f}" for model in MODELS)])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", default=["mnist-static"])
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="a few steps, nothing written")
    options = parser.parse_args()
    logging.disable()
    if options.quick:
        options.steps, options.seeds = 40, [0]
    kept = [pair for pair in recorded("bayesian_decoder").get("pairs", []) if pair["data"] not in options.data]
    found: list[dict[str, Any]] = []
    for name in options.data:
        for seed in options.seeds:
            runs = [measure(name, model, options.rows, options.steps, options.samples, seed) for model in MODELS]
            found.append(paired(runs))
            print(*table(found[-1:])[0], sep=" | ", flush=True)
    if options.quick:
        return
    pairs = [*kept, *found]
    record("bayesian_decoder", {"pairs": pairs})
    header = ["data", "rows", "seed", "vae ELBO", "bayesian ELBO", "difference"]
    header += ["vae log p(x) ≥", "bayesian log p(x) ≥", "difference", "vae at the end", "bayesian at the end"]
    about = (
        "`vae` and `bayesian-decoder` with the same networks on the same few training rows, nats/example on test rows, "
        f"K = {options.samples}; the differences are paired over rows. Both keep the weights with the best validation "
        "bound. The KL of the weights has weight 0.1 in the loss (a cold posterior); the scores do not contain it. The "
        "last two columns are validation bounds after the last step, where nothing was stopped early."
    )
    command = "python -m benchmarks.bayesian_decoder"
    write_table("bayesian_decoder", "A distribution over the decoder's weights", about, header, table(pairs), command)


if __name__ == "__main__":
    main()
