"""The distribution of rows of tokens of which each is predicted from those before it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.types import _size

from .categorical import chosen

__all__ = ["Predictor", "Sentences", "Sequences"]

_PAD, _BEGIN, _END, _UNKNOWN, _FIRST = 0, 1, 2, 3, 2
_BLOCK = 256
"""Positions whose probabilities are computed together in evaluation, always: each then sums in the same order."""
_STEPS = 32
"""Steps whose states are kept until their probabilities are computed."""

State = tuple[Tensor, ...]
"""What a network remembers between steps; the next token is predicted from the first part."""


class Predictor(Protocol):
    """A network that predicts the next token, such as :class:`jensen.nets.LSTMDecoder`."""

    training: bool
    vocabulary: int

    def start(self, z: Tensor | None, rows: int = 1) -> tuple[State, Tensor]: ...

    def inputs(self, tokens: Tensor) -> Tensor: ...

    def step(self, gates: Tensor, state: State) -> State: ...

    def logits(self, h: Tensor) -> Tensor: ...


class Sentences(constraints.Constraint):
    """Rows of token numbers: whole tokens from 2 on, the number 2 at most once, and nothing but 0 after it.

    Arguments:
        vocabulary: The number of tokens.

    Example:
        >>> Sentences(9).check(torch.tensor([[5.0, 2.0, 0.0], [5.0, 6.0, 7.0], [5.0, 0.0, 2.0]])).all(-1)
        tensor([ True,  True, False])
    """

    is_discrete = True
    event_dim = 1

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def __repr__(self) -> str:
        return f"sentences of {self.vocabulary} tokens (whole numbers from 2 on, 2 at the end, then 0)"

    def check(self, value: Tensor) -> Tensor:
        ends = (value == _END).cumsum(-1)
        after = ends - (value == _END).to(ends.dtype) > 0
        token = (value >= _FIRST) & (value < self.vocabulary) & (value == value.round())
        return torch.where(after, value == _PAD, token)


class Sequences(Distribution):
    r"""Rows of at most T tokens, each predicted from those before it: :math:`\prod_t p(x_t | x_{<t}, z)`.

    The product runs up to the end of the sentence, the end included. A row without an end is a sentence that is cut:
    its probability is that of all sentences that begin so. Over all rows the probabilities add up to one.

    References:
        Bowman et al. (2016), Generating sentences from a continuous space.

    Arguments:
        network: What predicts the next token.
        z: The latents, shape (\*B, Z); None for none.
        length: The largest number of tokens T.
        word_dropout: The probability with which a token that the network is shown, but not one that it is to predict,
            is replaced by the unknown one. It applies while the network trains.
        temperature: What the logits are divided by.
        products: The type in which ``log_prob`` takes matrix products; None for that of the network.

    Example:
        >>> from jensen import nets
        >>> p = Sequences(nets.LSTMDecoder(10, 2, embedding=4, hidden=4), torch.zeros(7, 2), length=5)
        >>> p.log_prob(torch.tensor([[5.0, 4.0, 2.0, 0.0, 0.0]])).shape
        torch.Size([7])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        network: Predictor,
        z: Tensor | None,
        length: int,
        *,
        word_dropout: float = 0.0,
        temperature: float = 1.0,
        products: torch.dtype | None = None,
    ) -> None:
        self.network, self.z, self.length = network, z, length
        self.word_dropout, self.temperature, self.products = word_dropout, temperature, products
        batch = Size() if z is None else z.shape[:-1]
        super().__init__(batch, Size((length,)), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return Sentences(self.network.vocabulary)

    def at_temperature(self, temperature: float) -> Sequences:
        """The same with every choice sharper (below 1) or vaguer (above)."""
        return Sequences(
            self.network,
            self.z,
            self.length,
            word_dropout=self.word_dropout,
            temperature=temperature,
            products=self.products,
        )

    def log_prob(self, value: Tensor) -> Tensor:
        if self.products is None:
            return self._log_prob(value.long())
        with torch.autocast(value.device.type, self.products):
            return self._log_prob(value.long())

    def _log_prob(self, tokens: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(self.batch_shape, tokens.shape[:-1])
        inside = tokens != _PAD
        longest = int(inside.sum(-1).max())
        gates = self._gates(tokens[..., :longest] if self.network.training else tokens).unbind(-2)
        rows = batch.numel()
        state, context = self._start(batch)
        inside = inside.expand(*batch, self.length).reshape(rows, -1)
        targets = tokens.expand(*batch, self.length).reshape(rows, -1)
        found = context.new_zeros(rows, self.length, dtype=_at_least_single(context))
        for first in range(0, longest, _STEPS):
            states = []
            for step in range(first, min(first + _STEPS, longest)):
                now = (gates[step] + context.reshape(*batch, -1)).reshape(rows, -1)
                state = self.network.step(now, state)
                states.append(state[0])
            part = slice(first, first + len(states))
            here = inside[:, part]
            log_p = self._scores(torch.stack(states, 1)[here], targets[:, part][here])
            found = found.index_put(_places(here, first), log_p)
        return found.sum(-1).reshape(batch)

    def _gates(self, tokens: Tensor) -> Tensor:
        """What the network is shown before each token: the beginning, then the tokens but the last."""
        shown = torch.cat([torch.full_like(tokens[..., :1], _BEGIN), tokens[..., :-1]], -1)
        if self.network.training and self.word_dropout:
            hidden = torch.rand(shown.shape, device=shown.device) < self.word_dropout
            shown = shown.where(~(hidden & (shown > _END)), _UNKNOWN)
        return self.network.inputs(shown)

    def _start(self, batch: Size) -> tuple[State, Tensor]:
        if self.z is None:
            return self.network.start(None, batch.numel())
        return self.network.start(self.z.expand(*batch, self.z.shape[-1]).reshape(batch.numel(), -1))

    def _scores(self, h: Tensor, targets: Tensor) -> Tensor:
        """The log-probability of a target at each position, shape (P,)."""
        size = len(h) if self.network.training else _BLOCK
        scores = [self._block(a, b, size) for a, b in zip(h.split(size), targets.split(size), strict=True)]
        return torch.cat(scores)

    def _block(self, h: Tensor, targets: Tensor, size: int) -> Tensor:
        count = len(h)
        if count < size:
            h = torch.cat([h, h.new_zeros(size - count, h.shape[1])])
        logits = self._logits(h)
        log_p = logits.log_softmax(-1, dtype=_at_least_single(logits))[:count]
        return log_p.gather(-1, targets[:, None] - _FIRST)[:, 0]

    def _logits(self, h: Tensor) -> Tensor:
        logits = self.network.logits(h)
        return logits if self.temperature == 1 else logits / self.temperature

    @property
    def mode(self) -> Tensor:
        """Greedy rows: at each step the likeliest token that is a known one. They need not be the likeliest rows."""
        return self._grow(self.batch_shape, None)

    @property
    def mean(self) -> Tensor:
        """The greedy rows, since tokens have no mean."""
        return self.mode

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        batch = Size(sample_shape) + self.batch_shape
        like = next(iter(self.network.parameters())) if isinstance(self.network, torch.nn.Module) else self.z
        device = None if like is None else like.device
        return self._grow(batch, torch.rand((*batch, self.length), device=device))

    @torch.no_grad()
    def _grow(self, batch: Size, uniform: Tensor | None) -> Tensor:
        """Rows token by token, by the inverse of each cumulative distribution at the uniform numbers, or greedily."""
        rows = batch.numel()
        state, context = self._start(batch)
        grown = torch.zeros(rows, self.length, dtype=torch.long, device=context.device)
        token = torch.full((rows,), _BEGIN, device=context.device)
        done = torch.zeros(rows, dtype=torch.bool, device=context.device)
        for step in range(self.length):
            state = self.network.step(self.network.inputs(token) + context, state)
            logits = self._logits(state[0])
            choice = _likeliest(logits) if uniform is None else chosen(logits, uniform.reshape(rows, -1)[:, step])
            token = torch.where(done, _PAD, choice + _FIRST)
            grown[:, step] = token
            done = done | (token == _END)
            if bool(done.all()):
                break
        return grown.reshape(*batch, self.length).to(context.dtype)


def _at_least_single(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _places(here: Tensor, first: int) -> tuple[Tensor, Tensor]:
    row, column = here.nonzero(as_tuple=True)
    return row, column + first


def _likeliest(logits: Tensor) -> Tensor:
    known = logits.clone()
    known[:, _UNKNOWN - _FIRST] = -torch.inf
    return known.argmax(-1)
