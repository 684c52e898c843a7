"""Posteriors over the weights of a network."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributions import Independent, Normal

from ..distributions import bounded_scale, diagonal_normal, unbounded_scale
from ..errors import OptionError
from ..roles import Given
from ..spec import declared

__all__ = ["Weights"]


@declared("posteriors.Weights")
class Weights(nn.Module):
    r"""Independent normals :math:`q(g) = \prod_i N(g_i; \mu_i, \sigma_i^2)` over the weights of a network.

    The means are the parameters of the network itself, which is shared with the likelihood that uses the weights.

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes, appendix F. Blundell et al. (2015), Weight uncertainty
        in neural networks.

    Arguments:
        net: The network.
        scales: The standard deviation with which the weights of each tensor start.

    Raises:
        OptionError: If there is not one scale for each parameter tensor.

    Example:
        >>> from jensen import nets
        >>> Weights(nets.mlp(2, 6, hidden=()), [0.1, 0.1])().event_shape
        torch.Size([18])
    """

    def __init__(self, net: nn.Module, scales: list[float]) -> None:
        super().__init__()
        self.net = net
        sizes = [parameter.numel() for parameter in net.parameters()]
        if len(sizes) != len(scales):
            raise OptionError(f"the network has {len(sizes)} parameter tensors; got {len(scales)} scales.")
        started = torch.cat([torch.full((n,), scale) for n, scale in zip(sizes, scales, strict=True)])
        self.raw_scale = nn.Parameter(unbounded_scale(started))

    def forward(self, given: Given | None = None) -> Independent[Normal]:
        means = torch.cat([parameter.reshape(-1) for parameter in self.net.parameters()])
        return diagonal_normal(means, bounded_scale(self.raw_scale), 1)
