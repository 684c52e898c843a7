"""The bound for rows some of which have a label."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..distributions import closed_form_kl
from ..errors import CompositionError, OptionError
from ..roles import BoundKind, Estimate, Given, Group
from ..schedules import Schedule, as_weight
from ..spec import declared
from .elbo import known_kl
from .gradients import distribution_name

__all__ = ["SemiSupervised"]


@declared("objectives.SemiSupervised")
class SemiSupervised:
    r"""The evidence lower bound with an exact sum over classes, and a classifier that learns from the labelled rows:

    .. math:: L(x, y) = E_{q(z|x,y)}[\log p(x|z, y)] - \beta \, (\log C + \mathrm{KL}(q(z|x,y) \| p(z)))
    .. math:: U(x) = \sum_y q(y|x) (L(x, y) - \beta \log q(y|x))

    The loss is :math:`-U(x)` of rows without a label and :math:`-L(x, y) - \alpha \log q(y|x)` of the others. With
    β = 1, U bounds log p(x), and L bounds log p(x, y), which is less still.

    References:
        Kingma, Rezende, Mohamed, Welling (2014), Semi-supervised learning with deep generative models (M2).

    Arguments:
        alpha: The weight α of the classifier's loss.
        beta: The weight β of both KLs in the loss: a number or a schedule of the step.
        k: The number of samples K of z for each class.

    Raises:
        OptionError: If an argument is out of range.
        CompositionError: When used, if the model has no classes, or samples of q(z|x, y) have no gradient.
        DataError: When used, if there is not one label for each row, or a label is no class.

    Example:
        >>> SemiSupervised(alpha=10.0).kind
        'lower'
    """

    kind: BoundKind = "lower"

    def __init__(self, alpha: float = 1.0, *, beta: float | Schedule = 1.0, k: int = 1) -> None:
        if not 0 < alpha < math.inf:
            raise OptionError(f"alpha must be positive, or the classifier would learn from no label; got {alpha}.")
        if k < 1:
            raise OptionError(f"a bound needs at least 1 sample; got k={k}.")
        self.alpha, self.k = float(alpha), k
        self.beta = as_weight(beta)
        self.period = self.beta.period

    def __call__(self, model: Any, x: Tensor, given: Given | None = None, step: int = 0) -> Estimate:
        if not hasattr(model, "each_class"):
            raise CompositionError(f"{type(model).__name__} has no classes. Use a model.SemiSupervised, or ELBO().")
        each = model.each_class(x, self.k)
        group = Group(each.z, each.prior, each.posterior)
        if not each.posterior.has_rsample:
            raise CompositionError(
                "the encoder would learn from its KL alone: the samples of "
                f"{distribution_name(each.posterior)} have no gradient. Use a family whose samples depend smoothly on "
                "its parameters, such as families.Normal, or for coins families.StraightThroughBernoulli."
            )
        kl = closed_form_kl(each.posterior, each.prior)
        if kl is None:
            kl = (group.log_posterior - group.log_prior).mean(0)
        log_class = each.log_class
        observed = model.observed(given, log_class)
        known = torch.zeros_like(log_class[:, 0]) if observed is None else observed.sum(-1)
        share = log_class.exp()
        if observed is not None:
            share = torch.where(known[:, None] > 0, observed, share)
        entropy = -(share * log_class).sum(-1) * (1 - known)
        reconstruction = -(share * each.log_likelihood.mean(0)).sum(-1)
        kl_z, kl_class = (share * kl).sum(-1), math.log(log_class.shape[-1]) - entropy
        known_kl_z = (share * known_kl(group, kl)).sum(-1)
        beta = self.beta(step)
        terms = {"reconstruction": reconstruction, "kl": beta * kl_z, "class_kl": beta * kl_class}
        if observed is not None:
            terms["classification"] = -self.alpha * known * (share * log_class).sum(-1)
        return Estimate.of(terms, -(reconstruction + known_kl_z + kl_class).detach())
