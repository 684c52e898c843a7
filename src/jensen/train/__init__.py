"""Training: a step, a loop, and checkpoints that resume to the last bit."""

from .checkpoint import Checkpoints
from .fit import fit
from .history import History, Report
from .options import TrainOptions
from .pace import Pace, measure_pace
from .profile import Profile

__all__ = ["Checkpoints", "History", "Pace", "Profile", "Report", "TrainOptions", "fit", "measure_pace"]
