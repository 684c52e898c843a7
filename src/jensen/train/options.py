"""What decides the numbers of a training, beside model, objective and data."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ..numbers import Precision

__all__ = ["TrainOptions"]


class TrainOptions(BaseModel):
    """What decides the numbers of a training, beside model, objective and data.

    Arguments:
        steps: The number of steps.
        batch_size: The largest number of rows in a batch; batches of an epoch differ in size by at most one.
        learning_rate: The peak of the learning rate of Adam.
        decay: Whether the learning rate falls along half a cosine to zero; otherwise it stays at its peak.
        warmup: The number of steps in which the learning rate rises to its peak.
        weight_decay: The decoupled weight decay (AdamW).
        clip: Gradients longer than this multiple of their usual length are shortened to it; 0 never shortens.
        average: The decay of the moving average of the weights, which is then what is validated and kept; 0 is none.
        patience: Stop after this many validations in a row without a better bound, once all schedules of the
            objective have run; None never stops early.
        validate_every: How many steps lie between two validations.
        seed: The seed of order and noise.
        select: Whether the weights with the best validation bound are kept, rather than the last ones.
        precision: What the networks compute in; densities and the weights themselves are always fp32.
        compiled: Whether steps are compiled.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(ge=1, le=10**9)
    batch_size: int = Field(default=128, ge=1, le=10**7)
    learning_rate: float = Field(default=1e-3, gt=0, le=10, allow_inf_nan=False)
    decay: bool = True
    warmup: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0, le=10, allow_inf_nan=False)
    clip: float = Field(default=5.0, ge=0, le=1e6, allow_inf_nan=False)
    average: float = Field(default=0.0, ge=0, lt=1)
    patience: int | None = Field(default=None, ge=1)
    validate_every: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    select: bool = True
    precision: Precision = "fp32"
    compiled: bool = False
