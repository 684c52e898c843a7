"""Priors over the weights of a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from ..distributions import bounded_scale, diagonal_normal, unbounded_scale
from ..errors import OptionError
from ..roles import Given
from ..spec import declared

__all__ = ["Weights"]


@declared("priors.Weights")
class Weights(nn.Module):
    r"""Independent normals around zero, with one standard deviation for the weights of each tensor of a network.

    .. math:: p(g) = \prod_l \prod_{i \in l} N(g_i; 0, s_l^2)

    Where the :math:`s_l` are learned they maximise the same bound (empirical Bayes): a layer that needs no weights is
    pulled to zero.

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes, appendix F. MacKay (1992), A practical Bayesian
        framework for backpropagation networks.

    Arguments:
        sizes: The number of weights in each tensor, in the order of the network's parameters.
        scales: The standard deviations, where they start.
        learned: Whether they are learned.

    Raises:
        OptionError: If the lists do not fit, or a value is not positive.

    Example:
        >>> Weights([3, 2], [0.5, 1.0], learned=False)().stddev
        tensor([0.5000, 0.5000, 0.5000, 1.0000, 1.0000])
    """

    raw: Tensor

    def __init__(self, sizes: Sequence[int], scales: Sequence[float], *, learned: bool = True) -> None:
        super().__init__()
        if not sizes or len(sizes) != len(scales) or min(sizes) < 1:
            raise OptionError(f"expected a size and a scale for each tensor; got {list(sizes)} and {list(scales)}.")
        self.sizes = list(sizes)
        raw = unbounded_scale(torch.tensor(list(scales), dtype=torch.get_default_dtype()))
        if learned:
            self.raw = nn.Parameter(raw)
        else:
            self.register_buffer("raw", raw)

    def forward(self, given: Given | None = None) -> Independent[Normal]:
        scales = bounded_scale(self.raw)
        scale = torch.cat([each.expand(size) for each, size in zip(scales, self.sizes, strict=True)])
        return diagonal_normal(torch.zeros_like(scale), scale, 1)
