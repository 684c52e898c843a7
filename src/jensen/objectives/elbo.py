"""The evidence lower bound."""

from __future__ import annotations

from torch import Tensor

from ..distributions import closed_form_kl, is_cut_short, kl_per_latent
from ..errors import CompositionError, OptionError
from ..roles import BoundKind, Draw, Estimate, Given, Group, Model
from ..schedules import Schedule, as_weight
from ..spec import declared
from .gradients import Estimator, Reparameterised, StickingTheLanding, log_weights
from .means import PowerMean

__all__ = ["ELBO"]

_MEAN = PowerMean(alpha=1.0)


def draw_for_bound(model: Model, x: Tensor, given: Given | None, k: int) -> Draw:
    """K draws from a model whose log-weights are worth a bound.

    Raises:
        CompositionError: If they are not.
    """
    if getattr(model, "evidence", "lower") == "none":
        raise CompositionError(
            f"{type(model).__name__} has no distribution over codes, so what it says of a row is its reconstruction, "
            "which is no bound on log p(x). Use Reconstruction(), or a model with a prior and a posterior, such as VAE."
        )
    return model.draw(x, given, k)


def known_kl(group: Group, kl: Tensor) -> Tensor:
    """What of a KL is reported: of a series that is cut short, which says too little, the KL of the samples."""
    if not is_cut_short(group.posterior):
        return kl
    sampled = group.log_posterior - group.log_prior
    return sampled.mean(0) if sampled.ndim else sampled


def shared_kl(draw: Draw, estimator: Estimator, *, closed_form: bool) -> tuple[Tensor, Tensor] | None:
    r"""The part of one row in the KL of the latents of the whole data set; None where there are none.

    .. math:: \frac1N \bigl(\log q(g) - \log p(g)\bigr), \text{ or } \frac1N \mathrm{KL}(q(g) \| p(g))

    First what is charged, then what is reported, each of shape (B,).
    """
    if not draw.shared:
        return None
    charged = known = draw.log_likelihood.new_zeros(())
    for group in draw.shared:
        kl = closed_form_kl(group.posterior, group.prior) if closed_form else None
        kl = estimator.log_posterior(group) - group.log_prior if kl is None else kl
        charged, known = charged + kl / group.rows, known + known_kl(group, kl) / group.rows
    count = draw.log_likelihood.shape[-1]
    return charged.expand(count), known.expand(count)


def auxiliary_losses(draw: Draw) -> dict[str, Tensor]:
    """What posteriors ask for beside the bound, such as the commitment of an encoder to its codebook, each (B,)."""
    losses: dict[str, Tensor] = {}
    for group in draw.groups:
        losses |= getattr(group.posterior, "auxiliary", {})
    return losses


def over_draws(group: Group, kl: Tensor) -> Tensor:
    """A KL of shape (B, ...), averaged over the draws of the groups above, of which a lower posterior knows."""
    return kl.mean(0) if len(group.posterior.batch_shape) > 1 else kl


