"""Priors over grids of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from ..distributions import BinnedCategorical, CodeGrid
from ..errors import OptionError, ShapeError
from ..nets import Codebook
from ..roles import Given
from ..spec import declared

__all__ = ["Codes"]


@declared("priors.Codes")
class Codes(nn.Module):
    r"""A distribution over grids of vectors from a codebook: uniform, :math:`\log p(z) = -H W \log K`, or learned.

    A learned one predicts each code from those before it, row by row. Its gradient never reaches the codebook, since
    codes are numbers: it can be learned while the codes still move, and no step of it moves them.

    References:
        Van den Oord, Vinyals, Kavukcuoglu (2017), Neural discrete representation learning.

    Arguments:
        codebook: The codebook, the one of the posterior.
        grid: The height H and the width W of the grid.
        numbers: A module whose forward without z is a distribution of code numbers on the unit grid
            :math:`k / (K - 1)`, such as :class:`jensen.likelihoods.Raster` with a categorical family; None for uniform.

    Raises:
        OptionError: If the grid has no two positive sizes.
        ShapeError: If the numbers are of another shape or another number of codes.

    Example:
        >>> Codes(Codebook(4, 3), (2, 2))().log_prob(torch.zeros(2, 2, 3)).exp()
        tensor(0.0039)
    """

    _logits: Tensor

    def __init__(self, codebook: Codebook, grid: Sequence[int], numbers: nn.Module | None = None) -> None:
        super().__init__()
        if len(grid) != 2 or min(grid) < 1:
            raise OptionError(f"a grid of codes has a positive height and width; got {tuple(grid)}.")
        family: Any = getattr(numbers, "family", None)
        if family is not None and (tuple(family.event_shape), family.levels) != (tuple(grid), codebook.codes):
            raise ShapeError(
                f"expected numbers of {codebook.codes} codes on a grid of {tuple(grid)}; got {family.levels} on "
                f"{tuple(family.event_shape)}."
            )
        self.codebook, self.grid, self.numbers = codebook, tuple(grid), numbers
        self.register_buffer("_logits", torch.zeros(*grid, codebook.codes), persistent=False)

    def forward(self, given: Given | None = None) -> CodeGrid:
        if self.numbers is not None:
            return CodeGrid(self.codebook, self.numbers(None))
        return CodeGrid(self.codebook, Independent(BinnedCategorical(self._logits, validate_args=False), 2))
