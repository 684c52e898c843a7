"""The options of every training, whatever the model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["FitOptions"]

BinarisationName = Literal["none", "static", "dynamic", "threshold"]


class FitOptions(BaseModel):
    """The options of every training; None means that the data decide."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        default="vae",
        description="Which model; jensen models lists them. By default vae, or sentence-vae for sentences.",
    )
    epochs: float | None = Field(
        default=None, gt=0, le=10**7, allow_inf_nan=False, description="How often each training row is seen."
    )
    steps: int | None = Field(default=None, ge=1, le=10**9, description="The number of steps, instead of --epochs.")
    time_budget: float | None = Field(
        default=None,
        gt=0,
        le=10**8,
        allow_inf_nan=False,
        description="The time to train, validations included, instead of --epochs: such as 90s, 10m or 1.5h. It is "
        "turned into a number of steps before the first one, and no clock decides anything after that.",
    )
    batch_size: int | None = Field(default=None, ge=1, le=10**7, description="The largest number of rows in a batch.")
    learning_rate: float | None = Field(
        default=None, gt=0, le=10, allow_inf_nan=False, description="The peak of the learning rate."
    )
    constant_rate: bool = Field(
        default=False, description="Keep the learning rate at its peak, rather than let it fall along half a cosine."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, le=10, allow_inf_nan=False, description="The decoupled weight decay (AdamW)."
    )
    clip: float = Field(
        default=5.0,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="Shorten gradients that are longer than this multiple of their usual length; 0 for never.",
    )
    average: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="The decay of a moving average of the weights, which is then validated and kept, such as 0.999.",
    )
    patience: int | None = Field(
        default=None, ge=1, le=10**9, description="Stop after this many validations in a row without a better bound."
    )
    validate_every: int | None = Field(
        default=None, ge=1, le=10**9, description="The number of steps between two validations."
    )
    checkpoint_every: int | None = Field(
        default=None, ge=1, le=10**9, description="The number of steps between two checkpoints."
    )
    seed: int = Field(default=0, ge=0, lt=2**62, description="The seed of initial weights, order and noise.")
    data_seed: int = Field(default=0, ge=0, lt=2**62, description="The seed of splits and of frozen binarisation.")
    binarisation: BinarisationName | None = Field(default=None, description="How grey values become zeros and ones.")
    key: str | None = Field(default=None, description="Which array of an .npz file to take.")
    image_size: int | None = Field(
        default=None,
        ge=4,
        le=1024,
        description="The height and width that the images of a folder are made to, from 4 to 1024 pixels; by default "
        "64, or the median short side where that is smaller.",
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        le=10**6,
        description="The number of samples K of the final bound on log p(x); by default up to 1000, fewer for many or "
        "large rows.",
    )
    device: str = Field(
        default="auto", description="Where to compute: auto, cpu, cuda or another name that torch knows."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="What the networks compute in while training; densities, weights and all reported numbers are fp32 "
        "or better.",
    )
    compile: Literal["auto", "on", "off"] = Field(default="auto", description="Compile the step with torch.compile.")
