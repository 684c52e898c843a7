"""``jensen fit``."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable
from types import FrameType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from cyclopts import Parameter
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from ..run import Run, SeedRuns

from ..numbers import QUANTITIES
from ..zoo import entry_of
from .show import ConsoleObserver, Flag, Whole, evaluation_table, print_json, seconds_of

__all__ = ["command"]


class _Stopper:
    """Turns signals into a stop after the current step while training runs; a second Ctrl-C quits at once."""

    def __init__(self) -> None:
        self.training = False
        self.received: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.training and self.received is None:
            self.received = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            sys.exit(128 + number)

    def __call__(self) -> bool:
        self.training = True
        return self.received is not None

    def leave(self, *, finished: bool) -> None:
        """Ends the program with the code of the signal that stopped a fit."""
        if self.received is not None and not finished:
            sys.exit(130 if self.received == signal.SIGINT else 75)


class _Observer(ConsoleObserver):
    def __init__(self, stopper: _Stopper) -> None:
        super().__init__()
        self.stopper = stopper

    def phase(self, text: str) -> None:
        self.stopper.training = False
        super().phase(text)


def command(model: str) -> Callable[..., None]:
    """``jensen fit`` with the options of one model."""

    def fit(data: str | None = None, /, **given: Any) -> None:
        _fit(data, **{name: value for name, value in given.items() if value is not None})

    fit.__doc__ = _HELP
    own = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(name, field))
        for name, field in entry_of(model).options_class().model_fields.items()
    ]
    plain = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _RUN_OPTIONS.items()
    ]
    place = inspect.Parameter("data", inspect.Parameter.POSITIONAL_ONLY, default=None, annotation=str | None)
    fit.__signature__ = inspect.Signature([place, *plain, *own])  # type: ignore[attr-defined]
    return fit


_RUN_OPTIONS: dict[str, tuple[Any, Any]] = {
    "out": (str | None, None),
    "resume": (str | None, None),
    "stop_after": (Whole | None, None),
    "seeds": (Whole | None, None),
    "profile": (Flag, False),
    "download": (Flag, False),
    "json": (Flag, False),
}
_HELP = """Fit a model to data, measure it on held-out rows, and save everything in one folder.

Parameters
----------
data
    A name (digits, mnist, mnist-static, fashion-mnist, or a folder in $JENSEN_DATA), a folder of images, whose
    sub-folders name their labels, a .txt file with a sentence in each line, or a .npy, .npz or idx file.
out
    The run folder, which must not exist; by default runs/NAME, then runs/NAME-2.
resume
    Go on with this run from its newest checkpoint, with data only where they have moved; takes no other options but
    --stop-after, --profile and --json, and of several seeds only --json.
stop_after
    Stop, resumable, once this many steps are taken in all.
seeds
    Fit this many times, with seeds that follow one another, and report mean and standard deviation over the runs.
profile
    Measure where the time of the training goes.
download
    Fetch a named data set that is not there.
json
    Print the result as one JSON object on stdout.
