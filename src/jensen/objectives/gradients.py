r"""Estimators of the gradient of :math:`E_q[f(\log w_1, \dots, \log w_K)]` by the parameters of p and q.

An estimator gives a number for each example whose *value* is f and whose *gradient* is the estimate. With
:math:`v_k = \partial f / \partial \log w_k` and the score :math:`s_k = \partial_\phi \log q_\phi(z_k|x)` at fixed
:math:`z_k`, the exact gradient is

.. math:: E\Bigl[\sum_k v_k \Bigl(\frac{\partial \log w_k}{\partial \theta} - s_k
          + \frac{\partial \log w_k}{\partial z_k} \frac{\partial z_k}{\partial \phi}\Bigr)\Bigr]
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from ..distributions import detached
from ..errors import CompositionError
from ..roles import Draw, Group
from ..spec import declared
from .means import WeightMean

__all__ = ["DoublyReparameterised", "Estimator", "LeaveOneOut", "Reparameterised", "StickingTheLanding"]

_TINY = 1e-12  # the smallest weight by which a gradient is divided


class Estimator(Protocol):
    """An estimator of gradients; ``admits_closed_form`` says whether a KL may be computed by its formula."""

    admits_closed_form: bool

    def check(self, k: int) -> None: ...

    def check_draw(self, draw: Draw) -> None: ...

    def log_posterior(self, group: Group) -> Tensor: ...

    def __call__(self, draw: Draw, target: WeightMean, encoder_target: WeightMean, beta: float | Tensor) -> Tensor: ...


def log_weights(draw: Draw, log_posteriors: list[Tensor], beta: float | Tensor) -> Tensor:
    r""":math:`\log p(x|z) + \beta (\log p(z) - \log q(z|x))` with given log-densities of the posteriors, (K, B)."""
    total = draw.log_likelihood
    for group, log_posterior in zip(draw.groups, log_posteriors, strict=True):
        total = total + beta * (group.log_prior - log_posterior)
    return total


def possible(log_weight: Tensor) -> Tensor:
    """Log-weights with 0 for samples that cannot be, whose weight in a surrogate is 0: that times -inf is no number."""
    return log_weight.masked_fill(log_weight == -math.inf, 0.0)


def valued(value: Tensor, surrogate: Tensor) -> Tensor:
    """Something with the value of one tensor and the gradient of another."""
    return value.detach() + (surrogate - surrogate.detach())


def distribution_name(distribution: Distribution) -> str:
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return type(distribution).__name__


def _need_paths(draw: Draw, name: str) -> None:
    for group in draw.groups:
        if not group.posterior.has_rsample:
            raise CompositionError(
                f"{name} needs samples that depend smoothly on the parameters of q(z|x); "
                f"{distribution_name(group.posterior)} has none. Use LeaveOneOut(), the score-function estimator."
            )


def _need_detachable(draw: Draw, name: str) -> None:
    _need_paths(draw, name)
    if len(draw.groups) > 1:
        raise CompositionError(
            f"{name} needs one group of latents: with several, the parameters of a later posterior depend on earlier "
            "samples, and detaching them would cut that path of the gradient as well. Use Reparameterised()."
        )
    for group in draw.groups:
        if group.posterior.support is not None and group.posterior.support.is_discrete:
            raise CompositionError(
                f"{name} rests on an exact reparameterisation; the relaxed gradient of discrete latents "
                f"({distribution_name(group.posterior)}) is not one. Use Reparameterised() or LeaveOneOut()."
            )


def _log_detached(group: Group) -> Tensor:
    return detached(group.posterior).log_prob(group.z)


def _scale_paths(draw: Draw, factor: Tensor) -> None:
    """Multiplies the gradient that reaches each sample by a factor of shape (K, B)."""
    for group in draw.groups:
        if group.z.requires_grad:
            shaped = factor.reshape(*factor.shape, *[1] * (group.z.ndim - 2))
            group.z.register_hook(lambda gradient, shaped=shaped: gradient * shaped)


@declared("objectives.Reparameterised")
class Reparameterised:
    r"""The plain gradient through :math:`z_k = g_\phi(\epsilon_k, x)`: unbiased, with the score of q left in.

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes. Rezende, Mohamed, Wierstra (2014).

    Raises:
        CompositionError: When used, if the samples of q(z|x) have no gradient.

    Example:
        >>> from jensen import objectives
        >>> objectives.IWAE(k=5, estimator=Reparameterised()).k
        5
    """

    admits_closed_form = True

    def check(self, k: int) -> None:
        """Any number of samples will do."""

    def check_draw(self, draw: Draw) -> None:
        """The samples must have a gradient."""
        _need_paths(draw, "the reparameterised gradient")

    def log_posterior(self, group: Group) -> Tensor:
        """The log-density of the samples, shape (K, B)."""
        return group.log_posterior

    def __call__(self, draw: Draw, target: WeightMean, encoder_target: WeightMean, beta: float | Tensor) -> Tensor:
        self.check_draw(draw)
        log_weight = log_weights(draw, [group.log_posterior for group in draw.groups], beta)
        if target == encoder_target:
            return target.value(log_weight)
        frozen = log_weight.detach()
        weights, scores = target.weights(frozen), encoder_target.weights(frozen)
        _need_detachable(draw, "a target of its own for the encoder")
        path = log_weights(draw, [_log_detached(group) for group in draw.groups], beta)
        _scale_paths(draw, scores / weights.clamp(min=_TINY))
        direct = sum(group.posterior.log_prob(group.z.detach()) for group in draw.groups)
        return valued(target.value(frozen), (weights.clamp(min=_TINY) * possible(path) - scores * beta * direct).sum(0))


@declared("objectives.StickingTheLanding")
class StickingTheLanding:
    r"""The score of q is left out:

    .. math:: E\Bigl[\sum_k v_k \Bigl(\frac{\partial \log w_k}{\partial \theta}
              + \frac{\partial \log w_k}{\partial z_k} \frac{\partial z_k}{\partial \phi}\Bigr)\Bigr]

    Where q is the true posterior the gradient by φ is exactly zero, without variance. For a mean of log-weights (the
    ELBO with any K) it is unbiased, since the score has mean zero; for other means with K > 1 it is *biased*: there
    :class:`DoublyReparameterised` is the unbiased one.

    References:
        Roeder, Wu, Duvenaud (2017), Sticking the landing.

    Raises:
        CompositionError: When used, for discrete latents or several groups of them.

    Example:
        >>> from jensen import objectives
        >>> objectives.ELBO(estimator=StickingTheLanding()).closed_form_kl
        False
    """

    admits_closed_form = False

    def check(self, k: int) -> None:
        """Any number of samples will do."""

    def check_draw(self, draw: Draw) -> None:
        """One group of continuous latents is needed."""
        _need_detachable(draw, "sticking the landing")

    def log_posterior(self, group: Group) -> Tensor:
        """The log-density of the samples with a gradient in z alone, shape (K, B)."""
        return _log_detached(group)

    def __call__(self, draw: Draw, target: WeightMean, encoder_target: WeightMean, beta: float | Tensor) -> Tensor:
        self.check_draw(draw)
        path = log_weights(draw, [_log_detached(group) for group in draw.groups], beta)
        if target == encoder_target:
            return target.value(path)
        frozen = path.detach()
        weights = target.weights(frozen).clamp(min=_TINY)
        _scale_paths(draw, encoder_target.weights(frozen) / weights)
        return valued(target.value(frozen), (weights * possible(path)).sum(0))


@declared("objectives.DoublyReparameterised")
class DoublyReparameterised:
    r"""The score of q is reparameterised once more; for φ the weights :math:`v_k` become
    :math:`v_k - \partial^2 f / \partial (\log w_k)^2`, which for the IWAE bound is :math:`v_k^2`.

    It is unbiased for every K, and its signal-to-noise ratio grows with K, where that of the plain gradient falls.

    References:
        Tucker, Lawson, Gu, Maddison (2019), Doubly reparameterized gradient estimators for Monte Carlo objectives.
        Rainforth et al. (2018), Tighter variational bounds are not necessarily better.

    Raises:
        CompositionError: When used, for discrete latents or several groups of them.

    Example:
        >>> from jensen import objectives
        >>> objectives.IWAE(k=5, estimator=DoublyReparameterised()).kind
        'lower'
    """

    admits_closed_form = False

    def check(self, k: int) -> None:
        """Any number of samples will do."""

    def check_draw(self, draw: Draw) -> None:
        """One group of continuous latents is needed."""
        _need_detachable(draw, "the doubly reparameterised gradient")

    def log_posterior(self, group: Group) -> Tensor:
        """The log-density of the samples with a gradient in z alone, shape (K, B)."""
        return _log_detached(group)

    def __call__(self, draw: Draw, target: WeightMean, encoder_target: WeightMean, beta: float | Tensor) -> Tensor:
        self.check_draw(draw)
        path = log_weights(draw, [_log_detached(group) for group in draw.groups], beta)
        frozen = path.detach()
        weights = target.weights(frozen).clamp(min=_TINY)
        # The score that is reparameterised once more is that of beta log q.
        plain, doubled = encoder_target.weights(frozen), encoder_target.path_weights(frozen)
        _scale_paths(draw, ((1 - beta) * plain + beta * doubled) / weights)
        return valued(target.value(frozen), (weights * possible(path)).sum(0))


@declared("objectives.LeaveOneOut")
class LeaveOneOut:
    r"""The score-function gradient with a baseline from the other samples, for latents without reparameterisation:

    .. math:: \sum_k (f - f_{-k}) s_k + \sum_k v_k \Bigl(\frac{\partial \log w_k}{\partial \theta} - s_k\Bigr)

    where :math:`f_{-k}` has the mean of the other log-weights in the place of :math:`\log w_k`. It is unbiased and
    needs no gradient through z.

    References:
        Mnih, Rezende (2016), Variational inference for Monte Carlo objectives (VIMCO). Kool, van Hoof, Welling (2019),
        Buy 4 REINFORCE samples, get a baseline for free.

    Raises:
        CompositionError: At construction of an objective with K = 1, which leaves no other sample.

    Example:
        >>> from jensen import objectives
        >>> objectives.IWAE(k=5, estimator=LeaveOneOut()).k
        5
    """

    admits_closed_form = False

    def check(self, k: int) -> None:
        """At least two samples are needed.

        Raises:
            CompositionError: If there is one.
        """
        if k < 2:
            raise CompositionError(
                "the score-function estimator takes its baseline from the other samples of the same example, and with "
                "one sample there is no other. Use k=2 or more."
            )

    def check_draw(self, draw: Draw) -> None:
        """Any latents will do."""

    def log_posterior(self, group: Group) -> Tensor:
        """The log-density of samples that have a gradient, such as latents of the whole data set, shape (K, B)."""
        return group.log_posterior

    def __call__(self, draw: Draw, target: WeightMean, encoder_target: WeightMean, beta: float | Tensor) -> Tensor:
        scores = [group.posterior.log_prob(group.z.detach()) for group in draw.groups]
        log_weight = log_weights(draw, [score.detach() for score in scores], beta)
        frozen = log_weight.detach()
        weights = target.weights(frozen)
        # What learns from z alone is reached through the scores; a path through z would count it twice.
        _scale_paths(draw, torch.zeros_like(frozen))
        others = leave_one_out(frozen, encoder_target)
        # Any baseline that is a function of the other samples will do: where none of them can be, it is zero.
        signal = encoder_target.value(frozen) - others.masked_fill(others == -math.inf, 0.0)
        signal = signal - beta * encoder_target.weights(frozen)
        surrogate = weights * possible(log_weight) + signal * torch.stack(scores).sum(0)
        return valued(target.value(frozen), surrogate.sum(0))


def leave_one_out(log_weight: Tensor, target: WeightMean) -> Tensor:
    r"""The targets with the k-th log-weight replaced by the mean of the others, shape (K, B)."""
    k = len(log_weight)
    finite, impossible = possible(log_weight), (log_weight == -math.inf).to(log_weight)
    others = (finite.sum(0) - finite) / (k - 1)
    others = others.masked_fill(impossible.sum(0) - impossible > 0, -math.inf)
    replaced = log_weight.expand(k, *log_weight.shape).clone()
    index = torch.arange(k, device=log_weight.device)
    replaced[index, index] = others
    return torch.stack([target.value(row) for row in replaced])
