"""Dense networks in torch, without jensen, and their weights as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from .job import Array

__all__ = ["arrays", "dense", "linear"]

_UNITS = {"silu": nn.SiLU, "relu": nn.ReLU}


def dense(sizes: Sequence[int], activation: str, *, ends_active: bool = False) -> nn.Sequential:
    """A dense network with layers of the given sizes."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), _UNITS[activation]()]
    return nn.Sequential(*(layers if ends_active else layers[:-1]))


def arrays(role: str, *layers: nn.Linear | Sequence[nn.Linear]) -> dict[str, Array]:
    """Weights and biases by name; where a layer is several side by side, their outputs are joined."""
    found = {}
    for number, layer in enumerate(layers):
        parts = [layer] if isinstance(layer, nn.Linear) else list(layer)
        found[f"{role}.{number}.weight"] = torch.cat([part.weight for part in parts]).detach().numpy()
        found[f"{role}.{number}.bias"] = torch.cat([part.bias for part in parts]).detach().numpy()
    return found


def linear(net: nn.Module) -> list[nn.Linear]:
    """The dense layers of a network, in order."""
    return [module for module in net.modules() if isinstance(module, nn.Linear)]
