"""A spectral line on a sloping background: five named quantities inferred from one noisy spectrum.

A line of some amplitude, centre and width lies on a background of some level and slope; the spectrum is seen in 40
channels with known noise. An encoder is trained on spectra simulated from the model itself, and then gives the
posterior of any observed spectrum at once; ``jensen.posterior`` checks that posterior for each spectrum and, where it
is not good enough, does what it takes.

Run with: python -m examples.spectral_line
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, LogNormal, Normal

import jensen
from jensen import VAE, declared, nets, noise, posteriors, priors
from jensen.roles import BoundKind, Estimate, Given
from jensen.train import fit

CHANNELS = 40
NOISE = 0.1
BATCH = 256


@declared("examples.Line")
class Line(nn.Module):
    """The likelihood: the physics in plain torch, and a distribution around it.

    The named values come with shape (K, B), the channels are added as a last dimension.
    """

    axis: Tensor

    def __init__(self, channels: int = CHANNELS, noise: float = NOISE) -> None:
        super().__init__()
        self.noise = noise
        self.register_buffer("axis", torch.linspace(-2.0, 2.0, channels))

    def forward(self, values: dict[str, Tensor], given: Given | None = None) -> Distribution:
        amplitude, centre, width, level, slope = (values[name][..., None] for name in values)
        line = amplitude * torch.exp(-0.5 * ((self.axis - centre) / width) ** 2)
        return Independent(Normal(line + level + slope * self.axis, self.noise), 1)


def prior() -> priors.Named:
    """What is believed before any spectrum is seen; widths and amplitudes are positive."""
    return priors.Named(
        amplitude=LogNormal(0.0, 0.5),
        centre=Normal(0.0, 0.5),
        width=LogNormal(math.log(0.3), 0.3),
        level=Normal(0.0, 0.5),
        slope=Normal(0.0, 0.3),
    )


def model() -> VAE:
    """Prior, physics and an encoder whose posterior has a full covariance."""
    believed = prior()
    encoder = posteriors.Amortized(nets.mlp(CHANNELS, 128, hidden=(128, 128)), like=believed)
    return VAE(believed, Line(), encoder)


class Simulated:
    r"""Trains the encoder alone, on values and spectra that the model makes up: :math:`-\log q(z^*|x^*)`.

    The physics has nothing to learn, so this is all there is to do. Unlike the ELBO, it makes q too wide rather than
    too narrow where it cannot be exact, which importance weights can mend.

    References:
        Cranmer, Brehmer, Louppe (2020), The frontier of simulation-based inference. Hinton, Dayan, Frey, Neal (1995),
        The wake-sleep algorithm.
    """

    kind: BoundKind = "none"
    k = 1
    period = 0

    def __call__(self, model: Any, x: Tensor, given: Given | None = None, step: int = 0) -> Estimate:
        with torch.no_grad():
            z = model.prior().sample((1, len(x)))
            spectra = model.decode(z).sample()[0]
        missed = -model.posterior(spectra).log_prob(z)[0]
        return Estimate(missed.mean(), None, {"missed": missed})


def trained(steps: int = 6000, seed: int = 0) -> VAE:
    """The model with an encoder trained on spectra that the model simulates, new ones in each step."""
    with noise.seeded(seed, "weights"):
        vae = model()
        x = vae.sample(BATCH)  # their number alone is used
    fit(vae, Simulated(), x, steps=steps, batch_size=BATCH, learning_rate=1e-3, seed=seed)
    return vae


def main() -> None:
    """Trains, and infers three spectra."""
    vae = trained()
    with noise.seeded(1):
        x = vae.sample(3)
    found = jensen.posterior(vae, x)
    print(found)  # noqa: T201
    for sentence in found.sentences:
        print(sentence)  # noqa: T201


if __name__ == "__main__":
    main()