"""
_TEXTS = ("hidden", "groups", "dilations", "time_budget")
"""Options that are written as text and turned into numbers here."""


def _annotation(name: str, field: FieldInfo) -> Any:
    """What the command line takes for an option: numbers are checked later, with a message of their own."""
    kinds = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else (field.annotation,)
    kind = next(k for k in kinds if k is not type(None))
    text = Parameter(help=field.description)
    if name in _TEXTS:
        return Annotated[str | None, text]
    if kind is bool:
        # What is on unless it is asked otherwise has a --no-NAME.
        negative = None if field.default is True else ()
        return Annotated[bool | None, Parameter(help=field.description, negative=negative)]
    if kind is int:
        return Annotated[Whole | None, text]
    return Annotated[kind | None, text]


def _fit(
    data: str | None,
    *,
    out: str | None = None,
    resume: str | None = None,
    stop_after: int | None = None,
    seeds: int | None = None,
    profile: bool = False,
    download: bool = False,
    json: bool = False,
    **given: Any,
) -> None:
    from .. import run as runs
    from ..errors import OptionError

    for name in ("hidden", "groups", "dilations"):
        if name in given:
            given[name] = _widths(name, given[name])
    if "time_budget" in given:
        given["time_budget"] = seconds_of(given["time_budget"])
    stopper = _Stopper()
    observer = _Observer(stopper)
    if (data is None and resume is None) or resume == "":
        raise OptionError(
            "give data to fit, such as: jensen fit digits; or a run to go on with: jensen fit --resume RUN."
        )
    if resume is not None:
        changed = [
            *given,
            *(["out"] if out else []),
            *(["download"] if download else []),
            *(["seeds"] if seeds else []),
        ]
        if changed:
            named = ", ".join("--" + name.replace("_", "-") for name in changed)
            raise OptionError(f"--resume goes on with the options of the run; {named} cannot be changed.")
        _resume(resume, data, stop_after, observer, stopper, profile=profile, json=json)
    elif seeds is not None:
        _one_fit_only(stop_after, profile=profile)
        several = runs.fit_seeds(
            data or "", seeds, out=out, download=download, should_stop=stopper, observer=observer, **given
        )
        _finish_seeds(several, observer, stopper, json=json)
    else:
        done = runs.fit(
            data or "",
            out=out,
            download=download,
            stop_after=stop_after,
            should_stop=stopper,
            observer=observer,
            profile=profile,
            **given,
        )
        _finish(done, observer, stopper, json=json)


def _one_fit_only(stop_after: int | None, *, profile: bool) -> None:
    """Refuses for several fits what is about one."""
    from ..errors import OptionError

    if stop_after is not None or profile:
        raise OptionError("--seeds fits several times; --stop-after and --profile look at one fit.")


def _resume(
    path: str,
    data: str | None,
    stop_after: int | None,
    observer: ConsoleObserver,
    stopper: _Stopper,
    *,
    profile: bool,
    json: bool,
) -> None:
    from .. import run as runs

    if runs.is_seed_runs(path):
        _one_fit_only(stop_after, profile=profile)
        several = runs.resume_seeds(path, data, should_stop=stopper, observer=observer)
        _finish_seeds(several, observer, stopper, json=json)
        return
    done = runs.resume(path, data, stop_after=stop_after, should_stop=stopper, observer=observer, profile=profile)
    _finish(done, observer, stopper, json=json)


def _finish(done: Run, observer: ConsoleObserver, stopper: _Stopper, *, json: bool) -> None:
    observer.close()
    _show(done, observer, json=json)
    stopper.leave(finished=done.finished)


def _show(done: Run, observer: ConsoleObserver, *, json: bool) -> None:
    from ..run.following import what_follows
    from ..saving import to_resume

    if not done.finished:
        observer.say(f"stopped after step {done.step}; saved. Go on with: {to_resume(done.path)}")
        if json:
            print_json({"run": str(done.path), "steps": done.step, "finished": False})
        return
    observer.console.print(evaluation_table(done.result))
    ahead = [name for name, row in done.result["baselines"].items() if row["difference"] < 0]
    if ahead:
        observer.console.print(
            f"note: better on these test rows than the model: {', '.join(ahead)}. Look at curves.png: if the bound on "
            "validation rows still rises, train longer (--epochs) or faster (--learning-rate)."
        )
    drawn = ", ".join(path.name for path in sorted(done.path.glob("*.png")))
    written = "".join(f", {path.name}" for path in sorted(done.path.glob("*.txt")))
    following = " · ".join(what_follows(done))
    observer.say(f"in {done.path}: {drawn}{written}\nnext: {following}")
    if json:
        print_json(done.result)


def _finish_seeds(done: SeedRuns, observer: ConsoleObserver, stopper: _Stopper, *, json: bool) -> None:
    from ..saving import to_resume

    observer.close()
    if not done.finished:
        observer.say(f"stopped; saved. Go on with: {to_resume(done.path)}")
    else:
        for name, row in done.summary["test"].items():
            label = QUANTITIES[name] + (" ≥" if name == "log_likelihood" and row["kind"] == "lower" else "")
            text = f"{row['mean']:.2f} ± {row['sd']:.2f} {row['unit']} (mean ± standard deviation of {row['runs']} runs"
            observer.say(f"{label} {text}" + (")" if row["k"] is None else f", K = {row['k']})"))
    if json:
        print_json(done.summary or {"run": str(done.path), "finished": False})
    stopper.leave(finished=done.finished)


def _widths(name: str, text: str) -> tuple[int, ...]:
    from ..errors import OptionError

    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(f"--{name} cannot be {text!r}; expected numbers such as 500,500, or 0 for none.") from error
    return () if widths == (0,) else widths
