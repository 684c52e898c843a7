"""Priors over discrete codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from ..distributions import Bernoulli as Coins
from ..distributions import OneHotCategorical
from ..errors import OptionError
from ..roles import Given
from ..spec import declared

__all__ = ["Bernoulli", "Categorical"]


@declared("priors.Bernoulli")
class Bernoulli(nn.Module):
    r"""Independent coin flips :math:`\prod_d p_d^{z_d} (1 - p_d)^{1 - z_d}`.

    Arguments:
        size: The number of latents.
        probability: The probability of a one: a number, or one for each latent, shape (Z,).
        learned: Whether the probabilities are learned, from the given ones on.

    Raises:
        OptionError: If there is no latent, or a probability does not lie between 0 and 1.

    Example:
        >>> Bernoulli(3)().log_prob(torch.ones(3)).exp()
        tensor(0.1250)
    """

    logits: Tensor

    def __init__(self, size: int, probability: float | Tensor = 0.5, *, learned: bool = False) -> None:
        super().__init__()
        given = torch.as_tensor(probability, dtype=torch.get_default_dtype())
        if size < 1 or tuple(given.shape) not in ((), (size,)):
            raise OptionError(f"expected one probability for all latents or each; got {given.shape} for size={size}.")
        if not ((given > 0) & (given < 1)).all():
            raise OptionError(f"a probability lies between 0 and 1, both excluded; got {probability}.")
        logits = torch.logit(given).expand(size).clone()
        if learned:
            self.logits = nn.Parameter(logits)
        else:
            self.register_buffer("logits", logits)

    def forward(self, given: Given | None = None) -> Independent[Coins]:
        return Independent(Coins(logits=self.logits, validate_args=False), 1, validate_args=False)


@declared("priors.Categorical")
class Categorical(nn.Module):
    r"""Independent categorical variables as one-hot vectors, :math:`\prod_v \prod_c p_{vc}^{z_{vc}}`.

    Arguments:
        variables: The number V of variables.
        categories: The number C of values of each.
        probabilities: The probabilities, shape (V, C), each row adding up to 1; None for equal ones.
        learned: Whether the probabilities are learned, from the given ones on.

    Raises:
        OptionError: If an argument is out of range.

    Example:
        >>> Categorical(2, 4)().log_prob(torch.eye(4)[:2]).exp()
        tensor(0.0625)
    """

    logits: Tensor

    def __init__(
        self, variables: int, categories: int, probabilities: Tensor | None = None, *, learned: bool = False
    ) -> None:
        super().__init__()
        if variables < 1 or categories < 2:
            raise OptionError(
                f"expected at least 1 variable of 2 categories; got variables={variables}, categories={categories}."
            )
        if probabilities is None:
            probabilities = torch.full((variables, categories), 1 / categories)
        if tuple(probabilities.shape) != (variables, categories):
            raise OptionError(f"expected probabilities of shape {(variables, categories)}; got {probabilities.shape}.")
        if not (probabilities > 0).all() or not torch.allclose(probabilities.sum(-1), torch.ones(()).to(probabilities)):
            raise OptionError(f"probabilities are positive and add up to 1 in each row; got {probabilities.tolist()}.")
        logits = probabilities.log()
        if learned:
            self.logits = nn.Parameter(logits)
        else:
            self.register_buffer("logits", logits)

    def forward(self, given: Given | None = None) -> Independent[OneHotCategorical]:
        return Independent(OneHotCategorical(self.logits, validate_args=False), 1, validate_args=False)
