"""An autoencoder without probabilities for its codes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution

from ..errors import JensenError, OptionError
from ..roles import Draw, Evidence, Given, Likelihood
from ..spec import declared

__all__ = ["Autoencoder"]


@declared("Autoencoder")
class Autoencoder(nn.Module):
    r"""An encoder :math:`z = f(x)` and a likelihood p(x|z): there is no q(z|x) and no p(z), so there is no p(x).

    It is trained by :class:`jensen.objectives.Reconstruction`. A prior that is fitted to its codes afterwards makes a
    sampler of it.

    References:
        Hinton, Salakhutdinov (2006), Reducing the dimensionality of data with neural networks.

    Arguments:
        encoder: A module from x, shape (B, \*X), to codes, shape (B, Z).
        likelihood: A module from z to p(x|z), such as ``Conditional(net, family)``.
        latents: The number Z of values in a code.

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

    def __init__(self, encoder: nn.Module, likelihood: Likelihood, latents: int) -> None:
        super().__init__()
        for role, module in (("encoder", encoder), ("likelihood", likelihood)):
            if not isinstance(module, nn.Module):
                raise OptionError(f"the {role} must be a torch module; got {type(module).__name__}.")
        self.encoder = encoder
        self.likelihood = likelihood
        self.latent_size = latents

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
        """There is no joint density.

        Raises:
            JensenError: Always.
        """
        raise JensenError("an autoencoder has no p(z), so there is no log p(x, z). Fit a prior to its codes first.")

    def decode(self, z: Tensor, given: Given | None = None) -> Distribution:
        """The distribution p(x|z)."""
        return self.likelihood(z, given)

    def sample(self, n: int, given: Given | None = None, *, mean: bool = False) -> Tensor:
        """There is nothing to draw codes from.

        Raises:
            JensenError: Always.
        """
        raise JensenError(
            "an autoencoder has no p(z), so it cannot be sampled. Fit a prior to its codes: jensen fit-prior RUN."
        )

    def embed(self, x: Tensor, given: Given | None = None) -> Tensor:
        """The code of each example, shape (B, Z)."""
        codes: Tensor = self.encoder(x)
        return codes
