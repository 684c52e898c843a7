"""Objectives of models without a posterior distribution."""

from __future__ import annotations

from typing import Any

from ..errors import CompositionError
from ..roles import BoundKind, Estimate, Given
from ..spec import declared

__all__ = ["LogLikelihood", "Reconstruction"]


@declared("objectives.LogLikelihood")
class LogLikelihood:
    """The exact log p(x) of a model without latents, in nats per example.

    Raises:
        CompositionError: When used on a model whose log-weights are not exact.

    Example:
        >>> LogLikelihood().kind
        'exact'
    """

    kind: BoundKind = "exact"
    k = 1
    period = 1
    compiles = True

    def __call__(self, model: Any, x: Any, given: Given | None = None, step: int = 0) -> Estimate:
        if getattr(model, "evidence", "lower") != "exact":
            raise CompositionError(
                f"the log-likelihood of {type(model).__name__} is an integral over its latents, which is not known. "
                "Use ELBO(), a bound on it."
            )
        log_likelihood = model.draw(x, given, 1).log_weight[0]
        return Estimate.of({"negative_log_likelihood": -log_likelihood}, log_likelihood)


@declared("objectives.Reconstruction")
class Reconstruction:
    r"""The error :math:`-\log p(x | z = f(x))` of an autoencoder, in nats per example; it is no bound on anything.

    References:
        Hinton, Salakhutdinov (2006), Reducing the dimensionality of data with neural networks.

    Raises:
        CompositionError: When used on a model with a posterior distribution, whose KL it would leave out.

    Example:
        >>> Reconstruction().kind
        'none'
    """

    kind: BoundKind = "none"
    k = 1
    period = 1
    compiles = True

    def __call__(self, model: Any, x: Any, given: Given | None = None, step: int = 0) -> Estimate:
        if getattr(model, "evidence", "lower") != "none":
            raise CompositionError(
                f"{type(model).__name__} has a distribution over codes; without its KL they would not stay close to "
                "anything that can be sampled. Use ELBO(), or an Autoencoder."
            )
        error = -model.draw(x, given, 1).log_likelihood[0]
        return Estimate.of({"reconstruction": error}, None)
