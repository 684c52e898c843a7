"""Weights as named tensors: copies of them, and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["copied", "on"]


def copied(model: Any) -> dict[str, Tensor]:
    """The state of a model as it is now."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def on(device: torch.device, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on a device."""
    return {name: value.to(device) for name, value in tensors.items()}
