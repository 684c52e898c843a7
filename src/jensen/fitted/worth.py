"""What a model is worth on some rows: bounds on log p(x), bits, perplexity, and how much each latent is used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..evaluation import Bounds, Latents, Number, bounds, kind_of, latents, summarise
from ..numbers import Precision
from ..roles import Given
from .model import Fitted

__all__ = ["Evaluation", "evaluate", "score"]


@dataclass(frozen=True)
class Evaluation:
    r"""What a model is worth on some rows.

    Arguments:
        elbo: The evidence lower bound.
        log_likelihood: The lower bound on log p(x) from K samples.
        bits_per_dim: ``log_likelihood`` as bits per dimension, for a mass; None for a density.
        latents: How much each latent is used.
        scores: The bounds of each row.
        perplexity: Of sentences, :math:`\exp(-\log p(x) / T)` over all tokens, ends included; None for other data. A
            lower bound on log p(x) bounds it from above.
    """

    elbo: Number
    log_likelihood: Number
    bits_per_dim: float | None
    latents: Latents
    scores: Bounds
    perplexity: float | None = None

    def __str__(self) -> str:
        bits = "" if self.bits_per_dim is None else f" · {self.bits_per_dim:.4f} bits/dim"
        bits += "" if self.perplexity is None else f" · perplexity {self.perplexity:.2f}"
        return (
            f"ELBO {self.elbo} · log p(x) {self.log_likelihood}{bits} · {self.elbo.n} examples, "
            f"{self.elbo.split} rows, {self.latents.active} active latents"
        )

    def to_json(self) -> dict[str, Any]:
        """The result as plain data."""
        each = self.latents.kl_per_latent
        exact = self.log_likelihood.kind == "exact"  # both numbers are the same then
        return {
            "test": {
                **({} if exact else {"elbo": self.elbo.to_json()}),
                "log_likelihood": self.log_likelihood.to_json(),
                "bits_per_dim": self.bits_per_dim,
                **({} if self.perplexity is None else {"perplexity": self.perplexity}),
            },
            "kl": self.latents.kl,
            "kl_per_latent": None if each is None else each.tolist(),
            "active_latents": None if exact else self.latents.active,
        }


def evaluate(
    model: Any,
    x: Any,
    *,
    k: int = 1000,
    seed: int = 0,
    split: str = "test",
    labels: Any = None,
    precision: Precision = "fp32",
) -> Evaluation:
    r"""Bounds on log p(x) of held-out rows, with their errors.

    Arguments:
        model: A :class:`Fitted`, with rows in the user's units, or a model, with rows as it sees them.
        x: The rows, shape (N, \*X); for a :class:`Fitted` also a path, as in :meth:`Fitted.read`.
        k: The number of samples K of the log-mean-exp bound.
        seed: The seed of the noise.
        split: What the rows are, for the result.
        labels: The label of each row, for a model that is conditioned on them.
        precision: What networks compute in, as in :func:`jensen.evaluation.bounds`.

    Example:
        >>> import torch
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> evaluate(oracle.model, torch.zeros(4, 3, dtype=torch.float64), k=10).log_likelihood.kind
        'lower'
    """
    fitted = model if isinstance(model, Fitted) else Fitted(model)
    rows = fitted.model_values(x)
    given = fitted.given(labels, len(rows))
    return score(fitted, rows, k=k, seed=seed, split=split, given=given, precision=precision)


def score(
    fitted: Fitted,
    rows: Tensor,
    *,
    k: int,
    seed: int,
    split: str,
    given: Given | None = None,
    precision: Precision = "fp32",
) -> Evaluation:
    """The evaluation of rows that are model values already."""
    scores = bounds(fitted.vae, rows, k=k, seed=seed, given=given, precision=precision)
    jacobian = 0.0 if fitted.schema is None else fitted.schema.log_jacobian
    labels = {"split": split, "protocol": fitted.protocol, **kind_of(fitted.vae, scores)}
    elbo = summarise(scores.elbo + jacobian, scores.elbo_variance, scores, **labels)
    log_likelihood = summarise(scores.log_likelihood + jacobian, scores.log_likelihood_variance, scores, **labels)
    bits = -log_likelihood.mean / (rows[0].numel() * math.log(2)) if labels["measure"] == "mass" else None
    perplexity = None
    if fitted.schema is not None and fitted.schema.kind == "tokens":
        bits, perplexity = None, math.exp(-log_likelihood.mean * len(rows) / int((rows != 0).sum()))
    return Evaluation(elbo, log_likelihood, bits, latents(fitted.vae, rows, given), scores, perplexity)
