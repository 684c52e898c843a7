"""The evidence lower bound."""

from __future__ import annotations

from torch import Tensor

from ..distributions import closed_form_kl, kl_per_latent
from ..errors import JensenError, OptionError
from ..roles import BoundKind, Estimate, Given, Group, Model
from ..schedules import Schedule, as_schedule
from ..spec import declared

__all__ = ["ELBO"]


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
        closed_form_kl: Use the formula of the KL where one is known; otherwise, and where none is known, the KL is
            estimated from the same samples.

    Raises:
        OptionError: If an argument is out of range.

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
        closed_form_kl: bool = True,
    ) -> None:
        if k < 1:
            raise OptionError(f"an ELBO needs at least 1 sample; got k={k}.")
        if isinstance(beta, int | float) and not 0 < beta < float("inf"):
            raise OptionError(f"beta must be positive, or the KL would never reach the encoder; got beta={beta}.")
        if not 0 <= free_bits < float("inf"):
            raise OptionError(f"free_bits must be zero or positive nats per latent; got {free_bits}.")
        self.k = k
        self.beta = as_schedule(beta)
        self.free_bits = float(free_bits)
        self.closed_form_kl = closed_form_kl
        self.period = self.beta.period

    def __call__(self, model: Model, x: Tensor, given: Given | None = None, step: int = 0) -> Estimate:
        draw = model.draw(x, given, self.k)
        log_likelihood = draw.log_likelihood.mean(0)
        zero = log_likelihood.new_zeros(())
        kls = [self._kl(group) for group in draw.groups]
        charged = [self._floored_kl(group) for group in draw.groups] if self.free_bits else kls
        terms = {"reconstruction": -log_likelihood, "kl": self.beta(step) * sum(charged, zero)}
        loss = sum((term.mean() for term in terms.values()), zero)
        return Estimate(loss, log_likelihood - sum(kls, zero), terms)

    def _kl(self, group: Group) -> Tensor:
        """The KL of a group by its formula, or from the samples, shape (B,)."""
        kl = closed_form_kl(group.posterior, group.prior) if self.closed_form_kl else None
        return (group.log_posterior - group.log_prior).mean(0) if kl is None else kl

    def _floored_kl(self, group: Group) -> Tensor:
        kl = kl_per_latent(group.posterior, group.prior)
        if kl is None:
            raise JensenError(
                f"free_bits counts the KL of each latent, which needs a posterior and a prior that factorise; got "
                f"{group.posterior} and {group.prior}. Use a diagonal posterior, or free_bits=0."
            )
        latents = kl.flatten(1)
        # Where the batch mean lies below the floor, a constant takes its place: the mean over the batch is then the
        # sum over latents of max(floor, mean KL), and such latents get no gradient.
        return latents.where(latents.mean(0) > self.free_bits, latents.new_tensor(self.free_bits)).sum(1)
