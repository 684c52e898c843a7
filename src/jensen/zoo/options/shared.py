"""The options that several models share: networks, p(x|z), q(z|x) and the KL."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from .training import FitOptions

__all__ = [
    "DenseOptions",
    "DivergenceOptions",
    "LikelihoodOptions",
    "PosteriorOptions",
    "WeightedOptions",
    "WidthOptions",
]

LikelihoodName = Literal["auto", "bernoulli", "categorical", "discretized-logistic", "normal"]
PosteriorName = Literal["auto", "diagonal", "full", "low-rank", "mixture", "flow"]
NetworkName = Literal["auto", "mlp", "gated", "residual", "conv"]
Prior = Annotated[Literal["standard", "mixture", "vamp", "flow"], Field(description="The prior p(z).")]
Estimator = Annotated[
    Literal["auto", "reparameterised", "sticking-the-landing", "doubly-reparameterised"],
    Field(description="The estimator of the encoder's gradient."),
]
Samples = Annotated[int, Field(ge=1, le=1000, description="The number of samples of each row in training.")]
SampledKL = Annotated[bool, Field(description="Estimate the KL from samples instead of its formula.")]
Warmup = Annotated[
    int | None,
    Field(
        ge=0,
        le=10**9,
        description="The number of steps in which the weight of the KL rises from zero; by default a quarter of all, 0 "
        "for none.",
    ),
]
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class WidthOptions(FitOptions):
    """The sizes of the networks."""

    hidden: tuple[int, ...] | None = Field(
        default=None, description="The widths of the hidden layers of the encoder, such as 500,500; 0 for none."
    )
    latents: int | None = Field(default=None, ge=1, le=4096, description="The number of latents.")

    @field_validator("hidden")
    @classmethod
    def _check_hidden(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and not all(1 <= width <= 65536 for width in value):
            raise ValueError("each width lies between 1 and 65536")
        return value


class DenseOptions(WidthOptions):
    """The kind of the networks."""

    network: NetworkName = Field(default="auto", description="Dense, gated dense, residual dense or convolutional.")


class LikelihoodOptions(FitOptions):
    """The distribution p(x|z)."""

    likelihood: LikelihoodName = Field(
        default="auto", description="The distribution p(x|z); by default from the values."
    )
    noise: float | None = Field(
        default=None,
        ge=1e-6,
        le=1e6,
        allow_inf_nan=False,
        description="A fixed standard deviation of a normal likelihood, in units of standardised data; by default it "
        "is learned.",
    )


class PosteriorOptions(FitOptions):
    """The distribution q(z|x)."""

    posterior: PosteriorName = Field(default="auto", description="The family of q(z|x).")


class DivergenceOptions(FitOptions):
    """How the KL is weighted and computed."""

    k: Samples = 1
    beta: Positive = Field(default=1.0, description="The weight of the KL in the loss.")
    kl_warmup: Warmup = None
    free_bits: NotNegative = Field(default=0.0, description="The nats per latent below which the KL costs nothing.")
    sampled_kl: SampledKL = False
    estimator: Estimator = "auto"


class WeightedOptions(FitOptions):
    """How several weighted samples are used."""

    k: int = Field(default=8, ge=2, le=1000, description="The number of samples of each row in training.")
    estimator: Estimator = "auto"
