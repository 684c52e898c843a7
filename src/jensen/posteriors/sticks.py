"""Posteriors of sticks that a whole data set shares, and of features that depend on them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from ..conditional import Conditional
from ..distributions import Kumaraswamy, falling_logits
from ..errors import OptionError
from ..families import Kumaraswamy as KumaraswamyFamily
from ..roles import Given
from ..spec import declared

__all__ = ["OnSticks", "Sticks"]


@declared("posteriors.Sticks")
class Sticks(nn.Module):
    r"""One Kumaraswamy distribution for each stick that all rows share, :math:`q(v) = \prod_t q(v_t; a_t, b_t)`.

    It starts at :math:`\mathrm{Beta}(\alpha, 1)`, the prior of the Indian buffet process.

    References:
        Singh, Ling, Doshi-Velez (2017), Structured variational autoencoders for the beta-Bernoulli process.

    Arguments:
        size: The number of sticks T.
        alpha: The concentration α of the prior, above 0.1.

    Raises:
        OptionError: If an argument is out of range.

    Example:
        >>> Sticks(3, alpha=4.0)().mean
        tensor([0.8000, 0.8000, 0.8000], grad_fn=<ToCopyBackward0>)
    """

    def __init__(self, size: int, alpha: float = 1.0) -> None:
        super().__init__()
        if not 0.1 < alpha < math.inf:
            raise OptionError(f"the sticks start at Beta(alpha, 1) with alpha above 0.1; got alpha={alpha}.")
        self.family = KumaraswamyFamily(size)
        a, b = self.family.raw_of(torch.tensor(float(alpha)), torch.tensor(1.0))
        self.raw_a = nn.Parameter(a.expand(size).clone())
        self.raw_b = nn.Parameter(b.expand(size).clone())

    def forward(self, given: Given | None = None) -> Independent[Kumaraswamy]:
        sticks: Independent[Kumaraswamy] = self.family(self.raw_a, self.raw_b)
        return sticks


@declared("posteriors.OnSticks")
class OnSticks(Conditional):
    r"""An encoder whose features know the sticks: the logit of :math:`q(z_t = 1 | x, v)` is
    :math:`\mathrm{logit}\, \pi_t(v) + f_t(x)`.

    Where x says nothing of a feature, q is the prior whatever the sticks are, which a mean-field posterior,
    ``Conditional(net, family)``, can be for one set of sticks only.

    References:
        Hoffman, Blei (2015), Structured stochastic variational inference. Singh, Ling, Doshi-Velez (2017).

    Arguments:
        net: A module from x of shape (N, \*X) to the parameters of the family.
        family: The family; its first parameters are the logits of the features.
        event_dims: The number of dimensions of x.

    Raises:
        OptionError: When used without sticks.

    Example:
        >>> from jensen import families, nets
        >>> q = OnSticks(nets.mlp(6, 9, hidden=()), families.FeatureLoadings(3))
        >>> q(torch.ones(5, 6), Given(shared=torch.full((3,), 0.5))).rsample((4,)).shape
        torch.Size([4, 5, 6])
    """

    def raw(self, inputs: Tensor, given: Given | None = None) -> Tensor:
        if given is None or given.shared is None:
            raise OptionError("features that depend on sticks need them: pass Given(shared=sticks), or use SharedVAE.")
        raw = super().raw(inputs, given)
        sticks = falling_logits(given.shared)
        logits = raw[..., : sticks.shape[-1]] + sticks
        rest = raw[..., sticks.shape[-1] :]
        return torch.cat([logits, rest.expand(*logits.shape[:-1], rest.shape[-1])], -1)
