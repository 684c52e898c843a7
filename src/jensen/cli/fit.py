"""``jensen fit``."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated, Literal

from cyclopts import Parameter

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
    posterior: Literal["diagonal", "full"] | None = None,
    network: Literal["auto", "mlp", "conv"] | None = None,
    hidden: str | None = None,
    latents: Whole | None = None,
    k: Whole | None = None,
    beta: float | None = None,
    kl_warmup: Whole | None = None,
    free_bits: float | None = None,
    sampled_kl: Annotated[bool | None, Parameter(negative=())] = None,
    epochs: float | None = None,
    steps: Whole | None = None,
    batch_size: Whole | None = None,
    learning_rate: float | None = None,
    validate_every: Whole | None = None,
    checkpoint_every: Whole | None = None,
    stop_after: Whole | None = None,
    seed: Whole | None = None,
    data_seed: Whole | None = None,
    binarisation: Literal["none", "static", "dynamic", "threshold"] | None = None,
    key: str | None = None,
    samples: Whole | None = None,
    download: Flag = False,
    json: Flag = False,
) -> None:
    """Fit a model to data, measure it on held-out rows, and save everything in one folder.

    Parameters
    ----------
    data
        A name (digits, mnist, mnist-static, fashion-mnist, or a folder in $JENSEN_DATA), or a .npy, .npz or idx file.
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
        Dense or convolutional.
    hidden
        The widths of the hidden layers of the encoder, such as 500,500; 0 for none.
    latents
        The number of latents.
    k
        The number of samples of the ELBO in training.
    beta
        The weight of the KL in the loss.
    kl_warmup
        The number of steps in which the weight of the KL rises from zero.
    free_bits
        The nats per latent below which the KL costs nothing.
    sampled_kl
        Estimate the KL from samples instead of its formula.
    epochs
        How often each training row is seen.
    steps
        The number of steps, instead of --epochs.
    batch_size
        The largest number of rows in a batch.
    learning_rate
        The peak of the learning rate.
    validate_every
        The number of steps between two validations.
    checkpoint_every
        The number of steps between two checkpoints.
    stop_after
        Stop, resumable, once this many steps are taken in all.
    seed
        The seed of initial weights, order and noise.
    data_seed
        The seed of splits and of frozen binarisation.
    binarisation
        How grey values become zeros and ones.
    key
        Which array of an .npz file to take.
    samples
        The number of samples K of the final bound on log p(x).
    download
        Fetch a named data set that is not there.
    json
        Print the result as one JSON object on stdout.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    for name in ("data", "out", "resume", "stop_after", "download", "json", "hidden"):
        given.pop(name, None)
    from .. import run as runs
    from ..errors import OptionError

    if hidden is not None:
        given["hidden"] = _widths(hidden)
    stopper = _Stopper()
    observer = _Observer(stopper)
    if (data is None) == (resume is None) or resume == "":
        raise OptionError(
            "give data to fit, such as: jensen fit digits; or a run to go on with: jensen fit --resume RUN."
        )
    if resume is not None:
        if given or out or download:
            named = ", ".join("--" + name.replace("_", "-") for name in [*given, *(["out"] if out else [])])
            raise OptionError(
                f"--resume goes on with the options of the run; {named or '--download'} cannot be changed."
            )
        done = runs.resume(resume, stop_after=stop_after, should_stop=stopper, observer=observer)
    else:
        done = runs.fit(
            data or "",
            out=out,
            download=download,
            stop_after=stop_after,
            should_stop=stopper,
            observer=observer,
            **given,
        )
    observer.close()
    _finish(done, observer, json=json)
    if stopper.received is not None and not done.finished:
        sys.exit(130 if stopper.received == signal.SIGINT else 75)


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


def _widths(text: str) -> tuple[int, ...]:
    from ..errors import OptionError

    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(f"--hidden cannot be {text!r}; expected widths such as 500,500, or 0 for none.") from error
    return () if widths == (0,) else widths
