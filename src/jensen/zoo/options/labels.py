"""The options of models that are conditioned on labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .shared import DenseOptions, DivergenceOptions, LikelihoodOptions, Positive, Warmup

__all__ = ["ConditionalVAEOptions", "SemiSupervisedOptions"]

LabelledPosterior = Annotated[
    Literal["auto", "diagonal", "full", "low-rank", "mixture"], Field(description="The family of q(z|x, y).")
]


class ConditionalVAEOptions(DenseOptions, LikelihoodOptions, DivergenceOptions):
    """Options of ``conditional-vae``."""

    model: str = "conditional-vae"
    posterior: LabelledPosterior = "auto"
    prior: Literal["standard", "conditioned"] = Field(
        default="standard", description="The prior p(z), or one for each label."
    )


class SemiSupervisedOptions(DenseOptions, LikelihoodOptions):
    """Options of ``semi-supervised-vae``."""

    model: str = "semi-supervised-vae"
    labelled: int = Field(default=100, ge=2, le=10**9, description="The number of training rows whose label is used.")
    alpha: Positive = Field(default=10.0, description="The weight α of the classifier's loss on labelled rows, nats.")
    beta: Positive = Field(default=1.0, description="The weight of the KL in the loss.")
    kl_warmup: Warmup = None
    posterior: LabelledPosterior = "auto"
