"""A class beside continuous latents, observed for some rows and summed over for the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..conditional import Conditional, Conditioned, distribution_at
from ..distributions import OneHotCategorical, code_of
from ..errors import DataError, OptionError, ShapeError
from ..families import OneHotCategorical as OneHotFamily
from ..roles import Draw, Evidence, Given, Group, Prior
from ..spec import declared
from .latents import check_latents

__all__ = ["EachClass", "SemiSupervised"]


@dataclass(frozen=True)
class EachClass:
    r"""K draws of z for each example and each class it might be of.

    Arguments:
        z: The draws, shape (K, B, C, Z).
        log_likelihood: :math:`\log p(x|z, y)`, shape (K, B, C), nats.
        prior: The distribution p(z).
        posterior: The distribution q(z|x, y), batch shape (B, C).
        raw: Its unconstrained parameters, shape (B, C, P).
        log_class: :math:`\log q(y|x)`, shape (B, C), nats.
    """

    z: Tensor
    log_likelihood: Tensor
    prior: Distribution
    posterior: Distribution
    raw: Tensor
    log_class: Tensor


@declared("SemiSupervised")
class SemiSupervised(nn.Module):
    r"""A model with a class y, each as likely as any other, and latents z:

    .. math:: p(x) = \sum_y \frac1C \int p(x|z, y) p(z) dz

    The sum over classes is exact: a log-weight is :math:`\log \frac1C \sum_y p(x|z_y, y) p(z_y) / q(z_y|x, y)`, with
    one :math:`z_y` from q(z|x, y) for each class, which is unbiased for p(x). The classifier q(y|x) has no part in it;
    :class:`jensen.objectives.SemiSupervised` trains it.

    References:
        Kingma, Rezende, Mohamed, Welling (2014), Semi-supervised learning with deep generative models (M2).

    Arguments:
        prior: A module whose forward returns p(z).
        likelihood: A :class:`Conditioned` from z to p(x|z, y), with the class as its condition.
        encoder: A :class:`Conditioned` from x to q(z|x, y).
        classifier: A :class:`Conditional` from x to q(y|x), of the family ``OneHotCategorical(1, C)``.

    Raises:
        OptionError: If a part is of another kind.
        ShapeError: If the parts differ in their number of classes, or prior and encoder in their number of latents.
        CompositionError: If prior and encoder are over different spaces.

    Example:
        >>> from jensen import families, nets, priors
        >>> model = SemiSupervised(
        ...     priors.StandardNormal(2),
        ...     Conditioned(nets.mlp(2 + 3, 6), families.Bernoulli(6), conditions=3),
        ...     Conditioned(nets.mlp(6 + 3, 4), families.Normal(2, families.PredictedScale()), conditions=3),
        ...     Conditional(nets.mlp(6, 3), families.OneHotCategorical(1, 3)),
        ... )
        >>> model.draw(torch.ones(5, 6), k=4).log_weight.shape, model.classify(torch.ones(5, 6)).shape
        (torch.Size([4, 5]), torch.Size([5, 3]))
    """

    evidence: Evidence = "lower"
    sums_exactly = True
    """Its log-weights are no function of the drawn class, which is summed out."""

    def __init__(self, prior: Prior, likelihood: Conditioned, encoder: Conditioned, classifier: Conditional) -> None:
        super().__init__()
        if not isinstance(prior, nn.Module):
            raise OptionError(f"the prior must be a torch module; got {type(prior).__name__}.")
        if not isinstance(likelihood, Conditioned) or not isinstance(encoder, Conditioned):
            raise OptionError("likelihood and encoder must be Conditioned, with the class as their condition.")
        if not isinstance(classifier, Conditional) or not isinstance(classifier.family, OneHotFamily):
            raise OptionError("the classifier must be a Conditional with the family OneHotCategorical(1, C).")
        classes = likelihood.conditions
        if (encoder.conditions, classifier.family.event_shape) != (classes, (1, classes)):
            raise ShapeError(
                f"the likelihood knows {classes} classes, the encoder {encoder.conditions}, the classifier "
                f"{classifier.family.event_shape}; give all the same number, the classifier as (1, {classes})."
            )
        check_latents(prior(), encoder)
        self.prior, self.likelihood, self.encoder, self.classifier = prior, likelihood, encoder, classifier
        self.classes = classes

    @property
    def latent_size(self) -> int:
        """The number of classes and of values in z."""
        size: int = self.prior().event_shape.numel()
        return self.classes + size

    def each_class(self, x: Tensor, k: int = 1) -> EachClass:
        r"""K draws for each class.

        Arguments:
            x: The data, shape (B, \*X).
            k: The number of draws K.
        """
        every = Given(condition=torch.eye(self.classes, dtype=x.dtype, device=x.device))
        rows = x[:, None]
        raw = self.encoder.raw(rows.expand(-1, self.classes, *x.shape[1:]), every)
        posterior = distribution_at(self.encoder.family, raw)
        z = (posterior.rsample if posterior.has_rsample else posterior.sample)(torch.Size((k,)))
        log_likelihood = self.likelihood(z, every).log_prob(rows)
        return EachClass(z, log_likelihood, self.prior(), posterior, raw, self._log_class(x))

    def _log_class(self, x: Tensor) -> Tensor:
        return self.classifier.raw(x).log_softmax(-1)

    def draw(self, x: Tensor, given: Given | None = None, k: int = 1) -> Draw:
        r"""K draws of y from q(y|x) and of z; their log-weights are those of the exact sum over classes.

        Arguments:
            x: The data, shape (B, \*X).
            given: What is known beside the data; observed classes play no part here.
            k: The number of draws K.
        """
        each = self.each_class(x, k)
        log_ratio = each.prior.log_prob(each.z) - each.posterior.log_prob(each.z)
        log_weight = (each.log_likelihood + log_ratio).logsumexp(-1) - math.log(self.classes)
        q = self.classifier(x)
        y = q.sample(torch.Size((k,)))
        chosen = y[..., 0, :].argmax(-1, keepdim=True)
        raw = each.raw.expand(k, *each.raw.shape).gather(2, _wide(chosen, each.raw))[:, :, 0]
        z = each.z.gather(2, _wide(chosen, each.z))[:, :, 0]
        groups = (
            Group(y, self._uniform(x), q),
            Group(z, each.prior, distribution_at(self.encoder.family, raw)),
        )
        return Draw(groups, each.log_likelihood.gather(2, chosen)[..., 0], drawn_weight=log_weight)

    def _uniform(self, like: Tensor) -> Distribution:
        logits = torch.zeros(1, self.classes, dtype=like.dtype, device=like.device)
        return torch.distributions.Independent(OneHotCategorical(logits, validate_args=False), 1, validate_args=False)

    def log_joint(self, x: Tensor, z: Tensor, given: Given | None = None) -> Tensor:
        r""":math:`\log p(x, y, z)`, shape (K, B), nats, for y as one-hot and z side by side, shape (K, B, C + Z)."""
        log_prior = self.prior().log_prob(z[..., self.classes :]) - math.log(self.classes)
        total: Tensor = self.decode(z).log_prob(x) + log_prior
        return total

    def decode(self, z: Tensor, given: Given | None = None) -> Distribution:
        """The distribution p(x|z, y) for y as one-hot and z side by side."""
        found: Distribution = self.likelihood(z[..., self.classes :], Given(condition=z[..., : self.classes]))
        return found

    def sample(self, n: int, given: Given | None = None, *, mean: bool = False) -> Tensor:
        r"""Draws n examples from the model, shape (n, \*X).

        Arguments:
            n: How many.
            given: Where it holds labels, examples are of these classes; where one is -1, of any.
            mean: Return the mean of p(x|z, y) for each drawn y and z instead of a draw of x.

        Raises:
            DataError: If there is not one label for each example, or a label is no class.
        """
        with torch.no_grad():
            z = self.prior().sample(torch.Size((n,)))
            y = self._uniform(z).sample(torch.Size((n,)))[:, 0]
            observed = self.observed(given, z)
            if observed is not None:
                y = torch.where(observed.any(-1, keepdim=True), observed, y)
            decoded = self.likelihood(z, Given(condition=y))
            found: Tensor = decoded.mean if mean else decoded.sample()
        return found

    def observed(self, given: Given | None, like: Tensor) -> Tensor | None:
        r"""The classes that are given as one-hot and zeros for rows without one, shape (B, C); None if none are given.

        Arguments:
            given: What is known beside the rows.
            like: A tensor of as many rows, and of the type and device of the result.

        Raises:
            DataError: If there is not one label for each row, or a label is no class.
        """
        if given is None or given.labels is None:
            return None
        labels, classes = given.labels, torch.arange(self.classes, device=like.device)
        if labels.shape != like.shape[:1]:
            raise DataError(
                f"expected a label for each of {len(like)} rows; got labels of shape {tuple(labels.shape)}."
            )
        if not bool(((labels == -1) | torch.isin(labels, classes)).all()):
            raise DataError(
                f"labels are the numbers of {self.classes} classes, from 0 to {self.classes - 1}, and -1 where none is "
                f"known; got {labels.unique().tolist()}."
            )
        return (labels[:, None] == classes).to(like.dtype)

    def embed(self, x: Tensor, given: Given | None = None) -> Tensor:
        """The most probable class as one-hot, and beside it the code of q(z|x, y) for that class, shape (B, C + Z)."""
        y = torch.nn.functional.one_hot(self._log_class(x).argmax(-1), self.classes).to(x.dtype)
        return torch.cat([y, code_of(self.encoder(x, Given(condition=y)))], -1)

    def classify(self, x: Tensor) -> Tensor:
        """The probabilities q(y|x) of each class, shape (B, C)."""
        return self._log_class(x).exp()


def _wide(chosen: Tensor, values: Any) -> Tensor:
    """The chosen classes, shape (K, B, 1), as an index into values of shape (..., C, D)."""
    return chosen[..., None].expand(*chosen.shape, values.shape[-1])
