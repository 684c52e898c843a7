"""Encoder and decoder networks for rows of data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from ... import nets
from ...data import Schema
from ...errors import OptionError
from ...families import Family
from ...noise import seeded
from ..entry import Context
from ..options import DenseOptions

__all__ = ["MANY_ROWS", "Networks", "is_convolutional", "networks_for", "parameters_of_values"]

MANY_ROWS = 10_000
_CONV_FROM = 2048  # values in a row
_MAX_PARAMETERS = 2 * 10**9


@dataclass(frozen=True)
class Networks:
    """Builders of networks.

    Arguments:
        encoder: From the number of outputs.
        decoder: From the number of inputs, that of parameters for each value of a row, and that of numbers of each.
    """

    encoder: Callable[[int], nn.Module]
    decoder: Callable[[int, int, int], nn.Module]

    def decoder_for(self, inputs: int, family: Family) -> nn.Module:
        """A decoder to the parameters of a family."""
        return self.decoder(inputs, *parameters_of_values(family))


def parameters_of_values(family: Family) -> tuple[int, int]:
    """The number of parameters for each value of a row, and how many numbers each of them is."""
    event = len(family.event_shape)
    (inner,) = {math.prod(shape[event:]) for shape in family.parameter_shapes}
    return len(family.parameter_shapes), inner


def is_convolutional(schema: Schema, options: DenseOptions) -> bool:
    """Whether networks are convolutions: asked for, or for large images."""
    large_image = len(schema.event_shape) == 3 and schema.size >= _CONV_FROM
    network = getattr(options, "network", "mlp")
    return network == "conv" or (network == "auto" and large_image)


def networks_for(context: Context, latents: int) -> Networks:
    """Networks of the kind and size that suit the rows, or that were asked for.

    Raises:
        OptionError: If the kind does not suit the rows, or the networks would be too large.
    """
    schema, options = context.schema, context.options
    kind = "conv" if is_convolutional(schema, options) else options.network.replace("auto", "mlp")
    if kind == "conv" and len(schema.event_shape) not in (2, 3):
        raise OptionError(f"--network conv needs images; {schema.name} has rows of shape {schema.event_shape}.")
    hidden = options.hidden
    if hidden is None:
        hidden = (500, 500) if context.rows >= MANY_ROWS else (256, 256)
    if kind == "conv" and options.hidden is not None and len(options.hidden) != 1:
        raise OptionError(f"convolutions have one dense layer; --hidden gives {len(options.hidden)} widths.")
    if kind == "conv":
        text = f"convolutions, 3 levels of 32, 64 and 128 channels, dense {_width(hidden)}"
    else:
        names = {"mlp": "dense", "gated": "gated dense", "residual": "residual dense"}
        text = f"{names[kind]}, {'-'.join(map(str, (schema.size, *hidden, latents)))} and back"
    auto = options.network == "auto"
    reason = f"{'x'.join(map(str, schema.event_shape))} rows, {context.rows} of them" if auto else "asked for"
    context.chose("networks", text, reason, "--network, --hidden")
    return _builders(kind, schema, hidden, options.seed)


def _width(hidden: tuple[int, ...]) -> int:
    return hidden[-1]


def _builders(kind: str, schema: Schema, hidden: tuple[int, ...], seed: int) -> Networks:
    if kind == "residual" and (len(set(hidden)) != 1):
        raise OptionError(f"--network residual has one width; --hidden gives {list(hidden)}.")

    def encoder(outputs: int) -> nn.Module:
        with seeded(seed, "initialise", "encoder"):
            match kind:
                case "conv":
                    return nets.conv_encoder(schema.event_shape, outputs, width=_width(hidden))
                case "residual":
                    return nets.residual_mlp(schema.size, outputs, hidden[0], len(hidden))
                case "gated":
                    return nets.gated_mlp(schema.size, outputs, _fitting(schema.size, hidden, outputs))
                case _:
                    return nets.mlp(schema.size, outputs, _fitting(schema.size, hidden, outputs))

    def decoder(inputs: int, parameters: int, inner: int) -> nn.Module:
        back, outputs = hidden[::-1], schema.size * parameters * inner
        with seeded(seed, "initialise", "decoder"):
            match kind:
                case "conv":
                    return nets.conv_decoder(inputs, schema.event_shape, parameters, width=_width(hidden), inner=inner)
                case "residual":
                    return nets.residual_mlp(inputs, outputs, hidden[0], len(hidden))
                case "gated":
                    return nets.gated_mlp(inputs, outputs, _fitting(inputs, back, outputs))
                case _:
                    return nets.mlp(inputs, outputs, _fitting(inputs, back, outputs))

    return Networks(encoder, decoder)


def _fitting(inputs: int, hidden: tuple[int, ...], outputs: int) -> tuple[int, ...]:
    """The widths, if a machine can hold the network."""
    parameters = sum(a * b for a, b in pairwise([inputs, *hidden, outputs]))
    if parameters > _MAX_PARAMETERS:
        raise OptionError(
            f"the networks would have {parameters:.2g} parameters; use smaller --hidden or --latents, or "
            "--network conv for images."
        )
    return hidden
