"""Three roles drawn into log-weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import code_of
from ..errors import OptionError, ShapeError
from ..roles import Draw, Evidence, Given, Group, Likelihood, Posterior, Prior
from ..spec import declared
from .latents import check_latents, known_of

__all__ = ["VAE"]


@declared("VAE")
class VAE(nn.Module):
    r"""A latent-variable model :math:`p(x) = \int p(x|z) p(z) dz` with an approximate posterior :math:`q(z|x)`.

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes. Rezende, Mohamed, Wierstra (2014), Stochastic
        backpropagation and approximate inference in deep generative models.

    Arguments:
        prior: A module whose forward returns p(z).
        likelihood: A module from z to p(x|z), such as ``Conditional(net, family)``.
        posterior: A module from x to q(z|x), such as ``Conditional(net, family)``.

    Raises:
        OptionError: If a role is filled by something that is not a module.
        ShapeError: If prior and posterior are over different event shapes, where both say theirs.
        CompositionError: If they are over different spaces.

    Example:
        >>> from jensen import Conditional, families, nets, priors
        >>> vae = VAE(
        ...     prior=priors.StandardNormal(2),
        ...     likelihood=Conditional(nets.mlp(2, 6), families.Bernoulli(6)),
        ...     posterior=Conditional(nets.mlp(6, 4), families.Normal(2, scale=families.PredictedScale())),
        ... )
        >>> vae.draw(torch.ones(5, 6), k=3).log_weight.shape
        torch.Size([3, 5])
    """

    evidence: Evidence = "lower"

    def __init__(self, prior: Prior, likelihood: Likelihood, posterior: Posterior) -> None:
        super().__init__()
        for role, module in (("prior", prior), ("likelihood", likelihood), ("posterior", posterior)):
            if not isinstance(module, nn.Module):
                raise OptionError(
                    f"the {role} must be a torch module whose forward returns a distribution; "
                    f"got {type(module).__name__}."
                )
        self.prior = prior
        self.likelihood = likelihood
        self.posterior = posterior
        check_latents(known_of(prior), posterior)
        bind = getattr(posterior, "bind", None)
        if bind is not None:
            bind(self)

    @property
    def latent_size(self) -> int:
        """The number of values in z."""
        return math.prod(known_of(self.prior).event_shape)

    @property
    def conditions(self) -> int:
        """The number of values of the condition that the model needs; 0 for none."""
        return max(getattr(role, "conditions", 0) for role in (self.prior, self.likelihood, self.posterior))

    def draw(self, x: Tensor, given: Given | None = None, k: int = 1) -> Draw:
        r"""K samples of z for each example, reparameterised where q(z|x) can be, with their log-weights.

        Arguments:
            x: The data, shape (B, \*X).
            given: What is known beside the data.
            k: The number of samples K.
        """
        posterior = self.posterior(x, given)
        z = (posterior.rsample if posterior.has_rsample else posterior.sample)(torch.Size((k,)))
        group = Group(z, self.prior(given), posterior)
        return Draw((group,), self._log_likelihood(x, z, given))

    def _log_likelihood(self, x: Tensor, z: Tensor, given: Given | None) -> Tensor:
        log_likelihood = self.decode(z, given).log_prob(x)
        if log_likelihood.shape != z.shape[:2]:
            raise ShapeError(
                f"the likelihood's log_prob must be a number for each sample and row, shape {tuple(z.shape[:2])}; got "
                f"{tuple(log_likelihood.shape)}. Make the values of a row one event: Independent(distribution, 1)."
            )
        return log_likelihood

    def log_joint(self, x: Tensor, z: Tensor, given: Given | None = None) -> Tensor:
        r""":math:`\log p(x, z) = \log p(x|z) + \log p(z)` for z of shape (K, B, \*Z), shape (K, B), nats."""
        return self._log_likelihood(x, z, given) + self.prior(given).log_prob(z)

    def decode(self, z: Tensor, given: Given | None = None) -> Distribution:
        """The distribution p(x|z)."""
        unpack = getattr(self.prior, "unpack", None)
        return self.likelihood(z if unpack is None else unpack(z), given)

    def sample(self, n: int, given: Given | None = None, *, mean: bool = False) -> Tensor:
        r"""Draws n examples from the model, shape (n, \*X).

        Arguments:
            n: How many.
            given: What the model is conditioned on.
            mean: Return the mean of p(x|z) for each drawn z instead of a draw of x.
        """
        with torch.no_grad():
            prior = self.prior(given)
            # A prior that depends on the condition has a batch dimension already.
            decoded = self.decode(prior.sample(torch.Size(() if prior.batch_shape else (n,))), given)
            sampled: Tensor = decoded.mean if mean else decoded.sample()
        return sampled

    def embed(self, x: Tensor, given: Given | None = None) -> Tensor:
        r"""The code of each example, shape (B, \*Z): the posterior mean, or on a sphere its direction."""
        return code_of(self.posterior(x, given))
