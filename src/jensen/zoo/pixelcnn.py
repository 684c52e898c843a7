"""``pixelcnn`` and ``pixel-vae``."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from .. import families, likelihoods, nets
from ..errors import OptionError
from ..model import VAE, Explicit
from ..noise import seeded
from .entry import Built, Context
from .options import PixelVAEOptions
from .pieces import (
    elbo,
    exact,
    latent_count,
    likelihood_family,
    networks_for,
    parameters_of_values,
    posterior_of,
    prior_of,
)

__all__ = ["build"]

_RATE = 5e-3
_MAP = 4
"""Channels of the map that z is turned into."""
_FREE_UP_TO = 32
"""Levels that get a free probability each; more are a mixture of logistics, in which neighbours know each other."""
_COMPONENTS = 5
_EXAMPLES = 500_000
_SMALL = 256
"""Values of an image that a few layers see all of."""


def build(context: Context) -> Built:
    r"""Images pixel by pixel, :math:`p(x) = \prod_i p(x_i | x_{<i})`, or the same as the decoder of a VAE.

    ``pixel-vae`` has latents as well, :math:`p(x) = \int p(z) \prod_i p(x_i | x_{<i}, z) dz`, which its decoder can do
    without: where the KL falls to zero it has.

    References:
        Van den Oord, Kalchbrenner, Kavukcuoglu (2016), Pixel recurrent neural networks. Van den Oord et al. (2016),
        Conditional image generation with PixelCNN decoders. Gulrajani et al. (2017), PixelVAE.
    """
    schema = context.schema
    if len(schema.event_shape) not in (2, 3):
        raise OptionError(
            f"{context.options.model} predicts pixels from those above and to the left; {schema.name} has rows of "
            f"shape {schema.event_shape}, which have no above. Use --model vae."
        )
    epochs = max(10.0, min(100.0, _EXAMPLES / context.rows))
    how: dict[str, Any] = {"rate": _RATE, "compiles": False, "epochs": epochs, "large": schema.size > _SMALL}
    family = _family(context)
    if not isinstance(context.options, PixelVAEOptions):
        model: Any = Explicit(_likelihood(context, family, 0))
        return Built(model, exact, **how)
    latents = latent_count(context)
    networks = networks_for(context, latents)
    posterior = posterior_of(context, networks, latents)
    to_map = networks.decoder(latents, _MAP, 1)
    prior = prior_of(context, latents, posterior, name=context.options.prior)
    model = VAE(prior, _likelihood(context, family, _MAP, to_map), posterior)
    return Built(model, elbo(context), **how)


def _family(context: Context) -> Any:
    schema, name = context.schema, context.options.likelihood
    if schema.kind == "binned" and context.options.noise is not None and name != "normal":
        raise OptionError(f"--noise is the σ of a normal likelihood; the values of {schema.name} are on levels.")
    if schema.binary or schema.kind != "binned" or name not in ("auto", "discretized-logistic"):
        return likelihood_family(context)
    if name == "auto" and schema.levels <= _FREE_UP_TO:
        reason = f"a free probability for each of {schema.levels} levels"
        context.chose("likelihood", "categorical", reason, "--likelihood")
        return families.Categorical(schema.event_shape, schema.levels)
    reason = f"values lie on {schema.levels} levels; a mass, so bits/dim is exact"
    context.chose("likelihood", f"mixture of {_COMPONENTS} discretised logistics", reason, "--likelihood")
    return families.DiscretizedLogisticMixture(schema.event_shape, schema.levels, _COMPONENTS)


def _likelihood(context: Context, family: Any, channels: int, to_map: nn.Module | None = None) -> likelihoods.Raster:
    options, shape = context.options, family.event_shape
    rnn = options.variant == "rnn"
    width = options.width or (16 if channels else 32)
    layers = options.layers or (
        (1 if channels else 2) if rnn else (4 if channels or context.schema.size <= _SMALL else 7)
    )
    text = f"{'row LSTMs' if rnn else 'gated masked convolutions'}, {layers} layers of {width} features"
    reason = "each pixel is predicted from those before it" + (" and z" if channels else "")
    more: dict[str, Any] = {}
    if rnn and options.dilations:
        raise OptionError("--dilations are those of convolutions; LSTMs see all rows. Leave it out.")
    if not rnn:
        # Far pixels are left to z where there is one.
        more["dilations"] = options.dilations or ((1,) if channels else _dilations(layers, min(shape[:2])))
        text += f", dilations {', '.join(map(str, more['dilations']))}"
    context.chose("network over pixels", text, reason, "--variant, --width, --layers, --kernel, --dilations")
    outputs = math.prod(parameters_of_values(family))
    make: Any = nets.RowLSTM if rnn else nets.GatedPixelCNN
    with seeded(options.seed, "initialise", "pixels"):
        net = make(likelihoods.input_channels(shape), outputs, width, layers, options.kernel, channels, **more)
        return likelihoods.Raster(net, family, context=to_map)


def _dilations(layers: int, side: int) -> tuple[int, ...]:
    """1, 2, 4, … up to a third of the side and back: together they reach across, and the last ones see every detail."""
    most = int(math.log2(max(1.0, side / 3)))
    return tuple(2 ** min(i, layers - 1 - i, most) for i in range(layers))
