"""A run: data described, split and modelled, a model trained, measured and saved, all in one folder."""

from .fitting import Run, fit, resume
from .folder import environment, reopen
from .observe import Log, Observer, describe_data
from .results import SCHEMA_VERSION, compare, evaluate_run, number_of

__all__ = [
    "SCHEMA_VERSION",
    "Log",
    "Observer",
    "Run",
    "compare",
    "describe_data",
    "environment",
    "evaluate_run",
    "fit",
    "number_of",
    "reopen",
    "resume",
]
