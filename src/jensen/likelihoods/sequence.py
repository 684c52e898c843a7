"""p(x|z) of sentences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..distributions import Sentences, Sequences
from ..errors import OptionError, ShapeError, SupportError
from ..families import Measure
from ..precision import LowPrecision
from ..roles import Given
from ..spec import declared

__all__ = ["Sequence"]

_FIRST = 2


@declared("likelihoods.Sequence")
class Sequence(LowPrecision):
    r"""The distribution :math:`p(x|z) = \prod_t p(x_t | x_{<t}, z)` of rows of tokens, by a network that predicts.

    References:
        Bowman et al. (2016), Generating sentences from a continuous space.

    Arguments:
        net: A module that predicts the next token, such as :class:`jensen.nets.LSTMDecoder`.
        length: The largest number of tokens in a row.
        word_dropout: The probability with which, in training, a token that the network is shown is replaced by the
            unknown one; what it is to predict then has to come from z.

    Raises:
        OptionError: If the length is not positive, or the dropout is no probability.

    Example:
        >>> from jensen import nets
        >>> likelihood = Sequence(nets.LSTMDecoder(10, 2, embedding=4, hidden=4), length=5)
        >>> likelihood(torch.zeros(3, 1, 2)).log_prob(torch.tensor([[5.0, 4.0, 2.0, 0.0, 0.0]])).shape
        torch.Size([3, 1])
    """

    measure: Measure = "mass"

    def __init__(self, net: nn.Module, length: int, word_dropout: float = 0.0) -> None:
        super().__init__()
        if length < 1:
            raise OptionError(f"a row has at least one token; got length={length}.")
        if not 0 <= word_dropout <= 1:
            raise OptionError(f"word_dropout is a probability; got {word_dropout}.")
        self.net = net
        self.event_shape = (length,)
        self.word_dropout = float(word_dropout)

    def forward(self, z: Tensor | None, given: Given | None = None) -> Sequences:
        net: Any = self.net
        return Sequences(net, z, self.event_shape[0], word_dropout=self.word_dropout, products=self.dtype)

    def check(self, x: Tensor) -> None:
        """Checks that data are rows of tokens.

        Raises:
            ShapeError: If the rows have another length.
            SupportError: If a row is not a sentence; the message names the first one.
        """
        if tuple(x.shape[1:]) != self.event_shape:
            raise ShapeError(f"expected rows of {self.event_shape[0]} tokens; got rows of shape {tuple(x.shape[1:])}.")
        support = Sentences(int(self.net.vocabulary))  # type: ignore[arg-type]
        bad = ~support.check(x)
        if bad.any():
            row, place = bad.nonzero()[0].tolist()
            raise SupportError(
                f"expected {support}; found {float(x[row, place]):g} in row {row} at position {place}. Make rows from "
                "text by the vocabulary of the data."
            )

    @torch.no_grad()
    def start_at_marginal(self, x: Tensor) -> bool:
        """Sets the last bias so that at first each token has its frequency in rows x, shape (N, T)."""
        bias = getattr(getattr(self.net, "last", None), "bias", None)
        if not isinstance(bias, Tensor):
            return False
        counts = torch.bincount(x.long().flatten(), minlength=len(bias) + _FIRST)[_FIRST:].double() + 0.5
        bias.copy_((counts / counts.sum()).log())
        return True
