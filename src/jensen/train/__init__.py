"""Training: a step, a loop, and checkpoints that resume to the last bit."""

from .checkpoint import Checkpoints
from .fit import History, Report, TrainOptions, fit

__all__ = ["Checkpoints", "History", "Report", "TrainOptions", "fit"]
