"""An autoencoder without probabilities for its codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..errors import JensenError, OptionError
from ..precision import LowPrecision
from ..roles import Draw, Evidence, Given, Likelihood, Prior
from ..spec import declared

__all__ = ["Autoencoder"]


@declared("Autoencoder")
class Autoencoder(LowPrecision):
    r"""An encoder :math:`z = f(x)` and a likelihood p(x|z): there is no q(z|x) and no p(z), so there is no p(x).

    It is trained by :class:`jensen.objectives.Reconstruction`. A prior that is fitted to its codes afterwards makes a
    sampler of it, and gives :math:`p(x) = \int p(x|z) p(z) dz`; there is no q(z|x) still, and so no bound on it.

    References:
        Hinton, Salakhutdinov (2006), Reducing the dimensionality of data with neural networks.

    Arguments:
        encoder: A module from x, shape (B, \*X), to codes, shape (B, Z).
        likelihood: A module from z to p(x|z), such as ``Conditional(net, family)``.
        latents: The number Z of values in a code.
        prior: A module whose forward returns p(z), fitted to the codes: see :func:`jensen.inference.fit_prior`.

    Raises:
        OptionError: If a part is not a module.

    Example:
        >>> import torch
        >>> from jensen import Conditional, families, nets
        >>> decoder = Conditional(nets.mlp(2, 6), families.Bernoulli(6))
        >>> Autoencoder(nets.mlp(6, 2), decoder, latents=2).embed(torch.ones(5, 6)).shape
        torch.Size([5, 2])
    """

    evidence: Evidence = "none"

    def __init__(self, encoder: nn.Module, likelihood: Likelihood, latents: int, prior: Prior | None = None) -> None:
        super().__init__()
        fitted = {} if prior is None else {"prior": prior}
        for role, module in {"encoder": encoder, "likelihood": likelihood, **fitted}.items():
            if not isinstance(module, nn.Module):
                raise OptionError(f"the {role} must be a torch module; got {type(module).__name__}.")
        self.encoder = encoder
        self.likelihood = likelihood
        self.latent_size = latents
        if prior is not None:
            self.prior = prior

    def with_prior(self, prior: Prior) -> Autoencoder:
        """The same encoder and likelihood with a prior of the codes."""
        return Autoencoder(self.encoder, self.likelihood, self.latent_size, prior)

    def draw(self, x: Tensor, given: Given | None = None, k: int = 1) -> Draw:
        r"""The log-likelihood at the code of each example; the draw has no group, and its log-weight no meaning.

        Arguments:
            x: The data, shape (B, \*X).
            given: What is known beside the data.
            k: How often it is repeated.
        """
        log_likelihood = self.decode(self.embed(x, given)[None], given).log_prob(x)
        return Draw((), log_likelihood.expand(k, len(x)))

    def log_joint(self, x: Tensor, z: Tensor, given: Given | None = None) -> Tensor:
        r""":math:`\log p(x|z) + \log p(z)` for z of shape (K, B, Z), shape (K, B), nats.

        Raises:
            JensenError: If there is no prior.
        """
        return self.decode(z, given).log_prob(x) + self._codes().log_prob(z)

    def _codes(self) -> Distribution:
        """The distribution p(z)."""
        if not hasattr(self, "prior"):
            raise JensenError(
                "an autoencoder has no p(z), so it cannot be sampled and has no log p(x, z). Fit a prior to its codes: "
                "jensen fit-prior RUN."
            )
        distribution: Distribution = self.prior()
        return distribution

    def decode(self, z: Tensor, given: Given | None = None) -> Distribution:
        """The distribution p(x|z)."""
        return self.likelihood(z, given)

    def sample(self, n: int, given: Given | None = None, *, mean: bool = False) -> Tensor:
        r"""Draws n examples from the prior and the likelihood, shape (n, \*X).

        Arguments:
            n: How many.
            given: What is known beside the data.
            mean: Return the mean of p(x|z) for each drawn z instead of a draw of x.

        Raises:
            JensenError: If there is no prior.
        """
        with torch.no_grad():
            decoded = self.decode(self._codes().sample(torch.Size((n,))), given)
            sampled: Tensor = decoded.mean if mean else decoded.sample()
        return sampled

    def embed(self, x: Tensor, given: Given | None = None) -> Tensor:
        """The code of each example, shape (B, Z)."""
        codes: Tensor = self.computed(self.encoder, x)
        return codes
