"""A model without latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..errors import JensenError, OptionError
from ..roles import Draw, Evidence, Given
from ..spec import declared

__all__ = ["Explicit"]


@declared("Explicit")
class Explicit(nn.Module):
    r"""A model whose p(x) is known: a draw has no group of latents, and its log-weight is the exact log-likelihood.

    Arguments:
        likelihood: A module whose ``forward(None, given)`` returns p(x), such as an autoregressive network.

    Raises:
        OptionError: If the likelihood is not a module.

    Example:
        >>> from torch.distributions import Bernoulli, Independent
        >>> class Coins(nn.Module):
        ...     def forward(self, z, given=None):
        ...         return Independent(Bernoulli(torch.full((6,), 0.5)), 1)
        >>> Explicit(Coins()).draw(torch.ones(5, 6)).log_weight[0]
        tensor([-4.1589, -4.1589, -4.1589, -4.1589, -4.1589])
    """

    evidence: Evidence = "exact"
    latent_size = 0

    def __init__(self, likelihood: nn.Module) -> None:
        super().__init__()
        if not isinstance(likelihood, nn.Module):
            raise OptionError(f"the likelihood must be a torch module; got {type(likelihood).__name__}.")
        self.likelihood = likelihood

    def draw(self, x: Tensor, given: Given | None = None, k: int = 1) -> Draw:
        r"""The exact log p(x) as a draw without groups, K times the same.

        Arguments:
            x: The data, shape (B, \*X).
            given: What is known beside the data.
            k: How often it is repeated.
        """
        log_likelihood = self.decode(None, given).log_prob(x)
        return Draw((), log_likelihood.expand(k, len(x)))

    def log_joint(self, x: Tensor, z: Tensor | None = None, given: Given | None = None) -> Tensor:
        r""":math:`\log p(x)`, shape (1, B), nats."""
        return self.decode(None, given).log_prob(x)[None]

    def decode(self, z: Tensor | None, given: Given | None = None) -> Distribution:
        """The distribution p(x)."""
        distribution: Distribution = self.likelihood(None, given)
        return distribution

    def sample(self, n: int, given: Given | None = None, *, mean: bool = False) -> Tensor:
        r"""Draws n examples, shape (n, \*X); there is no latent whose mean could be shown instead."""
        with torch.no_grad():
            sampled: Tensor = self.decode(None, given).sample(torch.Size((n,)))
        return sampled

    def embed(self, x: Tensor, given: Given | None = None) -> Tensor:
        """There is nothing to embed into.

        Raises:
            JensenError: Always.
        """
        raise JensenError("this model has no latents, so rows have no codes. Fit a model with latents, such as vae.")
