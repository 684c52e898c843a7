"""``jensen fit``."""

from __future__ import annotations

import re
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from ..run import SeedRuns

from .show import ConsoleObserver, Flag, Whole, evaluation_table, print_json

__all__ = ["fit"]


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


def fit(
    data: str | None = None,
    /,
    *,
    out: str | None = None,
    resume: str | None = None,
    likelihood: Literal["auto", "bernoulli", "categorical", "discretized-logistic", "normal"] | None = None,
    noise: float | None = None,
    posterior: Literal["auto", "diagonal", "full"] | None = None,
    network: Literal["auto", "mlp", "gated", "residual", "conv"] | None = None,
    hidden: str | None = None,
    latents: Whole | None = None,
    k: Whole | None = None,
    beta: float | None = None,
    kl_warmup: Whole | None = None,
    free_bits: float | None = None,
    sampled_kl: Annotated[bool | None, Parameter(negative=())] = None,
    epochs: float | None = None,
    steps: Whole | None = None,
    time_budget: str | None = None,
    batch_size: Whole | None = None,
    learning_rate: float | None = None,
    constant_rate: Annotated[bool | None, Parameter(negative=())] = None,
    weight_decay: float | None = None,
    clip: float | None = None,
    average: float | None = None,
    patience: Whole | None = None,
    validate_every: Whole | None = None,
    checkpoint_every: Whole | None = None,
    stop_after: Whole | None = None,
    seed: Whole | None = None,
    seeds: Whole | None = None,
    data_seed: Whole | None = None,
    binarisation: Literal["none", "static", "dynamic", "threshold"] | None = None,
    key: str | None = None,
    image_size: Whole | None = None,
    samples: Whole | None = None,
    device: str | None = None,
    precision: Literal["auto", "fp32", "bf16"] | None = None,
    compile: Literal["auto", "on", "off"] | None = None,  # noqa: A002 (the option's name)
    profile: Flag = False,
    download: Flag = False,
    json: Flag = False,
) -> None:
    """Fit a model to data, measure it on held-out rows, and save everything in one folder.

    Parameters
    ----------
    data
        A name (digits, mnist, mnist-static, fashion-mnist, or a folder in $JENSEN_DATA), a folder of images, whose
        sub-folders name their labels, or a .npy, .npz or idx file.
    out
        The run folder, which must not exist; by default runs/NAME, then runs/NAME-2.
    resume
        Go on with this run from its newest checkpoint; takes no data and no other options but --stop-after and --json.
    likelihood
        The distribution p(x|z); by default from the values.
    noise
        A fixed standard deviation of a normal likelihood, in units of standardised data; by default it is learned.
    posterior
        The covariance of q(z|x).
    network
        Dense, gated dense, residual dense or convolutional.
    hidden
        The widths of the hidden layers of the encoder, such as 500,500; 0 for none.
    latents
        The number of latents.
    k
        The number of samples of the ELBO in training.
    beta
        The weight of the KL in the loss.
    kl_warmup
        The number of steps in which the weight of the KL rises from zero; by default a quarter of all, 0 for none.
    free_bits
        The nats per latent below which the KL costs nothing.
    sampled_kl
        Estimate the KL from samples instead of its formula.
    epochs
        How often each training row is seen.
    steps
        The number of steps, instead of --epochs.
    time_budget
        The time to train, validations included, instead of --epochs: such as 90s, 10m or 1.5h. It is turned into a
        number of steps before the first one, and no clock decides anything after that.
    batch_size
        The largest number of rows in a batch.
    learning_rate
        The peak of the learning rate.
    constant_rate
        Keep the learning rate at its peak, rather than let it fall along half a cosine.
    weight_decay
        The decoupled weight decay (AdamW).
    clip
        Shorten gradients that are longer than this multiple of their usual length; 0 for never.
    average
        The decay of a moving average of the weights, which is then validated and kept, such as 0.999.
    patience
        Stop after this many validations in a row without a better bound.
    validate_every
        The number of steps between two validations.
    checkpoint_every
        The number of steps between two checkpoints.
    stop_after
        Stop, resumable, once this many steps are taken in all.
    seed
        The seed of initial weights, order and noise.
    seeds
        Fit this many times, with seeds that follow one another, and report mean and standard deviation over the runs.
    data_seed
        The seed of splits and of frozen binarisation.
    binarisation
        How grey values become zeros and ones.
    key
        Which array of an .npz file to take.
    image_size
        The height and width that the images of a folder are made to, from 4 to 1024 pixels; by default 64, or the
        median short side where that is smaller.
    samples
        The number of samples K of the final bound on log p(x); by default up to 1000, fewer for many or large rows.
    device
        Where to compute: auto, cpu, cuda or another name that torch knows.
    precision
        What the networks compute in while training; densities, weights and all reported numbers are fp32 or better.
    compile
        Compile the step with torch.compile.
    profile
        Measure where the time of the training goes.
    download
        Fetch a named data set that is not there.
    json
        Print the result as one JSON object on stdout.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    for name in (
        "data",
        "out",
        "resume",
        "stop_after",
        "download",
        "json",
        "hidden",
        "time_budget",
        "seeds",
        "profile",
    ):
        given.pop(name, None)
    from .. import run as runs
    from ..errors import OptionError

    if hidden is not None:
        given["hidden"] = _widths(hidden)
    if time_budget is not None:
        given["time_budget"] = _seconds(time_budget)
    stopper = _Stopper()
    observer = _Observer(stopper)
    if (data is None) == (resume is None) or resume == "":
        raise OptionError(
            "give data to fit, such as: jensen fit digits; or a run to go on with: jensen fit --resume RUN."
        )
    if resume is not None:
        if given or out or download or seeds:
            named = ", ".join("--" + name.replace("_", "-") for name in [*given, *(["out"] if out else [])])
            raise OptionError(
                f"--resume goes on with the options of the run; {named or '--download or --seeds'} cannot be changed."
            )
        if runs.is_seed_runs(resume):
            _finish_seeds(
                runs.resume_seeds(resume, should_stop=stopper, observer=observer), observer, stopper, json=json
            )
            return
        done = runs.resume(resume, stop_after=stop_after, should_stop=stopper, observer=observer, profile=profile)
    elif seeds is not None:
        if stop_after is not None or profile:
            raise OptionError("--seeds fits several times; --stop-after and --profile look at one fit.")
        several = runs.fit_seeds(
            data or "", seeds, out=out, download=download, should_stop=stopper, observer=observer, **given
        )
        _finish_seeds(several, observer, stopper, json=json)
        return
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
    observer.close()
    _finish(done, observer, json=json)
    stopper.leave(finished=done.finished)


def _finish(done: object, observer: ConsoleObserver, *, json: bool) -> None:
    from ..run import SCHEMA_VERSION, Run

    if not isinstance(done, Run):
        return
    if not done.finished:
        observer.say(f"stopped after step {done.step}; saved. Go on with: jensen fit --resume {done.path}")
        if json:
            print_json({"schema_version": SCHEMA_VERSION, "run": str(done.path), "steps": done.step, "finished": False})
        return
    observer.console.print(evaluation_table(done.result))
    ahead = [name for name, row in done.result["baselines"].items() if row["difference"] < 0]
    if ahead:
        observer.console.print(
            f"note: better on these test rows than the model: {', '.join(ahead)}. Look at curves.png: if the bound on "
            "validation rows still rises, train longer (--epochs) or faster (--learning-rate)."
        )
    observer.say(
        f"pictures: {done.path}/inputs.png, reconstructions.png, samples.png, curves.png\n"
        f"next: jensen sample {done.path} -n 16 --out new.png · jensen evaluate {done.path}"
    )
    if json:
        print_json(done.result)


def _finish_seeds(done: SeedRuns, observer: ConsoleObserver, stopper: _Stopper, *, json: bool) -> None:
    observer.close()
    if not done.finished:
        observer.say(f"stopped; saved. Go on with: jensen fit --resume {done.path}")
    else:
        for name, label in (("elbo", "ELBO"), ("log_likelihood", "log p(x) ≥")):
            row = done.summary["test"][name]
            text = f"{row['mean']:.2f} ± {row['sd']:.2f} {row['unit']} (mean ± standard deviation of {row['runs']} runs"
            observer.say(f"{label} {text}, K = {row['k']})")
    if json:
        print_json(done.summary or {"run": str(done.path), "finished": False})
    stopper.leave(finished=done.finished)


def _seconds(text: str) -> float:
    from ..errors import OptionError

    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)\s*(s|m|h|)", text.strip().lower())
    if found is None or float(found[1]) <= 0:
        raise OptionError(f"--time-budget cannot be {text!r}; expected a time such as 90s, 10m or 1.5h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _widths(text: str) -> tuple[int, ...]:
    from ..errors import OptionError

    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(f"--hidden cannot be {text!r}; expected widths such as 500,500, or 0 for none.") from error
    return () if widths == (0,) else widths
