"""The options of models whose latents are more than one vector: groups, features, sticks, codes, weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from .shared import (
    DenseOptions,
    DivergenceOptions,
    LikelihoodOptions,
    NotNegative,
    Positive,
    PosteriorOptions,
    SampledKL,
    Samples,
)

__all__ = ["BayesianDecoderOptions", "IBPOptions", "LadderOptions", "StickBreakingOptions", "VQVAEOptions"]


class LadderOptions(LikelihoodOptions, DivergenceOptions):
    """Options of ``ladder-vae``."""

    model: str = "ladder-vae"
    groups: tuple[int, ...] | None = Field(
        default=None,
        description="The latents of each group, from the top, such as 8,16,16; of convolutions, those at each place.",
    )
    network: Literal["auto", "mlp", "conv"] = Field(
        default="auto", description="Dense, or convolutions, which images of 32 x 32 pixels and more have."
    )
    width: int | None = Field(default=None, ge=2, le=65536, description="The width of the networks, or their channels.")
    blocks: int = Field(default=1, ge=1, le=100, description="The residual blocks of each group and resolution.")

    @field_validator("groups")
    @classmethod
    def _check_groups(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and not (value and all(1 <= latents <= 4096 for latents in value)):
            raise ValueError("each group has between 1 and 4096 latents")
        return value


class IBPOptions(DenseOptions, LikelihoodOptions):
    """Options of ``ibp-vae``."""

    model: str = "ibp-vae"
    alpha: float = Field(
        default=5.0, gt=0.1, le=1e6, allow_inf_nan=False, description="The number of features that are on, expected."
    )
    structured: bool = Field(default=True, description="Whether q of a row's features depends on the sticks.")
    loadings: bool = Field(default=True, description="Whether a feature that is on has a strength.")
    relaxation: Literal["straight-through", "relaxed"] = Field(
        default="straight-through",
        description="What training sees: features that are 0 or 1 with the gradient of relaxed ones, or those, as "
        "published, whose bound is that of another model.",
    )
    temperature: Positive | None = Field(
        default=None, description="The temperature of the relaxation; by default 1, or 0.3 for relaxed features."
    )
    prior_temperature: Positive = Field(default=0.25, description="That of the prior of relaxed features.")
    k: Samples = 1
    start_beta: Positive = Field(
        default=1.0,
        description="The weight of the KL in the first step, from which it goes to 1, three times: above 1, such as "
        "12, features appear one after the other, and those that say the same twice are given up.",
    )
    sampled_kl: SampledKL = False


class BayesianDecoderOptions(DenseOptions, LikelihoodOptions, PosteriorOptions, DivergenceOptions):
    """Options of ``bayesian-decoder``."""

    model: str = "bayesian-decoder"
    weight_scale: Positive = Field(
        default=1.0,
        description="The standard deviation of a weight under the prior, times the root of the number of inputs; "
        "where it starts, if it is learned.",
    )
    weight_kl: Positive = Field(
        default=0.1,
        description="The weight of the KL of the decoder's weights in the loss: below 1 their posterior is a cold one, "
        "narrower than the model implies. Bounds that are reported have weight 1.",
    )
    fixed_scale: bool = Field(default=False, description="Keep these standard deviations instead of learning them.")


class StickBreakingOptions(DenseOptions, LikelihoodOptions, DivergenceOptions):
    """Options of ``stick-breaking-vae``."""

    model: str = "stick-breaking-vae"
    alpha: Positive = Field(default=5.0, description="The concentration α: the larger, the more pieces matter.")
    kl_terms: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="The number of terms of the series in the KL, as published 10, which leaves some of it out; by "
        "default it is computed whole.",
    )


class VQVAEOptions(LikelihoodOptions):
    """Options of ``vq-vae``."""

    model: str = "vq-vae"
    network: Literal["auto", "mlp", "conv"] = Field(
        default="auto", description="Dense or convolutional; by default convolutional for images."
    )
    width: int | None = Field(default=None, ge=1, le=4096, description="The number of features of the networks.")
    codes: int | None = Field(
        default=None, ge=2, le=65536, description="The number of vectors in the codebook; by default 512 or 64."
    )
    code_size: int = Field(default=64, ge=1, le=4096, description="The number of values in each vector.")
    positions: int | None = Field(
        default=None, ge=1, le=4096, description="The number of codes of a row, for dense networks."
    )
    commitment: NotNegative = Field(
        default=0.25, description="The weight of the encoder's squared distance from its codes, nats."
    )
    decay: float = Field(default=0.99, ge=0, lt=1, description="The decay of the moving averages of the codebook.")
    code_prior: Literal["pixelcnn", "transformer", "uniform"] = Field(
        default="pixelcnn", description="The prior over codes: learned, each code from those before it, or uniform."
    )
    samples: int | None = Field(
        default=1, ge=1, le=10**6, description="The number of samples of the final bound, which does not move with it."
    )
