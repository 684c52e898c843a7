"""Validation: rows that training does not see, scored at β = 1 with the same noise each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..evaluation import bounds, device_of, evaluation_mode, evidence_of, latents, reconstructions
from ..noise import mix, seeded
from ..numbers import finite, mean_and_se
from ..roles import Given, Objective

__all__ = ["Validation"]

_BATCH = 128
_SCORES = {"lower": "elbo", "predictive": "elbo", "exact": "log_likelihood", "none": "reconstruction"}
"""What validation measures, by what the log-weights of a model are worth."""


@dataclass(frozen=True)
class Validation:
    r"""Validation rows of a model.

    Arguments:
        model: The model.
        objective: What it is trained on.
        rows: The rows as the model sees them, shape (N, \*X).
        given: What is known beside them.
        seed: The seed of the training.
    """

    model: Any
    objective: Objective
    rows: Tensor
    given: Given | None
    seed: int

    def scores(self) -> Tensor:
        """The bound of each row, or how well it is reconstructed where there is no bound.

        Raises:
            NonFiniteError: If a log-weight is not a number, or infinitely large.
        """
        if evidence_of(self.model) == "none":
            return reconstructions(self.model, self.rows, self.given)
        seed, k = mix(self.seed, "validation"), self.samples
        found = bounds(self.model, self.rows, k=k, seed=seed, given=self.given)
        return found.elbo if k == 1 else found.log_likelihood

    @property
    def samples(self) -> int:
        """The K of the bound that selects weights: that of an objective of K weights, 1 of any other."""
        objective = getattr(self.objective, "objective", self.objective)  # of aggressive inference, what it wraps
        return int(objective.k) if hasattr(objective, "target") else 1

    @property
    def by_bound(self) -> bool:
        """Whether weights are selected by the score; otherwise by the objective's own loss."""
        objective = getattr(self.objective, "objective", self.objective)
        return not getattr(objective, "selects", False) or len(self.rows) < getattr(objective, "least_batch", 1)

    def _loss(self) -> float:
        """The objective's own loss on the rows, in batches, with the same noise each time."""
        device, total, count = device_of(self.model), 0.0, 0
        with evaluation_mode(self.model), torch.inference_mode(mode=False), torch.no_grad():
            for start in range(0, len(self.rows), _BATCH):
                part = slice(start, start + _BATCH)
                rows = self.rows[part].to(device)
                if len(rows) < getattr(self.objective, "least_batch", 1):
                    break
                given = None if self.given is None else self.given.rows(part).to(device)
                with seeded(self.seed, "validation", start):
                    loss = self.objective(self.model, rows, given, self.objective.period).loss
                total, count = total + len(rows) * float(loss), count + len(rows)
        return total / count

    def summary(self, scores: Tensor, log_jacobian: float) -> tuple[float, dict[str, Any]]:
        """What selects weights, and the line of a report, whose densities are of the user's values."""
        mean, se = mean_and_se(scores)
        worth = mean if self.by_bound else -self._loss()
        use, evidence = latents(self.model, self.rows, self.given), evidence_of(self.model)
        several = self.samples > 1 and evidence in ("lower", "predictive")
        return worth, {
            "log_likelihood" if several else _SCORES[evidence]: finite(mean + log_jacobian),
            **({"k": self.samples} if several else {}),
            **({} if self.by_bound else {"loss": finite(-worth)}),
            "se": finite(se),
            "n": len(scores),
            "kl": None if use.kl is None else finite(use.kl),
            "active_latents": use.active,
            **getattr(getattr(self.model, "posterior", None), "report", dict)(),
        }
