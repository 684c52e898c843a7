"""From the data and the user's options to a model, an objective and a training, each choice with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import nn

from . import families, nets, objectives, priors, schedules
from .conditional import Conditional
from .data import Schema
from .data.schema import Binarisation
from .errors import OptionError
from .model import VAE
from .noise import seeded
from .train import TrainOptions

__all__ = ["Choice", "FitOptions", "Plan", "choose", "parse_options"]

_CONV_FROM = 2048
_MAX_PARAMETERS = 2 * 10**9

LikelihoodName = Literal["auto", "bernoulli", "categorical", "discretized-logistic", "normal"]


class FitOptions(BaseModel):
    """The options of ``jensen fit``; None means that the data decide."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    likelihood: LikelihoodName = "auto"
    noise: float | None = Field(default=None, ge=1e-6, le=1e6, allow_inf_nan=False)
    posterior: Literal["diagonal", "full"] = "diagonal"
    network: Literal["auto", "mlp", "conv"] = "auto"
    hidden: tuple[int, ...] | None = None
    latents: int | None = Field(default=None, ge=1, le=4096)
    k: int = Field(default=1, ge=1, le=1000)
    beta: float = Field(default=1.0, gt=0, le=1e6, allow_inf_nan=False)
    kl_warmup: int = Field(default=0, ge=0, le=10**9)
    free_bits: float = Field(default=0.0, ge=0, le=1e6, allow_inf_nan=False)
    sampled_kl: bool = False
    epochs: float | None = Field(default=None, gt=0, le=10**7, allow_inf_nan=False)
    steps: int | None = Field(default=None, ge=1, le=10**9)
    batch_size: int | None = Field(default=None, ge=1, le=10**7)
    learning_rate: float = Field(default=1e-3, gt=0, le=10, allow_inf_nan=False)
    validate_every: int | None = Field(default=None, ge=1, le=10**9)
    checkpoint_every: int | None = Field(default=None, ge=1, le=10**9)
    seed: int = Field(default=0, ge=0, lt=2**62)
    data_seed: int = Field(default=0, ge=0, lt=2**62)
    binarisation: Binarisation | None = None
    key: str | None = None
    samples: int = Field(default=1000, ge=1, le=10**6)

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
    """A model, an objective and a training, and the choices that led to them."""

    model: Any
    objective: objectives.ELBO
    training: TrainOptions
    checkpoint_every: int
    choices: list[Choice]


def choose(schema: Schema, count: int, options: FitOptions, model: Any = None) -> Plan:
    """Chooses what to train.

    Arguments:
        schema: What a row is.
        count: The number of training rows.
        options: What the user wants.
        model: The user's own model, if the choice is not to be ours.

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
    training = _training(count, options, choices)
    objective = _objective(training, options, choices)
    return Plan(model, objective, training, options.checkpoint_every or _every(training), choices)


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
        latents = max(1, min(50, math.ceil(schema.size / 2), math.ceil(math.sqrt(count) / 3) + 4))
        reason = f"{schema.size} values in a row, {count} training rows; unused latents do no harm"
    choices.append(Choice("prior", f"standard normal, {latents} latent{'s' * (latents > 1)}", reason, "--latents"))
    kinds = {"diagonal": "fast, and each latent has a KL of its own", "full": "asked for; latents may correlate"}
    choices.append(
        Choice("posterior", f"normal, {options.posterior} covariance", kinds[options.posterior], "--posterior")
    )
    return latents


def _model(schema: Schema, count: int, family: Any, latents: int, options: FitOptions, choices: list[Choice]) -> VAE:
    conv = options.network == "conv" or (
        options.network == "auto" and len(schema.event_shape) == 3 and schema.size >= _CONV_FROM
    )
    if conv and len(schema.event_shape) not in (2, 3):
        raise OptionError(f"--network conv needs images; {schema.name} has rows of shape {schema.event_shape}.")
    q = (
        families.FullNormal(latents)
        if options.posterior == "full"
        else families.Normal(latents, families.PredictedScale())
    )
    wanted = sum(math.prod(shape) for shape in q.parameter_shapes)
    given = sum(math.prod(shape) for shape in family.parameter_shapes)
    hidden = options.hidden or ((500, 500) if count >= 10_000 else (256, 256))
    if conv:
        width = hidden[-1]
        text = f"convolutions, 3 levels of 32, 64 and 128 channels, dense {width}"
    else:
        text = f"dense, {'-'.join(map(str, (schema.size, *hidden, latents)))} and back"
        _check_size([schema.size, *hidden, wanted], [latents, *hidden, given])
    with seeded(options.seed, "initialise"):
        if conv:
            encoder = nets.conv_encoder(schema.event_shape, wanted, width=width)
            decoder = nets.conv_decoder(latents, schema.event_shape, given // schema.size, width=width)
        else:
            encoder = nets.mlp(schema.size, wanted, hidden=hidden)
            decoder = nets.mlp(latents, given, hidden=hidden[::-1])
    reason = (
        f"{'x'.join(map(str, schema.event_shape))} rows, {count} of them" if options.network == "auto" else "asked for"
    )
    choices.append(Choice("networks", text, reason, "--network, --hidden"))
    return VAE(
        prior=priors.StandardNormal(latents),
        likelihood=Conditional(decoder, family),
        posterior=Conditional(encoder, q, event_dims=len(schema.event_shape)),
    )


def _check_size(*stacks: list[int]) -> None:
    parameters = sum(a * b for sizes in stacks for a, b in pairwise(sizes))
    if parameters > _MAX_PARAMETERS:
        raise OptionError(
            f"the networks would have {parameters:.2g} parameters; use smaller --hidden or --latents, or "
            "--network conv for images."
        )


def _training(count: int, options: FitOptions, choices: list[Choice]) -> TrainOptions:
    batch = min(options.batch_size or 128, count)
    per_epoch = -(-count // batch)
    if options.steps is not None and options.epochs is not None:
        raise OptionError("give --steps or --epochs, not both.")
    if options.steps is not None:
        steps, reason = options.steps, "asked for"
    else:
        epochs = options.epochs or min(400.0, max(20.0, 2_000_000 / count))
        steps, reason = max(1, round(epochs * per_epoch)), "asked for" if options.epochs else f"{count} training rows"
    choices.append(
        Choice(
            "training",
            f"{steps} steps of {batch} rows ({steps / per_epoch:.4g} epochs), Adam, rate "
            f"{options.learning_rate:g} falling to 0",
            reason,
            "--epochs, --batch-size, --learning-rate",
        )
    )
    every = options.validate_every or max(per_epoch, math.ceil(steps / 100))
    warmup = min(steps - 1, per_epoch, 100)
    return TrainOptions(
        steps=steps,
        batch_size=batch,
        learning_rate=options.learning_rate,
        warmup=warmup,
        validate_every=every,
        seed=options.seed,
    )


def _every(training: TrainOptions) -> int:
    """Steps between two checkpoints: as often as ten validations."""
    return 10 * training.validate_every


def _objective(training: TrainOptions, options: FitOptions, choices: list[Choice]) -> objectives.ELBO:
    beta: float | schedules.Schedule = options.beta
    text = f"ELBO, nats/example, β={options.beta:g}"
    if options.kl_warmup:
        if options.kl_warmup >= training.steps:
            raise OptionError(f"--kl-warmup {options.kl_warmup} must be below the number of steps, {training.steps}.")
        beta = schedules.Linear(0.0, options.beta, steps=options.kl_warmup)
        text += f" after {options.kl_warmup} steps of warm-up"
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
