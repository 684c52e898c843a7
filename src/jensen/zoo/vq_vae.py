"""``vq-vae``."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from .. import families, likelihoods, nets, objectives, posteriors, priors
from ..conditional import Conditional
from ..errors import OptionError
from ..families.base import count_of
from ..model import VAE
from ..noise import seeded
from ..roles import Objective
from .entry import Built, Context
from .pieces import likelihood_family, parameters_of_values
from .pieces.networks import MANY_ROWS

__all__ = ["build"]

_RATE = 1e-3
_LEAST_NORMALISED = 2
"""Values of a code up to which it is not normalised: of two there would be two points left."""
_COARSE = 8
"""Images are halved twice, and then until they are no larger than this."""
_EXAMPLES = 1_000_000


def build(context: Context) -> Built:
    r"""Rows as grids of discrete codes, :math:`\log p(x) \ge \log p(x|z) + \log p(z)`, with a learned p(z).

    The prior over codes learns in the same steps as encoder and decoder; it moves neither.

    References:
        Van den Oord, Vinyals, Kavukcuoglu (2017), Neural discrete representation learning.
    """
    options, schema = context.options, context.schema
    images = len(schema.event_shape) in (2, 3)
    if options.network == "conv" and not images:
        raise OptionError(f"--network conv needs images; {schema.name} has rows of shape {schema.event_shape}.")
    family = likelihood_family(context)
    codes = options.codes or (512 if context.rows >= MANY_ROWS else 64)
    made = _convolutional if images and options.network != "mlp" else _dense
    encoder, decoder, grid = made(context, family)
    reason = f"{context.rows} training rows" if options.codes is None else "asked for"
    text = f"{grid[0] * grid[1]} codes in a grid of {grid[0]}x{grid[1]}, each one of {codes} vectors"
    context.chose("codes", text, reason, "--codes, --positions, --code-size")
    with seeded(options.seed, "initialise", "codebook"):
        codebook = nets.Codebook(codes, options.code_size, options.decay)
    posterior = posteriors.Quantised(
        encoder, codebook, grid, options.commitment, normalised=options.code_size > _LEAST_NORMALISED
    )
    prior = priors.Codes(codebook, grid, _numbers(context, codes, grid))
    model = VAE(prior, Conditional(decoder, family, event_dims=3), posterior)
    epochs = max(20.0, min(200.0, _EXAMPLES / context.rows))
    return Built(model, _objective, rate=_RATE, compiles=False, epochs=epochs)


def _objective(steps: int) -> tuple[Objective, str]:
    return objectives.CodedELBO(), "log p(x|z) + log p(z) at the code of x, nats/example, and the commitment"


def _convolutional(context: Context, family: Any) -> tuple[nn.Module, nn.Module, tuple[int, int]]:
    options, shape = context.options, context.schema.event_shape
    if options.positions is not None:
        raise OptionError("--positions is the number of codes of a dense network. Use --network mlp with it.")
    halvings = 2
    while max(nets.grid_of(shape, halvings)) > _COARSE:
        halvings += 1
    width = options.width or (64 if context.rows >= MANY_ROWS else 32)
    text = f"convolutions of {width} features, {halvings} halvings"
    context.chose("networks", text, f"images of {'x'.join(map(str, shape))}", "--network, --width")
    parameters, inner = parameters_of_values(family)
    with seeded(options.seed, "initialise", "coders"):
        encoder = nets.grid_encoder(shape, options.code_size, halvings, width)
        decoder = nets.grid_decoder(options.code_size, shape, parameters, halvings, width, inner=inner)
    return encoder, decoder, nets.grid_of(shape, halvings)


def _dense(context: Context, family: Any) -> tuple[nn.Module, nn.Module, tuple[int, int]]:
    options, size = context.options, context.schema.size
    positions = options.positions or max(1, min(16, math.ceil(size / 4)))
    width = options.width or 256
    context.chose(
        "networks", f"dense, {size}-{width}-{width} and back", f"{size} values in a row", "--network, --width"
    )
    values = positions * options.code_size
    with seeded(options.seed, "initialise", "coders"):
        encoder = nets.mlp(size, values, (width, width))
        decoder = nets.mlp(values, count_of(family), (width, width))
    return encoder, decoder, (1, positions)


def _numbers(context: Context, codes: int, grid: tuple[int, int]) -> nn.Module | None:
    """The prior over the numbers of codes; None for the uniform one."""
    options = context.options
    if options.code_prior == "uniform":
        bits = grid[0] * grid[1] * math.log2(codes)
        context.chose("prior", f"uniform over codes, {bits:g} bits for each row", "asked for", "--code-prior")
        return None
    large = context.rows >= MANY_ROWS
    width, layers = (64, 5) if large else (32, 3)
    made = {"pixelcnn": "gated masked convolutions", "transformer": "a causal transformer"}[options.code_prior]
    text = f"{made}, {layers} layers of {width} features"
    context.chose("prior", text, "learned with the codes, each from those before it", "--code-prior")
    family = families.Categorical(grid, codes)
    channels = likelihoods.input_channels(grid, width)
    with seeded(options.seed, "initialise", "prior"):
        net: nn.Module
        if options.code_prior == "transformer":
            net = nets.CausalTransformer(grid, channels, codes, width, layers)
        else:
            net = nets.GatedPixelCNN(channels, codes, width, layers)
        return likelihoods.Raster(net, family, embedding=width)
