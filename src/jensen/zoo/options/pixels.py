"""The options of models that predict a pixel from those before it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from .shared import DenseOptions, DivergenceOptions, LikelihoodOptions, PosteriorOptions, Prior
from .training import FitOptions

__all__ = ["PixelCNNOptions", "PixelOptions", "PixelVAEOptions"]


class PixelOptions(FitOptions):
    """The network that predicts a pixel from those before it."""

    variant: Literal["gated", "rnn"] = Field(
        default="gated", description="Gated masked convolutions, or LSTMs from row to row."
    )
    width: int | None = Field(default=None, ge=1, le=4096, description="The number of features of each pixel.")
    layers: int | None = Field(default=None, ge=1, le=100, description="The number of layers over pixels.")
    kernel: int = Field(default=3, ge=3, le=31, description="The width of the convolutions after the first; odd.")

    dilations: tuple[int, ...] | None = Field(
        default=None,
        description="The spacing of the pixels that each layer's convolution sees, such as 1,2,4,2,1; by default it "
        "grows and shrinks so that all layers together see most of an image.",
    )

    @field_validator("dilations")
    @classmethod
    def _check_dilations(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and not (value and all(1 <= dilation <= 4096 for dilation in value)):
            raise ValueError("each dilation is between 1 and 4096")
        return value

    @field_validator("kernel")
    @classmethod
    def _check_kernel(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("a kernel is odd, so that it has a middle")
        return value


class PixelCNNOptions(LikelihoodOptions, PixelOptions):
    """Options of ``pixelcnn``."""

    model: str = "pixelcnn"


class PixelVAEOptions(DenseOptions, LikelihoodOptions, PosteriorOptions, DivergenceOptions, PixelOptions):
    """Options of ``pixel-vae``."""

    model: str = "pixel-vae"
    prior: Prior = "standard"
    samples: int | None = Field(
        default=20,
        ge=1,
        le=10**6,
        description="The number of samples K of the final bound on log p(x); each costs a pass over all pixels.",
    )
