"""From the data and the user's options to a model, an objective and a training, each choice with its reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from .data import Schema
from .errors import OptionError
from .evaluation import evidence_of
from .hardware import can_compile, describe_device, fast_bf16, find_device
from .roles import Objective
from .train import Pace, TrainOptions
from .zoo import entry_of
from .zoo.entry import Built, Choice, Context
from .zoo.options import FitOptions, VAEOptions
from .zoo.pieces import elbo
from .zoo.pieces.networks import MANY_ROWS, is_convolutional

__all__ = ["Choice", "FitOptions", "Plan", "choose", "parse_options"]

# `python -m benchmarks.choices` measures changes of these; docs/choices.md holds what was measured last.
_BATCH = 250
_RATE = 2e-3
_EXAMPLES = 6_000_000
_LEAST_STEPS = 4_800  # few rows make few batches, and a scale has a long way from one to a small noise
_BF16_FROM = 300_000  # parameters
_COMPILE_FROM = 5_000  # steps
_DENSE_VALUES = 12 * 10**9  # decoded in the final scoring: samples × rows × values in a row
_CONV_VALUES = 15 * 10**8
_SAMPLED = ("lower", "predictive")  # what is scored with samples of the latents


def parse_options(values: dict[str, Any]) -> FitOptions:
    """Checks options; ``model`` says whose they are.

    Raises:
        OptionError: If one is unknown or out of range; the message names it as on the command line.

    Example:
        >>> parse_options({"latents": 10}).latents
        10
    """
    kind = entry_of(str(values.get("model", "vae"))).options_class()
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + str(first["loc"][0]).replace("_", "-")
        if first["type"] == "extra_forbidden":
            model = values.get("model", "vae")
            raise OptionError(
                f"{name} is no option of {model}: jensen fit --model {model} --help lists its own."
            ) from error
        text = first["msg"].removeprefix("Value error, ")
        raise OptionError(f"{name} cannot be {first['input']!r}: {text[0].lower()}{text[1:]}.") from error


@dataclass(frozen=True)
class Plan:
    """A model, an objective and a training, where they run, and the choices that led to them."""

    model: Any
    objective: Objective
    training: TrainOptions
    checkpoint_every: int
    samples: int
    device: torch.device
    choices: list[Choice]


def choose(
    schema: Schema,
    count: int,
    options: FitOptions,
    model: Any = None,
    *,
    scored: int = 0,
    timed: Callable[[Plan], Pace] | None = None,
    classes: int = 0,
) -> Plan:
    """Chooses what to train.

    Arguments:
        schema: What a row is.
        count: The number of training rows.
        options: What the user wants.
        model: The user's own model, if the choice is not to be ours.
        scored: The number of rows that are scored at the end.
        timed: Measures the pace of a plan, for a time budget.
        classes: The number of different labels of the rows; 0 where they have none.

    Raises:
        OptionError: If options contradict the data, the model or one another.
    """
    context = Context(schema, count, options, classes=classes)
    if model is None:
        entry = entry_of(options.model)
        context.chose("model", entry.name, entry.summary, "--model")
        built = entry.build(context)
    else:
        built = _own_model(model, context)
    device = find_device(options.device)
    _check_lengths(options)

    def plan(steps: int, reason: str, *, compiled: bool | None = None) -> Plan:
        made = [*context.choices]
        objective, text = built.objective(steps)
        _check_batches(count, options, objective)
        made.append(Choice("objective", text, "what is optimised", "--model"))
        if options.compile == "on" and getattr(objective, "compiles", True) is False:
            raise OptionError(
                "--compile on: the objective changes gradients on their way, or what is trained, which a compiled step "
                "would leave out. Use --compile off, or --estimator reparameterised without --aggressive."
            )
        compiles = built.compiles and getattr(objective, "compiles", False)
        computing = _computing(built, device, steps, options, made, compiles=compiles, compiled=compiled)
        training = _training(count, steps, reason, built, options, computing, made)
        every = options.checkpoint_every or _every(training)
        sampled = evidence_of(built.model) in _SAMPLED
        if options.samples is not None and not sampled:
            made.append(Choice("scoring", "without samples", "there is no bound on log p(x) that has a K", "--samples"))
        samples = _samples(schema, scored, options, made if sampled else [])
        return Plan(built.model, objective, training, every, samples, device, made)

    if options.time_budget is None:
        return plan(*_length(count, options, built.epochs))
    if timed is None:
        raise OptionError("a time budget needs data to measure the pace on.")
    # A warm-up that is longer than the usual training may still be shorter than this one.
    usual = max(_length(count, options, built.epochs)[0], (getattr(options, "kl_warmup", None) or 0) + 1)
    pace, steps, compiled = _paced(plan(usual, ""), timed, options.time_budget, count, options)
    first = plan(steps, "")
    if first.training.compiled != compiled:
        pace, steps, compiled = _paced(first, timed, options.time_budget, count, options)
    reason = f"what fits into {options.time_budget:g} s at {1000 * pace.step:.3g} ms per step"
    return plan(steps, reason, compiled=compiled)


def _paced(
    plan: Plan, timed: Callable[[Plan], Pace], budget: float, count: int, options: FitOptions
) -> tuple[Pace, int, bool]:
    """The pace of a plan, the steps that fit into the time at that pace, and whether they were compiled."""
    pace = timed(plan)
    steps = pace.steps(budget, lambda steps: _validate_every(steps, count, options))
    return pace, steps, plan.training.compiled


def _own_model(model: Any, context: Context) -> Built:
    plain = VAEOptions()
    for name in ("model", "likelihood", "noise", "posterior", "prior", "network", "hidden", "latents"):
        if getattr(context.options, name, None) != getattr(plain, name):
            raise OptionError(f"{name}= is an option of the model that would be chosen; it cannot change your own.")
    context.chose("model", type(model).__name__, "your own", "model")
    return Built(model, elbo(context))


def _computing(
    built: Built,
    device: torch.device,
    steps: int,
    options: FitOptions,
    choices: list[Choice],
    *,
    compiles: bool,
    compiled: bool | None,
) -> dict[str, Any]:
    """Precision and compilation, from the device, the size of the model and the length of the training.

    Whether it is compiled may be known already.
    """
    large = parameters_of(built.model) >= _BF16_FROM if built.large is None else built.large
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if large and fast_bf16(device) else "fp32"
    long = steps >= _COMPILE_FROM and compiles and (large or device.type == "cuda")
    if compiled is None:
        compiled = options.compile == "on" or (options.compile == "auto" and long and can_compile(device))
    if compiled and not can_compile(device):
        raise OptionError("--compile on needs a C++ compiler (or triton on a GPU) that works. Use --compile off.")
    text = f"{describe_device(device)}, networks in {precision}" + (", compiled" if compiled else "")
    asked = (options.device, options.precision, options.compile) != ("auto", "auto", "auto")
    reason = "asked for" if asked else "densities and weights are always fp32"
    choices.append(Choice("computing", text, reason, "--device, --precision, --compile"))
    return {"precision": precision, "compiled": compiled}


def _check_lengths(options: FitOptions) -> None:
    given = [f"--{n.replace('_', '-')}" for n in ("epochs", "steps", "time_budget") if getattr(options, n) is not None]
    if len(given) > 1:
        raise OptionError(f"give only one of {' and '.join(given)}.")


def _batch(count: int, options: FitOptions) -> int:
    return min(options.batch_size or (_BATCH if count >= MANY_ROWS else 128), count)


def _batches(count: int, options: FitOptions) -> int:
    return -(-count // _batch(count, options))


def _check_batches(count: int, options: FitOptions, objective: Objective) -> None:
    """Refuses batches that an objective can make nothing of; those of an epoch differ by one row at most."""
    least, smallest = getattr(objective, "least_batch", 1), count // _batches(count, options)
    if smallest < least:
        raise OptionError(
            f"--batch-size {_batch(count, options)} cuts {count} training rows into batches of down to {smallest}; "
            f"{type(objective).__name__} compares the rows of a batch, at least {least}. Use larger batches, or more "
            "rows."
        )


def _length(count: int, options: FitOptions, suited: float | None = None) -> tuple[int, str]:
    """The number of steps, and why; ``suited`` epochs where the model knows how many suit it."""
    if options.steps is not None:
        return options.steps, "asked for"
    if options.epochs:
        return max(1, round(options.epochs * _batches(count, options))), "asked for"
    if suited:
        return max(1, round(suited * _batches(count, options))), f"{suited:g} epochs suit the model"
    epochs = min(400.0, max(20.0, _EXAMPLES / count))
    return max(_LEAST_STEPS, round(epochs * _batches(count, options))), f"{count} training rows"


def _training(
    count: int,
    steps: int,
    reason: str,
    built: Built,
    options: FitOptions,
    computing: dict[str, Any],
    choices: list[Choice],
) -> TrainOptions:
    batch, per_epoch = _batch(count, options), _batches(count, options)
    rate = options.learning_rate or built.rate or (_RATE if count >= MANY_ROWS else 1e-3)
    extras = [
        "constant" if options.constant_rate else "falling to 0",
        *([f"weight decay {options.weight_decay:g}"] if options.weight_decay else []),
        *([f"weights averaged with decay {options.average:g}"] if options.average else []),
        *([f"stopping after {options.patience} validations without a gain"] if options.patience else []),
    ]
    text = f"{steps} steps of {batch} rows ({steps / per_epoch:.4g} epochs), Adam, rate {rate:g} {', '.join(extras)}"
    choices.append(Choice("training", text, reason, "--epochs, --time-budget, --batch-size, --learning-rate"))
    return TrainOptions(
        steps=steps,
        batch_size=batch,
        learning_rate=rate,
        decay=not options.constant_rate,
        warmup=min(steps - 1, per_epoch, 200),
        weight_decay=options.weight_decay,
        clip=options.clip,
        average=options.average,
        patience=options.patience,
        validate_every=_validate_every(steps, count, options),
        seed=options.seed,
        **computing,
    )


def _validate_every(steps: int, count: int, options: FitOptions) -> int:
    """Steps between two validations: an epoch, or a hundredth of all where that is longer."""
    return options.validate_every or max(_batches(count, options), math.ceil(steps / 100))


def _samples(schema: Schema, scored: int, options: Any, choices: list[Choice]) -> int:
    """The number of samples of the final bound, within what a machine decodes in minutes."""
    if options.samples is not None:
        return int(options.samples)
    values = _CONV_VALUES if is_convolutional(schema, options) else _DENSE_VALUES
    decoded = schema.size * (schema.levels if schema.kind == "tokens" else 1)
    samples = max(100, min(1000, values // max(1, scored * decoded)))
    choices.append(Choice("scoring", f"K = {samples}", f"{scored:,} rows of {schema.size} values", "--samples"))
    return samples


def _every(training: TrainOptions) -> int:
    """Steps between two checkpoints: as often as ten validations."""
    return 10 * training.validate_every


def parameters_of(model: nn.Module) -> int:
    """The number of trained parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
