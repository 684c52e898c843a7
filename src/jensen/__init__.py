"""jensen: variational autoencoders whose every number can be trusted and whose every piece can be swapped."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        conditional,
        distributions,
        errors,
        evaluate,
        families,
        model,
        nets,
        noise,
        objectives,
        priors,
        roles,
        schedules,
        spec,
        testing,
    )
    from .conditional import Conditional
    from .errors import JensenError
    from .model import VAE
    from .spec import declared

__version__ = "0.1.0"

_NAMES = {"Conditional": "conditional", "JensenError": "errors", "VAE": "model", "declared": "spec"}
_MODULES = (
    "conditional",
    "distributions",
    "errors",
    "evaluate",
    "families",
    "model",
    "nets",
    "noise",
    "objectives",
    "priors",
    "roles",
    "schedules",
    "spec",
    "testing",
)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
