"""A posterior that puts all its mass on one grid of codes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ..distributions import PointMass
from ..errors import OptionError, ShapeError
from ..nets import Codebook
from ..precision import LowPrecision
from ..roles import Given
from ..spec import declared

__all__ = ["Quantised"]


@declared("posteriors.Quantised")
class Quantised(LowPrecision):
    r"""Each vector of an encoder's grid is put at the nearest one of a codebook: :math:`q(z|x) = 1[z = e(f(x))]`.

    Since it is a point, :math:`\log q = 0`, and :math:`\log p(x|z) + \log p(z)` is a lower bound on log p(x) that more
    samples do not raise. The gradient of z is passed on to f(x) as if nothing had been rounded; beside the bound the
    encoder is charged :math:`\beta \|f(x) - e\|^2` for its distance from the codebook. z is a grid of vectors.

    References:
        Van den Oord, Vinyals, Kavukcuoglu (2017), Neural discrete representation learning.

    Arguments:
        net: A module from x, shape (B, \*X), to (B, H · W · D).
        codebook: The codebook, of vectors with D values.
        grid: The height H and the width W of the grid.
        commitment: The weight β, nats per squared distance.
        normalised: Whether each vector f(x) is brought to mean zero and variance one first. Without, an encoder can
            lower its distance from the codebook by making all vectors small, until they are told apart no more.

    Raises:
        OptionError: If the grid has no two positive sizes, or the weight is negative.
        ShapeError: If the network returns another number of values.

    Example:
        >>> import torch
        >>> from jensen import nets
        >>> posterior = Quantised(nets.mlp(6, 2 * 4), Codebook(8, 4), (1, 2))
        >>> posterior(torch.ones(5, 6)).mean.shape
        torch.Size([5, 1, 2, 4])
    """

    deterministic = True

    def __init__(
        self,
        net: nn.Module,
        codebook: Codebook,
        grid: Sequence[int],
        commitment: float = 0.25,
        *,
        normalised: bool = False,
    ) -> None:
        super().__init__()
        if len(grid) != 2 or min(grid) < 1:
            raise OptionError(f"a grid of codes has a positive height and width; got {tuple(grid)}.")
        if normalised and codebook.size <= 2:
            raise OptionError(
                "normalised vectors of one value are all the same, and of two there are but two. Use larger vectors, "
                "or normalised=False."
            )
        if not 0 <= commitment < math.inf:
            raise OptionError(f"the commitment is zero or positive; got {commitment}.")
        self.net, self.codebook = net, codebook
        self.grid, self.commitment, self.normalised = tuple(grid), float(commitment), normalised

    def forward(self, x: Tensor, given: Given | None = None) -> PointMass:
        features = self._features(x)
        index = self.codebook.nearest(features)
        chosen = self.codebook.lookup(index)
        if self.training:
            self.codebook.watch(features, index)
        distance = (features - chosen).square().flatten(1).sum(1)
        # Adding zero changes no bit of the code, and gives it the gradient of the features.
        value = chosen + (features - features.detach())
        return PointMass(value, 3, {"commitment": self.commitment * distance} if self.commitment else None)

    def _features(self, x: Tensor) -> Tensor:
        features: Tensor = self.computed(self.net, x)
        shape = (len(x), *self.grid, self.codebook.size)
        if features.numel() != math.prod(shape):
            raise ShapeError(
                f"expected {math.prod(shape[1:])} values for a grid of {self.grid} vectors with {self.codebook.size} "
                f"values; the network returns {tuple(features.shape[1:])}."
            )
        features = features.reshape(shape)
        return F.layer_norm(features, shape[-1:]) if self.normalised else features

    def codes(self, x: Tensor) -> Tensor:
        """The numbers of the codes of each example, shape (B, H, W)."""
        return self.codebook.nearest(self._features(x))

    def report(self) -> dict[str, float]:
        """How the codebook is used, for the journal of a training."""
        return self.codebook.usage()
