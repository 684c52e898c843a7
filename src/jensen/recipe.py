"""From the data and the user's options to a model, an objective and a training, each choice with its reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import nn

from . import families, nets, objectives, priors, schedules
from .conditional import Conditional
from .data import Schema
from .data.schema import Binarisation
from .errors import OptionError
from .hardware import can_compile, describe_device, fast_bf16, find_device
from .model import VAE
from .noise import seeded
from .train import Pace, TrainOptions

__all__ = ["Choice", "FitOptions", "Plan", "choose", "parse_options"]

# `python -m benchmarks.choices` measures changes of these; docs/choices.md holds what was measured last.
_CONV_FROM = 2048  # values in a row
_MANY = 10_000  # rows
_BATCH = 250
_RATE = 2e-3
_EXAMPLES = 11_000_000
_LEAST_STEPS = 4_800  # few rows make few batches, and a scale has a long way from one to a small noise
_RISING = 0.25  # of the steps
_FULL_UP_TO = 64  # latents
_BF16_FROM = 300_000  # parameters
_COMPILE_FROM = 5_000  # steps
_DENSE_VALUES = 12 * 10**9  # decoded in the final scoring: samples × rows × values in a row
_CONV_VALUES = 15 * 10**8
_MAX_PARAMETERS = 2 * 10**9

LikelihoodName = Literal["auto", "bernoulli", "categorical", "discretized-logistic", "normal"]


class FitOptions(BaseModel):
    """The options of ``jensen fit``; None means that the data decide."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    likelihood: LikelihoodName = "auto"
    noise: float | None = Field(default=None, ge=1e-6, le=1e6, allow_inf_nan=False)
    posterior: Literal["auto", "diagonal", "full"] = "auto"
    network: Literal["auto", "mlp", "gated", "residual", "conv"] = "auto"
    hidden: tuple[int, ...] | None = None
    latents: int | None = Field(default=None, ge=1, le=4096)
    k: int = Field(default=1, ge=1, le=1000)
    beta: float = Field(default=1.0, gt=0, le=1e6, allow_inf_nan=False)
    kl_warmup: int | None = Field(default=None, ge=0, le=10**9)
    free_bits: float = Field(default=0.0, ge=0, le=1e6, allow_inf_nan=False)
    sampled_kl: bool = False
    epochs: float | None = Field(default=None, gt=0, le=10**7, allow_inf_nan=False)
    steps: int | None = Field(default=None, ge=1, le=10**9)
    time_budget: float | None = Field(default=None, gt=0, le=10**8, allow_inf_nan=False)
    batch_size: int | None = Field(default=None, ge=1, le=10**7)
    learning_rate: float | None = Field(default=None, gt=0, le=10, allow_inf_nan=False)
    constant_rate: bool = False
    weight_decay: float = Field(default=0.0, ge=0, le=10, allow_inf_nan=False)
    clip: float = Field(default=5.0, ge=0, le=1e6, allow_inf_nan=False)
    average: float = Field(default=0.0, ge=0, lt=1)
    patience: int | None = Field(default=None, ge=1, le=10**9)
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    validate_every: int | None = Field(default=None, ge=1, le=10**9)
    checkpoint_every: int | None = Field(default=None, ge=1, le=10**9)
    seed: int = Field(default=0, ge=0, lt=2**62)
    data_seed: int = Field(default=0, ge=0, lt=2**62)
    binarisation: Binarisation | None = None
    key: str | None = None
    image_size: int | None = Field(default=None, ge=4, le=1024)
    samples: int | None = Field(default=None, ge=1, le=10**6)

    @field_validator("hidden")
    @classmethod
    def _check_hidden(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and not all(1 <= width <= 65536 for width in value):
            raise ValueError("each width lies between 1 and 65536")
        return value


def parse_options(values: dict[str, Any]) -> FitOptions:
    """Checks options.

    Raises:
        OptionError: If one is unknown or out of range; the message names it as on the command line.

    Example:
        >>> parse_options({"latents": 10}).latents
        10
    """
    try:
        return FitOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + str(first["loc"][0]).replace("_", "-")
        text = first["msg"].removeprefix("Value error, ")
        raise OptionError(f"{name} cannot be {first['input']!r}: {text[0].lower()}{text[1:]}.") from error


@dataclass(frozen=True)
class Choice:
    """One choice: what it is, its value, why, and the option that changes it."""

    what: str
    value: str
    reason: str
    option: str


@dataclass(frozen=True)
class Plan:
    """A model, an objective and a training, where they run, and the choices that led to them."""

    model: Any
    objective: objectives.ELBO
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
) -> Plan:
    """Chooses what to train.

    Arguments:
        schema: What a row is.
        count: The number of training rows.
        options: What the user wants.
        model: The user's own model, if the choice is not to be ours.
        scored: The number of rows that are scored at the end.
        timed: Measures the pace of a plan, for a time budget.

    Raises:
        OptionError: If options contradict the data, the model or one another.
    """
    choices: list[Choice] = []
    if model is None:
        family = _likelihood(schema, options, choices)
        latents = _latents(schema, count, options, choices)
        model = _model(schema, count, family, latents, options, choices)
    else:
        _own_model(model, options, choices)
    device = find_device(options.device)
    _check_lengths(options)

    def plan(steps: int, reason: str) -> Plan:
        made = [*choices]
        computing = _computing(model, device, steps, options, made)
        training = _training(count, steps, reason, options, computing, made)
        objective = _objective(training, options, made)
        every = options.checkpoint_every or _every(training)
        return Plan(model, objective, training, every, _samples(schema, scored, options, made), device, made)

    if options.time_budget is None:
        return plan(*_length(count, options))
    if timed is None:
        raise OptionError("a time budget needs data to measure the pace on.")
    pace = timed(plan(_length(count, options)[0], ""))
    steps = pace.steps(options.time_budget, _batches(count, options))
    return plan(steps, f"what fits into {options.time_budget:g} s at {1000 * pace.step:.3g} ms per step")


