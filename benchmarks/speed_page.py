"""The results of benchmarks.speed as a page.

Run with: python -m benchmarks.speed_page, to write docs/speed.md anew from benchmarks/results/speed.json
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["page", "write"]

ROOT = Path(__file__).parent.parent
RESULT, PAGE = ROOT / "benchmarks" / "results" / "speed.json", ROOT / "docs" / "speed.md"

Json = Mapping[str, Any]


def row(*cells: str) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"


def heading(*cells: str) -> list[str]:
    """The first two lines of a table."""
    return [row(*cells), "|" + "---|" * len(cells)]


def spread(values: Json, form: str = ",.0f") -> str:
    """A median with its quartiles."""
    return f"{values['median']:{form}} [{values['q1']:{form}}–{values['q3']:{form}}]"


def mega(size: float) -> str:
    """Bytes in MB."""
    return f"{size / 1e6:,.0f}"


def page(result: Json) -> str:
    """The whole page."""
    lines = ["# Speed", "", *_about(result)]
    if "dense" in result:
        lines += _dense(result["dense"], result["activation"])
    if "conv" in result:
        lines += _conv(result["conv"])
    if "scoring" in result:
        lines += _scoring(result["scoring"])
    for name, reason in result["left_out"].items():
        lines += [f"Left out: {name}, since {reason}", ""]
    return "\n".join(lines)


def _about(result: Json) -> list[str]:
    load = result["load_average"]
    fast = [flag for flag in result["flags"] if flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")]
    return [
        f"Made by `make bench` on {result['date']} at {result['commit']} in {result['minutes']:.0f} minutes: "
        f"{result['cpu']} ({', '.join(fast) or 'no vector extensions named'}), {result['cores']} cores, "
        f"{result['memory_bytes'] / 2**30:.0f} GiB, {result['threads']} threads, Python {result['python']}; load "
        f"average {load['before']:.1f} before and {load['after']:.1f} after.",
        "",
        "Each contender runs in a process of its own and works when it is its turn while the others sleep: one epoch "
        "of each, then the next epoch of each, another one going first each time. Figures are the median over these "
        "rounds with the quartiles in brackets; the first round warms up and does not count. Ratios are taken within "
        "a round, then summarised. Start-up is the time until the data are loaded and the model is made; what the "
        "first epoch takes longer than the others is mostly compilation. Memory is the most that was resident.",
        "",
    ]


def _dense(dense: Json, activation: str) -> list[str]:
    contenders = dense["contenders"]
    lines = [
        f"## Training a dense model: 784-500-500-20 and back, {activation}",
        "",
        f"Normal posterior with diagonal covariance, Bernoulli likelihood, Adam at 1e-3, batches of {dense['batch']}, "
        f"{dense['rows']:,} rows of MNIST as floats ({dense['protocol']}). jensen runs `train.fit` with all its "
        "guards. The matrix products are those of a step, without anything around them, and are what torch offers "
        "by default; oneDNN multiplies fp32 matrices faster than the BLAS of torch on some processors.",
        "",
        *heading("", "examples/s", "s per epoch", "memory, MB", "start-up, s", "first epoch, extra s"),
    ]
    lines += [_speed_row(found) for found in contenders.values()]
    lines += ["", *_ratio_table(dense), *_bounds(dense)]
    return [*lines, _versions(contenders), ""]


def _speed_row(found: Json) -> str:
    return row(
        found["label"],
        spread(found["examples_per_second"]),
        spread(found["epoch_seconds"], ".2f"),
        mega(found["peak_bytes"]),
        f"{found['start_seconds']:.1f}",
        f"{found['first_turn_extra_seconds']:.1f}",
    )


def _ratio_table(part: Json) -> list[str]:
    contenders, table = part["contenders"], part["ratios"]
    lines = heading("how many times as fast as", *(contenders[name]["label"] for name in table))
    for other, found in contenders.items():
        cells = [spread(own[other], ".2f") if other in own else "1" for own in table.values()]
        lines.append(row(found["label"], *cells))
    return [*lines, ""]


def _bounds(dense: Json) -> list[str]:
    bounds = dense["bounds"]
    if not bounds:
        return []
    first = next(iter(bounds.values()))[0]
    lines = [
        f"What was learned in {dense['epochs']} epochs, on the same {first['n']:,} test rows, all scored by "
        "`jensen.evaluation.bounds` around the weights of each, with the same noise; nats per example, ± standard "
        "error over rows. Initial weights are those of each library.",
        "",
        *heading("", "seeds", "ELBO", f"log p(x) ≥ (K = {first['k']})", "spread over seeds"),
    ]
    for name, runs in bounds.items():
        lines.append(_bound_row(dense["contenders"][name]["label"], runs))
    if "rounding" in dense:
        change = f"{dense['rounding']['change']:+.4f} ± {dense['rounding']['se']:.4f}"
        lines += [
            "",
            "Where the networks compute in bf16 while they are scored, the bound of `jensen, bf16, compiled` "
            f"changes by {change} nats.",
        ]
    return [*lines, ""]


def _bound_row(label: str, runs: list[Json]) -> str:
    cells = []
    for name in ("elbo", "bound"):
        mean, error = statistics.fmean(run[name] for run in runs), statistics.fmean(run[f"{name}_se"] for run in runs)
        cells.append(f"{mean:.2f} ± {error:.2f}")
    deviation = f"{statistics.stdev(run['bound'] for run in runs):.2f}" if len(runs) > 1 else ""
    return row(label, str(len(runs)), *cells, deviation)


def _versions(contenders: Json) -> str:
    found: dict[str, str] = {}
    for contender in contenders.values():
        found |= contender["versions"]
    return "Versions: " + ", ".join(f"{name} {number}" for name, number in sorted(found.items())) + "."


def _conv(conv: Json) -> list[str]:
    lines = [
        "## Training a convolutional model: 32×32×3 images",
        "",
        f"`nets.conv_encoder` and `nets.conv_decoder`, 64 latents, discretised logistic likelihood, batches of "
        f"{conv['batch']}, {conv['rows']:,} rows of CIFAR-10; the plain loop has the same networks and its likelihood "
        "written by hand. The loss is that of the last epoch, nats per example.",
        "",
        *heading("", "examples/s", "s per epoch", "memory, MB", "start-up, s", "first epoch, extra s", "loss"),
    ]
    for found in conv["contenders"].values():
        loss = found["training_loss"]
        lines.append(f"{_speed_row(found)} {'not finite' if loss is None else f'{loss:,.0f}'} |")
    return [*lines, "", *_ratio_table(conv)]


def _scoring(scoring: Json) -> list[str]:
    lines = [
        "## Bounds on log p(x)",
        "",
        f"The dense model, untrained, K = {scoring['samples']:,} samples for each of {scoring['rows']} rows; pythae "
        f"scores {scoring['few']} rows, with the batch size at which it is fastest. An example is one sample of one "
        "row. The products are those of the decoder alone, by torch or by oneDNN, and in blocks of the size at which "
        "they are fastest.",
        "",
        *heading("", "samples/s", "s for all rows", "memory, MB", "start-up, s", "first turn, extra s"),
        *(_speed_row(found) for found in scoring["contenders"].values()),
        "",
        *_ratio_table(scoring),
    ]
    if scoring["memory"]:
        lines += heading("K", "peak memory of jensen, MB", "s")
        for found in scoring["memory"]:
            seconds = "" if found["seconds"] is None else f"{found['seconds']:.1f}"
            lines.append(row(f"{found['k']:,}" if found["k"] else "before", mega(found["peak_bytes"]), seconds))
    return [*lines, ""]


def write(result: Json, *, keep: bool) -> None:
    """Prints the page, and writes it and the result down if they are to be kept."""
    text = page(result)
    print(text)
    if keep:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        PAGE.write_text(text, encoding="utf-8")
        print(f"wrote {RESULT} and {PAGE}")


def main() -> None:
    PAGE.write_text(page(json.loads(RESULT.read_text(encoding="utf-8"))), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