@declared("objectives.ELBO")
class ELBO:
    r"""The evidence lower bound, in nats per example:

    .. math:: \log p(x) \ge E_{q(z|x)}[\log p(x|z)] - \beta \, \mathrm{KL}(q(z|x) \| p(z)), \quad \beta = 1

    The expectation is a mean over K samples. The bound that it reports is always the one at β = 1 without free bits.

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes. Higgins et al. (2017), β-VAE. Kingma et al. (2016),
        Improving variational inference with inverse autoregressive flow (free bits).

    Arguments:
        k: The number of samples K.
        beta: The weight β of the KL in the loss: a number or a schedule of the step.
        free_bits: The nats λ per latent below which the KL, averaged over the batch, costs nothing:
            :math:`\sum_j \max(\lambda, \mathrm{mean}_b \mathrm{KL}_{bj})`. Needs latents that factorise.
        free_bits_per_group: The same for the KL of each whole group of latents, in nats per group.
        closed_form_kl: Use the formula of the KL where one is known; otherwise, and where none is known, the KL is
            estimated from the same samples. None, the default, means yes where the estimator admits it.
        shared_beta: The weight, times β, of the KL of latents that all rows share. Below 1 the posterior of these is a
            cold one, narrower than the model implies; the bound that is reported has weight 1.
        estimator: The estimator of the gradient.

    Raises:
        OptionError: If an argument is out of range.
        CompositionError: If the arguments do not go together, or when used, if the model has no bound on log p(x).

    Example:
        >>> import torch
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> x = torch.zeros(4, 3, dtype=torch.float64)
        >>> bound = ELBO(closed_form_kl=False)(oracle.model, x).bound
        >>> torch.allclose(bound, oracle.log_evidence(x))
        True
    """

    kind: BoundKind = "lower"

    def __init__(
        self,
        k: int = 1,
        *,
        beta: float | Schedule = 1.0,
        free_bits: float = 0.0,
        free_bits_per_group: float = 0.0,
        closed_form_kl: bool | None = None,
        shared_beta: float = 1.0,
        estimator: Estimator | None = None,
    ) -> None:
        if k < 1:
            raise OptionError(f"an ELBO needs at least 1 sample; got k={k}.")
        for name, bits in (("free_bits", free_bits), ("free_bits_per_group", free_bits_per_group)):
            if not 0 <= bits < float("inf"):
                raise OptionError(f"{name} must be zero or positive nats; got {bits}.")
        if free_bits and free_bits_per_group:
            raise OptionError("give free_bits or free_bits_per_group, not both: one floor would hide the other.")
        if not 0 < shared_beta < float("inf"):
            raise OptionError(f"shared_beta must be positive; got {shared_beta}.")
        self.k = k
        self.beta, self.shared_beta = as_weight(beta), float(shared_beta)
        self.free_bits, self.free_bits_per_group = float(free_bits), float(free_bits_per_group)
        self.estimator = Reparameterised() if estimator is None else estimator
        self.estimator.check(k)
        self.closed_form_kl = self.estimator.admits_closed_form if closed_form_kl is None else closed_form_kl
        self._check_composition()
        self.period = self.beta.period
        # Hooks on samples, which the other estimators set, break a compiled graph.
        self.compiles = isinstance(self.estimator, Reparameterised)

    def _check_composition(self) -> None:
        name = type(self.estimator).__name__
        if self.closed_form_kl and not self.estimator.admits_closed_form:
            raise CompositionError(
                f"{name} changes the gradient of the sampled log q(z|x), which a KL by its formula does not contain. "
                "Use closed_form_kl=False or Reparameterised()."
            )
        if self.free_bits and not self.closed_form_kl:
            why = f"of which {name} knows nothing" if not self.estimator.admits_closed_form else "and not from samples"
            raise CompositionError(
                f"free_bits counts the KL of each latent by its formula, {why}. Use Reparameterised() with a "
                "closed-form KL, or free_bits_per_group."
            )
        if self.free_bits_per_group and not isinstance(self.estimator, Reparameterised | StickingTheLanding):
            raise CompositionError(
                f"free_bits_per_group takes a maximum of batch means, which is no function of one example's weights, "
                f"as {name} needs. Use Reparameterised() or StickingTheLanding()."
            )

    def __call__(self, model: Model, x: Tensor, given: Given | None = None, step: int = 0) -> Estimate:
        draw = draw_for_bound(model, x, given, self.k)
        beta = self.beta(step)
        if isinstance(self.estimator, Reparameterised | StickingTheLanding):
            return self._in_parts(draw, beta)
        terms = {"negative_bound": -self.estimator(draw, _MEAN, _MEAN, beta), **auxiliary_losses(draw)}
        plain = log_weights(draw, [group.log_posterior for group in draw.groups], 1.0).mean(0)
        shared = shared_kl(draw, self.estimator, closed_form=False)
        if shared is not None:
            charged, known = shared
            terms["global_kl"], plain = beta * self.shared_beta * charged, plain - known
        return Estimate.of(terms, plain.detach())

    def _in_parts(self, draw: Draw, beta: float) -> Estimate:
        """The loss as reconstruction and KL, for estimators whose gradient is that of their value."""
        log_likelihood = draw.log_likelihood.mean(0)
        zero = log_likelihood.new_zeros(())
        kls = self._kls(draw)
        charged = [self._floored(group, kl) for group, kl in zip(draw.groups, kls, strict=True)]
        known = [known_kl(group, kl) for group, kl in zip(draw.groups, kls, strict=True)]
        terms = {"reconstruction": -log_likelihood, "kl": beta * sum(charged, zero), **auxiliary_losses(draw)}
        shared = shared_kl(draw, self.estimator, closed_form=self.closed_form_kl)
        if shared is not None:
            terms["global_kl"] = beta * self.shared_beta * shared[0]
            known.append(shared[1])
        return Estimate.of(terms, log_likelihood - sum(known, zero))

    def _kls(self, draw: Draw) -> list[Tensor]:
        """The KL of each group by its formula or from the samples, each of shape (B,)."""
        self.estimator.check_draw(draw)
        kls = []
        for group in draw.groups:
            kl = closed_form_kl(group.posterior, group.prior) if self.closed_form_kl else None
            kls.append(
                (self.estimator.log_posterior(group) - group.log_prior).mean(0) if kl is None else over_draws(group, kl)
            )
        return kls

    def _floored(self, group: Group, kl: Tensor) -> Tensor:
        """The KL that is charged. Where the batch mean lies below the floor a constant takes its place.

        The mean over the batch is then the sum of max(floor, mean KL), and what lies below gets no gradient.
        """
        if self.free_bits_per_group:
            return kl.where(kl.mean() > self.free_bits_per_group, kl.new_tensor(self.free_bits_per_group))
        if not self.free_bits:
            return kl
        each = kl_per_latent(group.posterior, group.prior)
        if each is None:
            raise CompositionError(
                f"free_bits counts the KL of each latent, which needs a posterior and a prior that factorise; got "
                f"{group.posterior} and {group.prior}. Use a diagonal posterior, or free_bits_per_group."
            )
        latents = over_draws(group, each).flatten(1)
        return latents.where(latents.mean(0) > self.free_bits, latents.new_tensor(self.free_bits)).sum(1)
