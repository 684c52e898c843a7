"""Reweighted wake-sleep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import CompositionError, OptionError
from ..roles import BoundKind, Estimate, Given
from ..spec import declared
from .means import PowerMean

__all__ = ["ReweightedWakeSleep"]

_IWAE = PowerMean(0.0)


@declared("objectives.ReweightedWakeSleep")
class ReweightedWakeSleep:
    r"""Two objectives: p learns from weighted samples of q, and q learns to cover the posterior of p.

    .. math:: \text{wake: } \nabla_\theta \log \tfrac1K \textstyle\sum_k w_k, \quad
              \nabla_\phi \sum_k \tilde w_k \log q_\phi(z_k|x); \quad
              \text{sleep: } \nabla_\phi \log q_\phi(z^*|x^*), \; (z^*, x^*) \sim p

    It needs no gradient through z, so latents may be discrete, and no number that it minimises is a bound.

    References:
        Bornschein, Bengio (2015), Reweighted wake-sleep. Le et al. (2019), Revisiting reweighted wake-sleep for models
        with stochastic control flow. Hinton, Dayan, Frey, Neal (1995), The wake-sleep algorithm.

    Arguments:
        k: The number of samples K of the wake phase.
        wake: The weight of the encoder's wake phase.
        sleep: The weight of the encoder's sleep phase; with ``wake=0`` it is the classical wake-sleep algorithm.

    Raises:
        OptionError: If an argument is out of range, or the encoder would learn nothing.
        CompositionError: When used, if the model has latents of the whole data set.

    Example:
        >>> ReweightedWakeSleep(k=5).kind
        'none'
    """

    kind: BoundKind = "none"
    decodes = False
    """Whether the encoder learns through the decoder: in both phases it learns from samples as they are."""
    period = 1

    def __init__(self, k: int = 5, *, wake: float = 1.0, sleep: float = 0.0) -> None:
        if k < 1:
            raise OptionError(f"reweighted wake-sleep needs at least 1 sample; got k={k}.")
        if not (0 <= wake < float("inf") and 0 <= sleep < float("inf") and wake + sleep > 0):
            raise OptionError(f"the weights of the phases are not negative and one is positive; got {wake}, {sleep}.")
        if k == 1 and not sleep:
            raise OptionError(
                "with one sample the weight in the encoder's wake phase is always 1, which asks q to repeat its own "
                "samples and teaches it nothing. Use k=2 or more, or sleep=1."
            )
        self.k = k
        self.wake, self.sleep = float(wake), float(sleep)

    def __call__(self, model: Any, x: Tensor, given: Given | None = None, step: int = 0) -> Estimate:
        with torch.no_grad():
            draw = model.draw(x, given, 1)
        if draw.shared:
            raise CompositionError(
                "reweighted wake-sleep compares each row's samples of z with one another, by weights for that row "
                "alone. Latents g of the whole data set have one weight for all rows together, the product of theirs, "
                "so that q(g) would get no gradient from it. Use ELBO or IWAE, whose bound holds their KL."
            )
        if len(draw.groups) != 1 or not callable(getattr(model, "posterior", None)):
            raise CompositionError(
                "reweighted wake-sleep scores the samples of one group of latents by one posterior; "
                f"{type(model).__name__} has not both. Use its own objective."
            )
        if getattr(model.posterior, "deterministic", False):
            raise CompositionError(
                "reweighted wake-sleep teaches q(z|x) by its density at samples; this posterior is one code, whose "
                "density is the same whatever it has learnt. Use CodedELBO."
            )
        # One pass of the encoder: with dropout in it, another one would weigh samples that it did not draw.
        posterior = model.posterior(x, given)
        with torch.no_grad():
            z = posterior.sample(torch.Size((self.k,)))
        log_posterior = posterior.log_prob(z)
        log_weight = model.log_joint(x, z, given) - log_posterior.detach()
        weights = _IWAE.weights(log_weight.detach())
        terms = {"wake": -_IWAE.value(log_weight) - self.wake * (weights * log_posterior).sum(0)}
        if self.sleep:
            terms["sleep"] = -self.sleep * self._dreamt(model, len(x), given)
        return Estimate.of(terms, None)

    @staticmethod
    def _dreamt(model: Any, count: int, given: Given | None) -> Tensor:
        r""":math:`\log q(z^*|x^*)` of examples that the model makes up, shape (B,)."""
        with torch.no_grad():
            prior = model.prior(given)
            z = prior.sample(torch.Size((1,) if prior.batch_shape else (1, count)))
            x = model.decode(z, given).sample()[0]
        unnumbered = None if given is None else replace(given, index=None)  # these rows are in no data set
        dreamt: Tensor = model.posterior(x, unnumbered).log_prob(z)[0]
        return dreamt
