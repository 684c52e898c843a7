"""One page about a model: is it any good, and what limits it?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..numbers import SCHEMA_VERSION, Number
from .calibration import Calibration
from .collapse import LatentUse
from .disentanglement import Disentanglement, InformationGap
from .features import Frequencies
from .findings import Finding
from .gaps import InferenceGaps
from .gradients import GradientNoise
from .prior_gap import PriorGap
from .representation import LabelProbe
from .scale import PosteriorScale
from .surgery import Surgery
from .weights import WeightReport

__all__ = ["Page", "Subject"]


@dataclass(frozen=True)
class Subject:
    r"""What is checked: a model, the rows, and what is known beside them, all in the values that the model sees.

    Arguments:
        model: The model.
        x: The rows of the split, shape (N, \*X).
        train: The training rows, shape (M, \*X); None where there are none.
        labels: The labels of the rows, shape (N,), whole numbers from 0.
        train_labels: Those of the training rows, shape (M,).
        factors: The factors of variation of the rows, shape (N, F), whole numbers from 0.
        objective: What the model was trained with.
        log_jacobian: What turns log-densities into those of the user's units, nats.
        measure: Whether p(x) is a mass or a density.
        split: The name of the rows.
        protocol: How the rows were made.
        rows: The number of rows of which the costly parts take a sample.
        samples: The number of draws of the latents for each of those rows.
        seed: The seed of everything that is drawn.
        shares: The share of its rows, or temperatures, that a part is to take; 1 where nothing is said.
    """

    model: Any
    x: Tensor
    train: Tensor | None = None
    labels: Tensor | None = None
    train_labels: Tensor | None = None
    factors: Tensor | None = None
    objective: Any = None
    log_jacobian: float = 0.0
    measure: Literal["mass", "density"] = "density"
    split: str = "test"
    protocol: str = ""
    rows: int = 200
    samples: int = 1000
    seed: int = 0
    shares: dict[str, float] = field(default_factory=dict)

    def share_of(self, part: str, full: int, least: int) -> int:
        """How many of the rows or temperatures of a part are taken: its share, and no fewer than say anything."""
        return scaled(full, self.shares.get(part, 1.0), least)


@dataclass(frozen=True)
class Page:
    """What a check found, part by part; a part that does not apply is None, and ``skipped`` says why.

    Arguments:
        about: Split, numbers of rows and draws, seed, protocol and measure.
        weights: Bounds and estimates of log p(x), and whether the weights can be trusted.
        annealed: The bound by annealed importance sampling, and the importance-weighted one of the same rows.
        bracket: Bounds from below and from above on log p(x) of rows simulated from the model.
        gaps: The gap of the bound, split into its causes.
        surgery: What the average KL is made of.
        use: Which latents are used.
        features: How often features are on, of models that have such.
        gradients: For each objective and estimator, the noise of the gradients of encoder and decoder.
        calibration: Whether the posterior says how uncertain z is.
        scale: Whether all posteriors should be wider or narrower.
        prior: Whether draws from the prior look like codes.
        labels: How well labels are read from ``means``, ``samples`` and the ``rows`` themselves.
        information_gap: The mutual information gap.
        disentanglement: Disentanglement, completeness and informativeness.
        skipped: The parts that are missing, each with the reason.
        findings: What all this means, faults first.
    """

    about: dict[str, Any]
    weights: WeightReport | None = None
    annealed: dict[str, Number] | None = None
    bracket: dict[str, Number] | None = None
    gaps: InferenceGaps | None = None
    surgery: Surgery | None = None
    use: LatentUse | None = None
    features: Frequencies | None = None
    gradients: dict[str, dict[str, dict[str, GradientNoise]]] | None = None
    calibration: Calibration | None = None
    scale: PosteriorScale | None = None
    prior: PriorGap | None = None
    labels: dict[str, LabelProbe] | None = None
    information_gap: InformationGap | None = None
    disentanglement: Disentanglement | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def faults(self) -> list[Finding]:
        """What is wrong; empty for a healthy model."""
        return [finding for finding in self.findings if finding.kind == "fault"]

    def __str__(self) -> str:
        return "\n".join(f"{finding.kind}: {finding}" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The page as plain data."""
        parts = ("weights", "annealed", "bracket", "gaps", "surgery", "use", "gradients", "calibration", "scale")
        more = ("prior", "features", "labels", "information_gap", "disentanglement", "findings")
        return {
            "schema_version": SCHEMA_VERSION,
            **self.about,
            **{name: _plain(getattr(self, name)) for name in (*parts, *more)},
            "skipped": self.skipped,
            "healthy": not self.faults,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.to_json() if hasattr(value, "to_json") else value


def scaled(full: int, share: float, least: int) -> int:
    """A share of a number, at least so many, and no more than all.

    Example:
        >>> scaled(200, 0.25, 10), scaled(200, 0.01, 10), scaled(5, 0.25, 10)
        (50, 10, 5)
    """
    return min(full, max(least, round(full * share)))


def halves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """The numbers of a random half of rows, and those of the other."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: count // 2], order[count // 2 :]