def _own_model(model: Any, options: FitOptions, choices: list[Choice]) -> None:
    plain = FitOptions()
    for name in ("likelihood", "noise", "posterior", "network", "hidden", "latents"):
        if getattr(options, name) != getattr(plain, name):
            raise OptionError(f"{name}= is an option of the model that would be chosen; it cannot change your own.")
    choices.append(Choice("model", type(model).__name__, "your own", "model="))


def _likelihood(schema: Schema, options: FitOptions, choices: list[Choice]) -> Any:
    name = options.likelihood
    if name == "auto":
        name = "bernoulli" if schema.binary else "discretized-logistic" if schema.kind == "binned" else "normal"
    reasons = {
        "bernoulli": "the model sees zeros and ones",
        "discretized-logistic": f"values lie on {schema.levels} levels; a mass, so bits/dim is exact",
        "categorical": f"a free probability for each of {schema.levels} levels",
        "normal": "values are continuous; one learned σ for all dimensions" if options.noise is None else "σ is given",
    }
    if name != "normal" and options.noise is not None:
        raise OptionError(
            f"--noise is the σ of a normal likelihood; the likelihood is {name}. Use --likelihood normal."
        )
    if name == "bernoulli" and not schema.binary:
        raise OptionError(
            f"--likelihood bernoulli needs zeros and ones; {schema.name} is {schema.kind}"
            + (
                f" with {schema.levels} levels. Use --binarisation dynamic, static or threshold, or "
                "--likelihood discretized-logistic."
                if schema.kind == "binned"
                else ". Use --likelihood normal."
            )
        )
    if name in ("categorical", "discretized-logistic") and schema.kind == "continuous":
        raise OptionError(
            f"--likelihood {name} needs values on a grid; {schema.name} is continuous. Use --likelihood normal."
        )
    if name == "normal" and schema.kind != "continuous":
        raise OptionError(
            f"--likelihood normal is a density, which has no bound on the zeros and ones that {schema.name} is turned "
            "into. Use --binarisation none with it, or --likelihood bernoulli."
        )
    choices.append(
        Choice(
            "likelihood",
            name,
            reasons[name] if options.likelihood == "auto" or name == "normal" else f"asked for: {reasons[name]}",
            "--likelihood",
        )
    )
    shape, levels = schema.event_shape, 2 if schema.binary else schema.levels
    match name:
        case "bernoulli":
            return families.Bernoulli(shape)
        case "discretized-logistic":
            return families.DiscretizedLogistic(shape, levels)
        case "categorical":
            return families.Categorical(shape, levels)
        case _:
            scale = families.SharedScale() if options.noise is None else families.FixedScale(options.noise)
            return families.Normal(shape, scale)


