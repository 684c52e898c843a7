"""A fitted model: it takes and returns the user's rows, and says what it is worth."""

from .model import Fitted
from .worth import Evaluation, evaluate, score

__all__ = ["Evaluation", "Fitted", "evaluate", "score"]
