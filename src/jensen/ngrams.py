"""Language models that count: what the tokens before a token say about it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import OptionError

__all__ = ["NGrams", "ngram"]

_PAD, _BEGIN, _FIRST = 0, 1, 2
_DISCOUNTS = (0.5, 0.7, 0.8, 0.9)

Gram = tuple[int, ...]


class NGrams:
    r"""An n-gram model by interpolated Kneser-Ney smoothing.

    .. math:: p(w | h) = \frac{\max(c(h w) - d, 0)}{c(h)} + \frac{d \, N(h)}{c(h)} \, p(w | h')

    h' is h without its first token, :math:`N(h)` the number of different tokens after h. Shorter contexts count in how
    many contexts a token occurs rather than how often; below them all tokens are alike.

    References:
        Kneser, Ney (1995), Improved backing-off for m-gram language modeling. Chen, Goodman (1999), An empirical study
        of smoothing techniques for language modeling.

    Arguments:
        rows: The training rows of tokens, shape (N, T), filled up with 0.
        order: The number of tokens n that are looked at together; 1 for no context.
        vocabulary: The number of tokens, of which the first two are never predicted.

    Raises:
        OptionError: If the order is not positive.

    Example:
        >>> bigrams = NGrams(torch.tensor([[4, 5, 2], [4, 5, 2], [5, 2, 0]]), order=2, vocabulary=6)
        >>> round(sum(bigrams.probability((4,), w, 0.7) for w in range(2, 6)), 9)
        1.0
        >>> bigrams.probability((4,), 5, 0.7) > 0.7
        True
    """

    def __init__(self, rows: Tensor, order: int, vocabulary: int) -> None:
        if order < 1:
            raise OptionError(f"an n-gram model looks at one token or more; got order={order}.")
        self.order, self.outputs = order, vocabulary - _FIRST
        longest: Counter[Gram] = Counter()
        for row in rows.tolist():
            longest.update(_grams(row, order))
        self.counts = [longest]
        for _ in range(order - 1):  # of n-gram types, not of occurrences
            self.counts.append(Counter(gram[1:] for gram in self.counts[-1]))
        self.totals: list[dict[Gram, int]] = []
        self.different: list[dict[Gram, int]] = []
        for counter in self.counts:
            total: defaultdict[Gram, int] = defaultdict(int)
            different: defaultdict[Gram, int] = defaultdict(int)
            for gram, count in counter.items():
                total[gram[:-1]] += count
                different[gram[:-1]] += 1
            self.totals.append(dict(total))
            self.different.append(dict(different))

    def probability(self, context: Gram, token: int, discount: float) -> float:
        """The probability of a token after a context of n - 1 tokens or fewer.

        Arguments:
            context: The tokens before it.
            token: The token.
            discount: The part d of a count that is given to other tokens.
        """
        found = 1 / self.outputs
        for length in range(min(self.order - 1, len(context)) + 1):
            level, before = self.order - 1 - length, context[len(context) - length :]
            total = self.totals[level].get(before)
            if total is None:
                break
            seen = max(self.counts[level].get((*before, token), 0) - discount, 0.0)
            found = (seen + discount * self.different[level][before] * found) / total
        return found

    def log_prob(self, rows: Tensor, discount: float) -> Tensor:
        """The log-probability of each row, the end included, shape (N,), float64, nats."""
        known: dict[Gram, float] = {}
        scores = []
        for row in rows.tolist():
            score = 0.0
            for gram in _grams(row, self.order):
                if gram not in known:
                    known[gram] = math.log(self.probability(gram[:-1], gram[-1], discount))
                score += known[gram]
            scores.append(score)
        return torch.tensor(scores, dtype=torch.float64)


def _grams(row: Sequence[int], order: int) -> list[Gram]:
    """Each token of a row behind the n - 1 tokens before it."""
    tokens = [int(token) for token in row if token != _PAD]
    padded = [_BEGIN] * (order - 1) + tokens
    return [tuple(padded[place : place + order]) for place in range(len(tokens))]


def ngram(train: Tensor, valid: Tensor, test: Tensor, order: int, vocabulary: int) -> Tensor:
    """The log-likelihood of test rows under an n-gram model, its discount chosen on validation rows, shape (M,), nats.

    Arguments:
        train: Rows of tokens, shape (N, T).
        valid: Likewise.
        test: Likewise, shape (M, T).
        order: The number of tokens that are looked at together.
        vocabulary: The number of tokens.

    Example:
        >>> x = torch.tensor([[4, 5, 2]] * 50)
        >>> bool((ngram(x, x, x[:1], 3, 6) > -0.1).all())
        True
    """
    model = NGrams(train, order, vocabulary)
    scores = [float(model.log_prob(valid[:1000], discount).mean()) for discount in _DISCOUNTS]
    return model.log_prob(test, _DISCOUNTS[scores.index(max(scores))])
