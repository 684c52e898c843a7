"""Objectives from options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import objectives, schedules
from ...errors import OptionError
from ...roles import Objective
from ..entry import Context

__all__ = ["elbo", "estimator_of", "exact", "weighted"]

_RISING = 0.25  # of the steps


def estimator_of(name: str) -> Any:
    """An estimator by its name; None for ``auto``."""
    return {
        "auto": lambda: None,
        "reparameterised": objectives.Reparameterised,
        "sticking-the-landing": objectives.StickingTheLanding,
        "doubly-reparameterised": objectives.DoublyReparameterised,
    }[name]()


def warmed(options: Any, steps: int) -> tuple[float | schedules.Schedule, str]:
    """β with its warm-up, and a text.

    Raises:
        OptionError: If the warm-up takes all steps.
    """
    text = f"β={options.beta:g}"
    rising = int(_RISING * steps) if options.kl_warmup is None else options.kl_warmup
    if not rising:
        return options.beta, text
    if rising >= steps:
        raise OptionError(f"--kl-warmup {rising} must be below the number of steps, {steps}.")
    shape = schedules.Sigmoid if getattr(options, "annealing", "linear") == "sigmoid" else schedules.Linear
    return shape(0.0, options.beta, steps=rising), f"{text} after {rising} steps of warm-up"


def exact(steps: int) -> tuple[Objective, str]:
    """The log-likelihood, of a model without latents."""
    return objectives.LogLikelihood(), "log-likelihood, nats/example, exact"


def elbo(context: Context, *, factorises: bool = True) -> Callable[[int], tuple[Objective, str]]:
    """The ELBO as the options want it; ``factorises`` says whether prior and posterior are products over latents.

    Raises:
        OptionError: If options contradict one another or the model.
    """
    options = context.options
    if options.free_bits and not factorises:
        raise OptionError(
            f"--free-bits counts the KL of each latent, of which that of {options.model} is no sum. Use --kl-warmup."
        )
    if options.free_bits and getattr(options, "posterior", "auto") not in ("auto", "diagonal"):
        raise OptionError("--free-bits counts the KL of each latent, which needs --posterior diagonal.")
    if options.free_bits and getattr(options, "prior", "standard") != "standard":
        raise OptionError("--free-bits counts the KL of each latent, which needs --prior standard.")
    estimator, floor = estimator_of(options.estimator), getattr(options, "free_bits_total", 0.0)
    closed = False if options.sampled_kl else None

    def build(steps: int) -> tuple[Objective, str]:
        beta, text = warmed(options, steps)
        text = f"ELBO, nats/example, {text}"
        text += f", {options.free_bits:g} free nats per latent" if options.free_bits else ""
        text += f", {floor:g} free nats in all" if floor else ""
        text += f", K={options.k}" if options.k > 1 else ""
        objective = objectives.ELBO(
            options.k,
            beta=beta,
            free_bits=options.free_bits,
            free_bits_per_group=floor,
            closed_form_kl=closed,
            shared_beta=getattr(options, "weight_kl", 1.0),
            estimator=estimator,
        )
        text += ", closed-form KL where there is one" if objective.closed_form_kl else ", sampled KL"
        return objective, text

    return build


def weighted(
    context: Context, name: str, make: Callable[[int, Any], Objective]
) -> Callable[[int], tuple[Objective, str]]:
    """An objective of K weighted samples."""
    options = context.options
    estimator = estimator_of(options.estimator)

    def build(steps: int) -> tuple[Objective, str]:
        return make(options.k, estimator), f"{name}, nats/example, K={options.k}"

    return build
