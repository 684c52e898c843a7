"""Posteriors whose parameters a network gives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..conditional import Conditional
from ..errors import OptionError
from ..families import Family
from ..families.base import count_of
from ..roles import Given, Prior
from ..spec import declared
from .start import family_for, raw_like

__all__ = ["Amortized"]


@declared("posteriors.Amortized")
class Amortized(Conditional):
    r"""An encoder for the space of a prior: :math:`q(z|x)` with the parameters :math:`W f(x) + b`.

    The network f may return any number of features; an affine map from them to the parameters of the family follows
    it, which starts with q close to the prior for every x. For a prior over real vectors, such as
    :class:`jensen.priors.Named`, the family is a normal with full covariance.

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes. Gershman, Goodman (2014), Amortized inference in
        probabilistic reasoning.

    Arguments:
        net: A module from x of shape (B, \*X) to features, shape (B, F).
        like: The prior; its space says which family suits, and where q starts. Its parameters are not used again.
        family: Another family over the same space.
        features: The number F; by default ``out_features`` of the network's last layer that has one.

    Raises:
        OptionError: If F is not known, or no family is known for the prior's space.

    Example:
        >>> from torch.distributions import LogNormal, Normal
        >>> from jensen import nets, priors
        >>> prior = priors.Named(rate=LogNormal(0.0, 1.0), shift=Normal(0.0, 1.0))
        >>> q = Amortized(nets.mlp(8, 32, hidden=(32,)), like=prior)
        >>> q(torch.zeros(5, 8)).rsample((3,)).shape
        torch.Size([3, 5, 2])
    """

    def __init__(self, net: nn.Module, like: Prior, family: Family | None = None, features: int | None = None) -> None:
        family = family_for(like) if family is None else family
        head = nn.Linear(_features(net) if features is None else features, count_of(family))
        with torch.no_grad():
            head.weight.mul_(0.1)
            head.bias.copy_(raw_like(family, like))
        super().__init__(nn.Sequential(net, head), family)

    def raw(self, inputs: Tensor, given: Given | None = None) -> Tensor:
        self.event_dims = inputs.ndim - 1  # a posterior's x has one batch dimension
        return super().raw(inputs, given)


def _features(net: nn.Module) -> int:
    found = [getattr(module, "out_features", None) for module in net.modules()]
    sizes = [size for size in found if isinstance(size, int)]
    if not sizes:
        raise OptionError(
            f"cannot tell how many features {type(net).__name__} returns, since no layer of it has out_features; "
            "pass features=, the size of its output's last dimension."
        )
    return sizes[-1]
