"""``bayesian-decoder``."""

from __future__ import annotations

import math

from torch import Tensor, nn

from .. import likelihoods, posteriors, priors
from ..model import SharedVAE
from .entry import Built, Context
from .pieces import elbo, latent_count, likelihood_family, networks_for, posterior_of

__all__ = ["build"]

_NARROWER = 0.1  # than the prior, where the posterior of a weight starts


def build(context: Context) -> Built:
    r"""A variational autoencoder whose decoder has a distribution over its weights instead of one value for each.

    .. math:: E_{q(w)}\Bigl[E_{q(z|x)}[\log p(x|z, w)] - \mathrm{KL}(q(z|x) \| p(z))\Bigr] - \frac1N
              \mathrm{KL}(q(w) \| p(w))

    The weights w are one draw for all N rows, so a row pays for one N-th of their KL. It is for few rows, of which the
    weights of a decoder would learn too much.

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes, appendix F. Wenzel et al. (2020), How good is the Bayes
        posterior in deep neural networks really?
    """
    options = context.options
    family, latents = likelihood_family(context), latent_count(context)
    networks = networks_for(context, latents)
    encoder = posterior_of(context, networks, latents)
    net = networks.decoder_for(latents, family)
    sizes, scales = [p.numel() for p in net.parameters()], _scales(net, options.weight_scale)
    text = "given" if options.fixed_scale else "learned for each tensor"
    context.chose("weights", f"normal around 0, scales {text}", f"{sum(sizes):,} weights", "--weight-scale")
    if options.weight_kl != 1:
        reason = "a cold posterior: at 1 it gives up most weights for their noise, and predicts worse"
        context.chose("KL of the weights", f"weighted {options.weight_kl:g} in the loss", reason, "--weight-kl")
    model = SharedVAE(
        priors.StandardNormal(latents),
        likelihoods.SampledWeights(net, family),
        encoder,
        priors.Weights(sizes, scales, learned=not options.fixed_scale),
        posteriors.Weights(net, [_NARROWER * scale for scale in scales]),
        rows=context.rows,
    )
    return Built(model, elbo(context), compiles=False)


def _scales(net: nn.Module, multiple: float) -> list[float]:
    r"""The standard deviation of each tensor, :math:`1/\sqrt{\text{inputs}}`: a layer then keeps the size of its input.

    A bias has that of its weights, and the gains of a normalisation, which are about one, have one.
    """
    scales: list[float] = []
    for module in net.modules():
        own = list(module.parameters(recurse=False))
        inputs = next((_inputs(module, parameter) for parameter in own if parameter.ndim > 1), 1.0)
        scales += [multiple / math.sqrt(inputs)] * len(own)
    return scales


def _inputs(module: nn.Module, weight: Tensor) -> float:
    """The number of values that make up one output."""
    if isinstance(module, nn.ConvTranspose2d):
        # Each input goes to a patch of outputs, which overlap where the stride is smaller than the patch.
        return weight[:, 0].numel() / math.prod(module.stride)
    return float(weight[0].numel())
