"""Recurrent networks over rows of token numbers, in which 0 fills up a row, 1 begins a sentence and 2 ends it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError
from ..spec import declared
from .linear import Linear

__all__ = ["LSTMDecoder", "LSTMEncoder", "scored"]

_PAD, _END, _FIRST = 0, 2, 2  # padding and the beginning of a sentence are never predicted

State = tuple[Tensor, ...]


def scored(tokens: Tensor) -> Tensor:
    r"""Which tokens of rows belong to their sentences: all up to the end, and the end.

    Arguments:
        tokens: Token numbers, shape (\*N, T).

    Example:
        >>> scored(torch.tensor([[5, 2, 0], [5, 6, 7]]))
        tensor([[ True,  True, False],
                [ True,  True,  True]])
    """
    return tokens != _PAD


class _Cell(nn.Module):
    """An LSTM whose product with the inputs is taken for all steps at once, and which takes sums as inputs."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.inputs = Linear(inputs, 4 * hidden)
        self.recurrent = Linear(hidden, 4 * hidden, bias=False)
        bound = hidden**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        with torch.no_grad():
            self.inputs.bias[hidden : 2 * hidden] += 1.0  # to remember is the habit that is easier to unlearn

    def forward(self, gates: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        # The state keeps its type where products are in a lower one: it is a sum over all steps.
        write, keep, value, read = (gates + self.recurrent(h)).to(c.dtype).chunk(4, dim=-1)
        c = torch.sigmoid(keep) * c + torch.sigmoid(write) * torch.tanh(value)
        return torch.sigmoid(read) * torch.tanh(c), c


def _check(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise OptionError(f"{name} must be positive; got {size}.")


def _check_dropout(dropout: float) -> float:
    if not 0 <= dropout < 1:
        raise OptionError(f"dropout is a probability below 1; got {dropout}.")
    return float(dropout)


@declared("nets.LSTMEncoder")
class LSTMEncoder(nn.Module):
    r"""An LSTM that reads a row of tokens; its state at the last of them is mapped to the outputs.

    References:
        Hochreiter, Schmidhuber (1997), Long short-term memory. Bowman et al. (2016), Generating sentences from a
        continuous space.

    Arguments:
        vocabulary: The number of tokens.
        outputs: The number of outputs.
        embedding: The width of the vector of each token.
        hidden: The width of the state.
        dropout: The probability with which an entry of a token's vector is left out in training.

    Raises:
        OptionError: If a size is not positive, or the dropout is no probability.

    Example:
        >>> LSTMEncoder(100, 6, embedding=8, hidden=16)(torch.tensor([[5.0, 7.0, 2.0, 0.0]])).shape
        torch.Size([1, 6])
    """

    def __init__(
        self, vocabulary: int, outputs: int, embedding: int = 128, hidden: int = 256, dropout: float = 0.0
    ) -> None:
        super().__init__()
        _check(vocabulary=vocabulary, outputs=outputs, embedding=embedding, hidden=hidden)
        self.dropout = _check_dropout(dropout)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.cell = _Cell(embedding, hidden)
        self.last = Linear(hidden, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        numbers = tokens.long()
        if self.training:  # in evaluation the length is always the same, so that the products sum in the same order
            numbers = numbers[:, : int(scored(numbers).sum(1).max())]
        inside = scored(numbers)
        vectors = F.dropout(self.embedding(numbers), self.dropout, self.training)
        gates = self.cell.inputs(vectors.flatten(0, 1)).unflatten(0, numbers.shape).unbind(1)
        h = c = vectors.new_zeros(len(numbers), self.last.in_features)
        for step in range(int(inside.sum(1).max())):
            after = self.cell(gates[step], h, c)
            here = inside[:, step, None]
            h, c = torch.where(here, after[0], h), torch.where(here, after[1], c)
        outputs: Tensor = self.last(h)
        return outputs


@declared("nets.LSTMDecoder")
class LSTMDecoder(nn.Module):
    r"""An LSTM that predicts the next token from those before it and from z, which it sees at every step.

    z sets the first state and is added to the inputs of the gates. With ``skip`` it also stands beside the state where
    tokens are predicted, so that what it says of the whole sentence need not pass through the recurrence.

    It never predicts what fills up a row or begins a sentence, so that all rows together have probability one.

    References:
        Hochreiter, Schmidhuber (1997), Long short-term memory. Bowman et al. (2016), Generating sentences from a
        continuous space. Dieng, Kim, Rush, Blei (2019), Avoiding latent variable collapse with generative skip models.

    Arguments:
        vocabulary: The number of tokens.
        latents: The number of latents; 0 for a language model.
        embedding: The width of the vector of each token.
        hidden: The width of the state.
        dropout: The probability with which an entry of a token's vector or of the state is left out in training.
        skip: Whether tokens are predicted from z itself beside the state.

    Raises:
        OptionError: If a size is not positive, or the dropout is no probability.

    Example:
        >>> decoder = LSTMDecoder(100, 2, embedding=8, hidden=16)
        >>> state, context = decoder.start(torch.zeros(5, 2))
        >>> state = decoder.step(decoder.inputs(torch.ones(5)) + context, state)
        >>> decoder.logits(state[0]).shape
        torch.Size([5, 98])
    """

    def __init__(
        self,
        vocabulary: int,
        latents: int,
        embedding: int = 128,
        hidden: int = 256,
        dropout: float = 0.0,
        *,
        skip: bool = False,
    ) -> None:
        super().__init__()
        _check(vocabulary=vocabulary - 2, latents=latents + 1, embedding=embedding, hidden=hidden)
        self.dropout = _check_dropout(dropout)
        self.vocabulary, self.latents, self.hidden = vocabulary, latents, hidden
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.cell = _Cell(embedding, hidden)
        if latents:
            self.begin = Linear(latents, hidden)
            self.context = Linear(latents, 4 * hidden, bias=False)
        self.beside = latents if skip else 0
        self.last = Linear(hidden + self.beside, vocabulary - _FIRST)

    def start(self, z: Tensor | None, rows: int = 1) -> tuple[State, Tensor]:
        """The first state for each z of shape (N, Z), and what z adds to the inputs of every step; None for no z."""
        if z is None:
            zero = self.last.weight.new_zeros(rows, self.hidden)
            return (zero, zero, zero), zero.new_zeros(rows, 4 * self.hidden)
        h, beside = torch.tanh(self.begin(z).to(z.dtype)), z[:, : self.beside]
        return (torch.cat([h, beside], -1), h, torch.zeros_like(h)), torch.cat([self.context(z), beside], -1)

    def inputs(self, tokens: Tensor) -> Tensor:
        r"""What tokens of shape (\*N) add to the inputs of the step after them, shape (\*N, 4 · hidden) and z's."""
        vectors = F.dropout(self.embedding(tokens.long()), self.dropout, self.training)
        gates: Tensor = self.cell.inputs(vectors.reshape(-1, vectors.shape[-1]))
        return F.pad(gates.reshape(*tokens.shape, -1), (0, self.beside))

    def step(self, inputs: Tensor, state: State) -> State:
        """The state after a step: what the token is predicted from, and both states of the LSTM."""
        gates, beside = inputs.split([4 * self.hidden, self.beside], -1)
        h, c = self.cell(gates, *state[1:])
        return torch.cat([F.dropout(h, self.dropout, self.training), beside], -1), h, c

    def logits(self, state: Tensor) -> Tensor:
        """The unnormalised log-probabilities of the tokens from 2 on, shape (N, V - 2)."""
        logits: Tensor = self.last(state)
        return logits