def _latents(schema: Schema, count: int, options: FitOptions, choices: list[Choice]) -> int:
    if options.latents is not None:
        latents, reason = options.latents, "asked for"
    else:
        latents = max(1, min(40, math.ceil(schema.size / 2), math.ceil(math.sqrt(count) / 3) + 4))
        reason = f"{schema.size} values in a row, {count} training rows; unused latents do no harm"
    choices.append(Choice("prior", f"standard normal, {latents} latent{'s' * (latents > 1)}", reason, "--latents"))
    return latents


def _posterior(latents: int, options: FitOptions, choices: list[Choice]) -> Any:
    """The family of q(z|x)."""
    full = options.posterior == "full" or (
        options.posterior == "auto" and 1 < latents <= _FULL_UP_TO and not options.free_bits
    )
    if options.posterior != "auto":
        reason = "asked for"
    elif full:
        reason = "latents may correlate given x, which makes the bound tighter and the model better"
    else:
        reason = "each latent has a KL of its own" if options.free_bits else f"{latents} latent{'s' * (latents > 1)}"
    choices.append(Choice("posterior", f"normal, {'full' if full else 'diagonal'} covariance", reason, "--posterior"))
    return families.FullNormal(latents) if full else families.Normal(latents, families.PredictedScale())


def _is_convolutional(schema: Schema, options: FitOptions) -> bool:
    large_image = len(schema.event_shape) == 3 and schema.size >= _CONV_FROM
    return options.network == "conv" or (options.network == "auto" and large_image)


def _model(schema: Schema, count: int, family: Any, latents: int, options: FitOptions, choices: list[Choice]) -> VAE:
    kind = "conv" if _is_convolutional(schema, options) else options.network.replace("auto", "mlp")
    if kind == "conv" and len(schema.event_shape) not in (2, 3):
        raise OptionError(f"--network conv needs images; {schema.name} has rows of shape {schema.event_shape}.")
    q = _posterior(latents, options, choices)
    wanted = sum(math.prod(shape) for shape in q.parameter_shapes)
    given = sum(math.prod(shape) for shape in family.parameter_shapes)
    hidden = options.hidden or ((500, 500) if count >= _MANY else (256, 256))
    if kind == "conv":
        text = f"convolutions, 3 levels of 32, 64 and 128 channels, dense {hidden[-1]}"
    else:
        names = {"mlp": "dense", "gated": "gated dense", "residual": "residual dense"}
        text = f"{names[kind]}, {'-'.join(map(str, (schema.size, *hidden, latents)))} and back"
        _check_size([schema.size, *hidden, wanted], [latents, *hidden, given])
    with seeded(options.seed, "initialise"):
        encoder, decoder = _networks(kind, schema, hidden, wanted, latents, given)
    reason = (
        f"{'x'.join(map(str, schema.event_shape))} rows, {count} of them" if options.network == "auto" else "asked for"
    )
    choices.append(Choice("networks", text, reason, "--network, --hidden"))
    return VAE(
        prior=priors.StandardNormal(latents),
        likelihood=Conditional(decoder, family),
        posterior=Conditional(encoder, q, event_dims=len(schema.event_shape)),
    )


