"""The options of models with one vector of continuous latents."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .shared import (
    DenseOptions,
    DivergenceOptions,
    LikelihoodOptions,
    NotNegative,
    Positive,
    PosteriorOptions,
    Prior,
    WeightedOptions,
)

__all__ = [
    "AutoencoderOptions",
    "BetaTCVAEOptions",
    "BetaVAEOptions",
    "FlowPriorOptions",
    "FlowVAEOptions",
    "HypersphericalOptions",
    "IWAEOptions",
    "VAEOptions",
    "VampPriorOptions",
    "WAEOptions",
]


class VAEOptions(DenseOptions, LikelihoodOptions, PosteriorOptions, DivergenceOptions):
    """Options of ``vae``."""

    prior: Prior = "standard"


class BetaVAEOptions(DenseOptions, LikelihoodOptions, PosteriorOptions, DivergenceOptions):
    """Options of ``beta-vae``."""

    model: str = "beta-vae"
    beta: Positive = Field(default=4.0, description="The weight β of the KL in the loss.")


class IWAEOptions(DenseOptions, LikelihoodOptions, PosteriorOptions, WeightedOptions):
    """Options of ``iwae``."""

    model: str = "iwae"
    prior: Prior = "standard"


class BetaTCVAEOptions(DenseOptions, LikelihoodOptions):
    """Options of ``beta-tcvae``."""

    model: str = "beta-tcvae"
    beta: Positive = Field(default=6.0, description="The weight β of the total correlation.")
    alpha: Positive = Field(default=1.0, description="The weight α of the information between code and row.")
    gamma: Positive = Field(default=1.0, description="The weight γ of the dimension-wise KL.")


class VampPriorOptions(DenseOptions, LikelihoodOptions, DivergenceOptions):
    """Options of ``vampprior-vae``."""

    model: str = "vampprior-vae"
    posterior: Literal["diagonal", "full"] = Field(default="diagonal", description="The family of q(z|x).")
    pseudo_inputs: int | None = Field(
        default=None, ge=1, le=10_000, description="The number of learned rows in the prior."
    )


class FlowVAEOptions(DenseOptions, LikelihoodOptions, DivergenceOptions):
    """Options of ``flow-vae``."""

    model: str = "flow-vae"
    prior: Prior = "standard"


class FlowPriorOptions(DenseOptions, LikelihoodOptions, PosteriorOptions, DivergenceOptions):
    """Options of ``flow-prior-vae``."""

    model: str = "flow-prior-vae"


class HypersphericalOptions(DenseOptions, LikelihoodOptions, DivergenceOptions):
    """Options of ``hyperspherical-vae``."""

    model: str = "hyperspherical-vae"


class WAEOptions(DenseOptions, LikelihoodOptions):
    """Options of ``wae-mmd``."""

    model: str = "wae-mmd"
    weight: Positive = Field(default=100.0, description="The weight λ of the discrepancy, nats.")
    kl: NotNegative = Field(default=0.0, description="The weight of the KL, for an InfoVAE.")


class AutoencoderOptions(DenseOptions, LikelihoodOptions):
    """Options of ``autoencoder``."""

    model: str = "autoencoder"
