"""jensen: variational autoencoders whose every number can be trusted and whose every piece can be swapped."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from . import (
        baselines,
        classify,
        conditional,
        data,
        diagnose,
        distributions,
        errors,
        evaluation,
        families,
        fitted,
        inference,
        likelihoods,
        model,
        nets,
        noise,
        numbers,
        objectives,
        pictures,
        posteriors,
        priors,
        recipe,
        roles,
        run,
        saving,
        schedules,
        spec,
        testing,
        train,
        walks,
        zoo,
    )
    from .checkup import check
    from .classify import encoder_classifier
    from .conditional import Conditional, Conditioned
    from .errors import JensenError
    from .evaluation import elbo, log_likelihood
    from .fitted import Evaluation, Fitted, evaluate
    from .inference.exact_posterior import posterior
    from .model import VAE
    from .numbers import Number
    from .run import Run, compare, fit, resume
    from .saving import load, save
    from .spec import declared
    from .walks import latent_map, traverse

# Type checkers read a list that is written out only.
__all__ = [
    "__version__",
    "VAE",
    "Conditional",
    "Conditioned",
    "Evaluation",
    "Fitted",
    "JensenError",
    "Number",
    "Run",
    "baselines",
    "check",
    "classify",
    "compare",
    "conditional",
    "data",
    "declared",
    "diagnose",
    "distributions",
    "elbo",
    "encoder_classifier",
    "errors",
    "evaluate",
    "evaluation",
    "families",
    "fit",
    "fitted",
    "inference",
    "latent_map",
    "likelihoods",
    "load",
    "log_likelihood",
    "model",
    "nets",
    "noise",
    "numbers",
    "objectives",
    "pictures",
    "posterior",
    "posteriors",
    "priors",
    "recipe",
    "resume",
    "roles",
    "run",
    "save",
    "saving",
    "schedules",
    "spec",
    "testing",
    "train",
    "traverse",
    "walks",
    "zoo",
]

_NAMES = {
    "Conditional": "conditional",
    "Conditioned": "conditional",
    "Evaluation": "fitted",
    "Fitted": "fitted",
    "JensenError": "errors",
    "Number": "numbers",
    "Run": "run",
    "VAE": "model",
    "check": "checkup",
    "compare": "run",
    "declared": "spec",
    "elbo": "evaluation",
    "encoder_classifier": "classify",
    "evaluate": "fitted",
    "fit": "run",
    "load": "saving",
    "latent_map": "walks",
    "log_likelihood": "evaluation",
    "posterior": "inference.exact_posterior",
    "resume": "run",
    "save": "saving",
    "traverse": "walks",
}


def __getattr__(name: str) -> Any:
    # Names are imported when they are first used, so that `import jensen` and `jensen --help` cost next to nothing.
    if name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    elif name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
