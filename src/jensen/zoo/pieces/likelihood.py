"""The family of p(x|z) for data."""

from __future__ import annotations

from typing import Any

from ... import families
from ...data import Schema
from ...errors import OptionError
from ..entry import Context
from ..options import LikelihoodOptions

__all__ = ["likelihood_family"]


def likelihood_family(context: Context) -> Any:
    """The family that suits the values, or the one that was asked for.

    Raises:
        OptionError: If the values do not lie in the support of what was asked for.
    """
    options: LikelihoodOptions = context.options
    schema = context.schema
    name = options.likelihood
    if name == "auto":
        name = "bernoulli" if schema.binary else "discretized-logistic" if schema.kind == "binned" else "normal"
    _check(name, schema, options)
    reasons = {
        "bernoulli": "the model sees zeros and ones",
        "discretized-logistic": f"values lie on {schema.levels} levels; a mass, so bits/dim is exact",
        "categorical": f"a free probability for each of {schema.levels} levels",
        "normal": "values are continuous; one learned σ for all dimensions" if options.noise is None else "σ is given",
    }
    plain = options.likelihood == "auto" or name == "normal"
    context.chose("likelihood", name, reasons[name] if plain else f"asked for: {reasons[name]}", "--likelihood")
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


def _check(name: str, schema: Schema, options: LikelihoodOptions) -> None:
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
