"""One step: the only place that knows there is a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..roles import Estimate, Given, Objective
from .guards import LiveTerms

__all__ = ["step"]


def step(
    model: Any,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    given: Given,
    number: int,
    live: LiveTerms,
) -> Estimate:
    r"""Takes one step of the optimiser on one batch, unless the loss is not finite.

    Arguments:
        model: A model.
        objective: What is minimised.
        optimizer: An optimiser over the model's parameters.
        x: The batch as the model sees it, shape (B, \*X).
        given: What is known beside it.
        number: The number of the step, from 0.
        live: The watch over the objective's terms.

    Returns:
        The estimate at the parameters before the step.
    """
    estimate = objective(model, x, given, number)
    if not estimate.loss.isfinite():
        return estimate
    live.watch(estimate, model, number)
    optimizer.zero_grad(set_to_none=True)
    estimate.loss.backward()
    optimizer.step()
    return estimate
