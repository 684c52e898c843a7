"""jensen's bound on log p(x)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from jensen.evaluation import bounds
from jensen.numbers import Precision

from .job import Array, Job, Turn, versions
from .ours import Ours

__all__ = ["make"]


class Scoring:
    """Scores rows with K samples each; K may grow from turn to turn."""

    def __init__(self, job: Job, samples: tuple[int, ...], precision: Precision) -> None:
        self.versions = versions("jensen", "torch")
        self.samples, self.precision = samples, precision
        ours = Ours(job, "fp32", compiled=False, images=False)
        self.model, self.rows = ours.model, ours.rows
        torch.manual_seed(job.seed)

    def run(self, turn: Turn) -> None:
        """A turn scores all rows."""
        for k in self.samples:
            scores = bounds(self.model, self.rows, k=k, precision=self.precision)
            turn(k * len(self.rows), -float(scores.log_likelihood.mean()))

    def weights(self) -> Mapping[str, Array]:
        """Nothing was learned."""
        return {}


def make(job: Job, *, growing: bool = False, precision: Precision = "fp32") -> Scoring:
    """The contender."""
    return Scoring(job, job.growth if growing else (job.samples,) * job.turns, precision)
