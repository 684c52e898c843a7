"""Weights and the state of an optimiser as named tensors: copies of them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["copied", "flat", "on", "unflat"]


def copied(model: Any) -> dict[str, Tensor]:
    """The state of a model as it is now."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def on(device: torch.device, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on a device."""
    return {name: value.to(device) for name, value in tensors.items()}


def flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def unflat(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Gives an optimiser the state that :func:`flat` made of one."""
    document = optimizer.state_dict()
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**document, "state": entries})