def _networks(
    kind: str, schema: Schema, hidden: tuple[int, ...], wanted: int, latents: int, given: int
) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder."""
    match kind:
        case "conv":
            width = hidden[-1]
            encoder = nets.conv_encoder(schema.event_shape, wanted, width=width)
            return encoder, nets.conv_decoder(latents, schema.event_shape, given // schema.size, width=width)
        case "gated":
            return nets.gated_mlp(schema.size, wanted, hidden), nets.gated_mlp(latents, given, hidden[::-1])
        case "residual":
            if len(set(hidden)) != 1:
                raise OptionError(f"--network residual has one width; --hidden gives {list(hidden)}.")
            width, blocks = hidden[0], len(hidden)
            encoder = nets.residual_mlp(schema.size, wanted, width, blocks)
            return encoder, nets.residual_mlp(latents, given, width, blocks)
        case _:
            return nets.mlp(schema.size, wanted, hidden), nets.mlp(latents, given, hidden[::-1])


def _check_size(*stacks: list[int]) -> None:
    parameters = sum(a * b for sizes in stacks for a, b in pairwise(sizes))
    if parameters > _MAX_PARAMETERS:
        raise OptionError(
            f"the networks would have {parameters:.2g} parameters; use smaller --hidden or --latents, or "
            "--network conv for images."
        )


def _computing(
    model: Any, device: torch.device, steps: int, options: FitOptions, choices: list[Choice]
) -> dict[str, Any]:
    """Precision and compilation, from the device, the size of the model and the length of the training."""
    large = parameters_of(model) >= _BF16_FROM
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if large and fast_bf16(device) else "fp32"
    long = steps >= _COMPILE_FROM and (large or device.type == "cuda")
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
    return min(options.batch_size or (_BATCH if count >= _MANY else 128), count)


def _batches(count: int, options: FitOptions) -> int:
    return -(-count // _batch(count, options))


def _length(count: int, options: FitOptions) -> tuple[int, str]:
    """The number of steps, and why."""
    if options.steps is not None:
        return options.steps, "asked for"
    if options.epochs:
        return max(1, round(options.epochs * _batches(count, options))), "asked for"
    epochs = min(400.0, max(20.0, _EXAMPLES / count))
    return max(_LEAST_STEPS, round(epochs * _batches(count, options))), f"{count} training rows"


def _training(
    count: int, steps: int, reason: str, options: FitOptions, computing: dict[str, Any], choices: list[Choice]
) -> TrainOptions:
    batch, per_epoch = _batch(count, options), _batches(count, options)
    rate = options.learning_rate or (_RATE if count >= _MANY else 1e-3)
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
        validate_every=options.validate_every or max(per_epoch, math.ceil(steps / 100)),
        seed=options.seed,
        **computing,
    )


def _samples(schema: Schema, scored: int, options: FitOptions, choices: list[Choice]) -> int:
    """The number of samples of the final bound, within what a machine decodes in minutes."""
    if options.samples is not None:
        return options.samples
    values = _CONV_VALUES if _is_convolutional(schema, options) else _DENSE_VALUES
    samples = max(100, min(1000, values // max(1, scored * schema.size)))
    choices.append(Choice("scoring", f"K = {samples}", f"{scored:,} rows of {schema.size} values", "--samples"))
    return samples


def _every(training: TrainOptions) -> int:
    """Steps between two checkpoints: as often as ten validations."""
    return 10 * training.validate_every


def _objective(training: TrainOptions, options: FitOptions, choices: list[Choice]) -> objectives.ELBO:
    beta: float | schedules.Schedule = options.beta
    text = f"ELBO, nats/example, β={options.beta:g}"
    rising = int(_RISING * training.steps) if options.kl_warmup is None else options.kl_warmup
    if rising:
        if rising >= training.steps:
            raise OptionError(f"--kl-warmup {rising} must be below the number of steps, {training.steps}.")
        beta = schedules.Linear(0.0, options.beta, steps=rising)
        text += f" after {rising} steps of warm-up"
    if options.free_bits:
        if options.posterior == "full":
            raise OptionError("--free-bits counts the KL of each latent, which needs --posterior diagonal.")
        text += f", {options.free_bits:g} free nats per latent"
    text += f", K={options.k}" if options.k > 1 else ""
    text += ", sampled KL" if options.sampled_kl else ", closed-form KL"
    reason = "the bound on log p(x) itself, with no weight to tune" if options.beta == 1 else "asked for"
    choices.append(Choice("objective", text, reason, "--beta, --kl-warmup, --free-bits, --k"))
    return objectives.ELBO(options.k, beta=beta, free_bits=options.free_bits, closed_form_kl=not options.sampled_kl)


def parameters_of(model: nn.Module) -> int:
    """The number of trained parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
