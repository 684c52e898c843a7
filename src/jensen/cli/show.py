"""What the command line shows: messages on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from ..numbers import QUANTITIES, SCHEMA_VERSION

if TYPE_CHECKING:
    from ..data import Splits
    from ..numbers import Number
    from ..recipe import Choice
    from ..train import Profile, Report

__all__ = ["ConsoleObserver", "Flag", "Whole", "console", "evaluation_table", "print_json", "seconds_of"]


def _whole(_: object, tokens: Sequence[Token]) -> int:
    text = tokens[0].value
    if re.fullmatch(r"[+-]?[0-9]{1,100}", text) is None:
        raise ValueError(f"expected a whole number; got {text!r}.")
    return int(text)


Flag = Annotated[bool, Parameter(negative=())]
# The parser's own conversion rounds 1.5 to 2.
Whole = Annotated[int, Parameter(converter=_whole)]


class _Voice(Console):
    """A console that falls silent when its reader goes, so that no training ends for want of somebody to talk to."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def console() -> Console:
    """The console for messages, on stderr: square brackets in a name are no markup, lines break only on a terminal."""
    return _Voice(stderr=True, highlight=False, markup=False, width=None if sys.stderr and sys.stderr.isatty() else 200)


def print_json(document: Mapping[str, Any]) -> None:
    """Writes one JSON object to stdout; it names the version of its format."""
    document = {"schema_version": SCHEMA_VERSION, **document}
    text = json.dumps(document, allow_nan=False, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # who reads along takes fewer letters
        text = json.dumps(document, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def seconds_of(text: str) -> float:
    """A time such as 90s, 10m or 1.5h, in seconds."""
    from ..errors import OptionError

    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)\s*(s|m|h|)", text.strip().lower())
    if found is None or float(found[1]) <= 0:
        raise OptionError(f"--time-budget cannot be {text!r}; expected a time such as 90s, 10m or 1.5h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


class ConsoleObserver:
    """Tells the user what a fit finds, chooses and does."""

    def __init__(self) -> None:
        self.console = console()
        self.progress: Progress | None = None
        self.task: Any = None
        self.shown = 0
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        """Prints a line as it is."""
        self.console.print(text)

    def found(self, splits: Splits) -> None:
        from ..run import describe_data

        self.say(f"found {describe_data(splits)}")
        schema = splits.schema
        for note in splits.notes:
            self.say(f"note: {note}")
        if schema.kind == "tokens":
            return
        how = {
            "none": "values are used as they are",
            "static": "zeros and ones, drawn once from the grey values, by seed and content",
            "dynamic": "zeros and ones, drawn anew at each step for training; validation and test rows drawn once",
            "threshold": "one where the grey value is above one half",
        }[schema.binarisation]
        self.say(f"binarisation: {schema.binarisation} ({how}; --binarisation)")

    def chose(self, choices: list[Choice], parameters: int) -> None:
        self.shown = 0
        for choice in choices:
            self.say(f"{choice.what}: {choice.value} ({choice.reason}; {choice.option})")
        self.say(f"{parameters:,} parameters")

    def report(self, report: Report) -> None:
        for warning in report.line.get("warnings", []):
            self.say(f"warning: {warning}")
        valid = report.line.get("valid") or {}
        rate = report.timing["examples_per_second"]
        done = report.line["step"]
        left = report.timing["seconds"] * (report.steps - done) / done
        kl = valid.get("kl")
        name = next((name for name in QUANTITIES if name in valid), "elbo")
        text = (
            f"{QUANTITIES[name]} valid {valid.get(name, float('nan')):.2f} · KL {'–' if kl is None else f'{kl:.1f}'} · "
            f"{valid.get('active_latents', '–')} active · {rate:,.0f} examples/s · {left:.0f} s left"
        )
        if self.console.is_terminal:
            self._bar(done, report.steps, text)
        elif done == report.steps or done * 10 // report.steps > self.shown:
            self.shown = done * 10 // report.steps
            self.say(f"step {done} of {report.steps} · {text}")

    def _bar(self, done: int, steps: int, text: str) -> None:
        if self.progress is None:
            columns = (BarColumn(bar_width=24), TextColumn("{task.completed}/{task.total} {task.description}"))
            self.progress = Progress(*columns, console=self.console, transient=False)
            self.progress.start()
            self.task = self.progress.add_task("", total=steps)
        self.progress.update(self.task, completed=done, description=text)

    def phase(self, text: str) -> None:
        self.close()
        self.say(f"{text} …")

    def profiled(self, profile: Profile) -> None:
        """Shows where the time went."""
        self.close()
        total = sum(profile.seconds.values())
        table = Table(box=None, title="time in training", title_justify="left")
        for heading in ("phase", "seconds", "share"):
            table.add_column(heading, justify="left" if heading == "phase" else "right")
        for phase, seconds in sorted(profile.seconds.items(), key=lambda item: -item[1]):
            table.add_row(phase, f"{seconds:.2f}", f"{seconds / total:.0%}")
        self.console.print(table)
        self.say(profile.sentence())

    def close(self) -> None:
        """Ends the progress bar."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


_COLLAPSED = 0.05  # nats per example


def evaluation_table(document: Mapping[str, Any]) -> Table:
    """The numbers of an evaluation as a table."""
    from ..run import number_of

    split = next(s for s in ("test", "valid", "train") if QUANTITIES.keys() & document.get(s, {}).keys())
    found = {name: number_of(document[split][name]) for name in QUANTITIES if name in document[split]}
    bound = found.get("log_likelihood") or next(iter(found.values()))
    table = Table(title=f"{document['data']['protocol']} · {bound.n:,} {split} rows", title_justify="left", box=None)
    table.add_column("", no_wrap=True)
    table.add_column(f"{bound.unit}", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name, number in found.items():
        table.add_row(*_line(name, number))
    if document[split].get("bits_per_dim") is not None:
        sign = "=" if bound.kind == "exact" else "≤"
        table.add_row(f"bits/dim {sign}", f"{document[split]['bits_per_dim']:.4f}", "of the same number")
    if document[split].get("perplexity") is not None:
        sign = "=" if bound.kind == "exact" else "≤"
        table.add_row(f"perplexity {sign}", f"{document[split]['perplexity']:.2f}", "per token, ends included")
    for name, row in document.get("baselines", {}).items():
        if row["measure"] == bound.measure:
            error = float("nan") if row["difference_se"] is None else row["difference_se"]
            word = "better" if row["difference"] >= 0 else "worse"
            gain = f"the model is {abs(row['difference']):.2f} ± {error:.2f} {word}, paired over rows"
            table.add_row(name, f"{row['mean']:.2f}", gain)
    kl = document.get("kl")
    if document.get("active_latents") is not None:
        use = f"KL {kl:.2f}" if kl is not None else "KL without closed form"
        if kl is not None and kl < _COLLAPSED:
            use += ": the posterior has collapsed onto the prior, and z says nothing about x"
        table.add_row("latents", f"{document['active_latents']} active", use)
    if document.get("accuracy"):
        right, labels = document["accuracy"][split], document["accuracy"]["labels"]
        se = float("nan") if right["se"] is None else right["se"]
        learned = "" if labels is None else f", learned from {labels} labels"
        table.add_row("accuracy", f"{right['mean']:.2%} ± {se:.2%}", f"of the most probable class{learned}")
    return table


def _line(name: str, number: Number) -> tuple[str, str, str]:
    """A number as a line of the table."""
    value = f"{number.mean:.2f} ± {number.se:.2f}"
    rounded = "" if number.precision == "fp32" else f", networks in {number.precision}"
    if number.kind == "none":
        return QUANTITIES[name], value, "no bound on log p(x), which this model does not define"
    if number.kind == "exact":
        return "log p(x) =", value, "exact" + rounded
    if number.k is None:
        return "ELBO" if name == "elbo" else "log p(x) ≥", value, "the same for any number of samples" + rounded
    if name == "elbo":
        return "ELBO", value, f"mean of {number.k} draws, MC se {number.mc_se:.2g}" + rounded
    detail = f"K = {number.k}, MC se {number.mc_se:.2g}, median ESS {number.ess:.3g}" + rounded
    return "log p(x) ≥", value, detail
