"""Posteriors without a network: parameters of their own for every row of a data set."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..conditional import distribution_at
from ..errors import OptionError, ShapeError
from ..families import Family
from ..families.base import count_of
from ..roles import Given, Posterior, Prior
from ..spec import declared
from .start import family_for, raw_from, raw_like

__all__ = ["Local"]

_CHUNK = 256


@declared("posteriors.Local")
class Local(nn.Module):
    r"""A posterior :math:`q_n(z) = q(z; \lambda_n)` with parameters :math:`\lambda_n` for each row n of one data set.

    There is no encoder and so no amortisation gap. The parameters are looked up by the number of a row, which training
    passes as ``given.index``; of rows that were not trained on nothing is known. They are trained

    - jointly with the model, by ``train.fit`` like anything else, where ``learned`` is true;
    - or fitted until they stand still inside each step, by :class:`jensen.inference.FitLocally`, where it is false.

    References:
        Hoffman, Blei, Wang, Paisley (2013), Stochastic variational inference. Cremer, Li, Duvenaud (2018), Inference
        suboptimality in variational autoencoders.

    Arguments:
        rows: The number of rows N of the data set.
        family: The family; by default the one that suits ``like``.
        like: The prior, from which all rows start; by default they start from parameters zero.
        learned: Whether gradients of an objective change the parameters.

    Raises:
        OptionError: If neither family nor prior is given, or there are no rows.

    Example:
        >>> from jensen import families
        >>> q = Local(100, families.FullNormal(2))
        >>> q(torch.zeros(3, 8), Given(index=torch.tensor([0, 7, 99]))).rsample((5,)).shape
        torch.Size([5, 3, 2])
    """

    table: Tensor

    def __init__(
        self, rows: int, family: Family | None = None, like: Prior | None = None, *, learned: bool = True
    ) -> None:
        super().__init__()
        if rows < 1:
            raise OptionError(f"a posterior for each row needs at least 1 row; got rows={rows}.")
        if family is None and like is None:
            raise OptionError("say which family the posterior of a row is in: pass family=, or like= the prior.")
        self.family: Family = family if like is None or family is not None else family_for(like)  # type: ignore[assignment]
        self.rows = rows
        start = torch.zeros(count_of(self.family)) if like is None else raw_like(self.family, like)
        table = start.repeat(rows, 1)
        if learned:
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table)

    def forward(self, x: Tensor, given: Given | None = None) -> Distribution:
        return distribution_at(self.family, self.raw(x, given))

    def at(self, index: Tensor) -> Distribution:
        """The posteriors of the rows with the given numbers, shape (B,)."""
        return distribution_at(self.family, self.table[index])

    def raw(self, x: Tensor, given: Given | None) -> Tensor:
        """The unconstrained parameters of rows, shape (B, P).

        Raises:
            OptionError: If the numbers of the rows are not given.
            ShapeError: If there are not as many numbers as rows.
        """
        index = None if given is None else given.index
        if index is None:
            raise OptionError(
                f"Local knows the {self.rows} rows it was trained on by their number, given.index, and none was given. "
                "For other rows use inference.best_in_family(model, x, family), which fits them one by one, or train "
                "an encoder and wrap it in posteriors.Refined."
            )
        if tuple(index.shape) != (len(x),):
            raise ShapeError(
                f"expected a number for each of {len(x)} rows; given.index has shape {tuple(index.shape)}."
            )
        if len(index):
            low, high = (int(end) for end in index.aminmax())
            if low < 0 or high >= self.rows:  # a negative one would be another row's, and a GPU would stop for good
                raise OptionError(f"Local has {self.rows} rows; given.index goes from {low} to {high}.")
        return self.table[index]

    @torch.no_grad()
    def start_at(self, posterior: Posterior, x: Tensor) -> None:
        r"""Starts every row from an encoder's posterior of it.

        Arguments:
            posterior: A trained posterior, of the same family or one with a mean and a variance.
            x: All rows in order, shape (N, \*X).

        Raises:
            ShapeError: If there are not N rows.
        """
        if len(x) != self.rows:
            raise ShapeError(f"expected the {self.rows} rows of this posterior in order; got {len(x)}.")
        for begin in range(0, self.rows, _CHUNK):
            chosen = slice(begin, begin + _CHUNK)
            self.table[chosen] = raw_from(posterior, self.family, x[chosen]).to(self.table)
