"""A run: data described, split and modelled, a model trained, measured and saved, all in one folder."""

from .fitting import Run, fit, resume
from .folder import environment, reopen
from .observe import Log, Observer, describe_data
from .results import compare, evaluate_run, number_of
from .seeds import SeedRuns, fit_seeds, is_seed_runs, resume_seeds

__all__ = [
    "Log",
    "Observer",
    "Run",
    "SeedRuns",
    "compare",
    "describe_data",
    "environment",
    "evaluate_run",
    "fit",
    "fit_seeds",
    "is_seed_runs",
    "number_of",
    "reopen",
    "resume",
    "resume_seeds",
]
