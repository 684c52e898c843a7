"""The vectors that codes stand for."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import OptionError, ShapeError
from ..spec import declared

__all__ = ["Codebook"]

_SMOOTHING = 1e-5
_ROUNDS = 10
"""Rounds of k-means at the start."""


@declared("nets.Codebook")
class Codebook(nn.Module):
    r"""K vectors :math:`e_k`, each the moving average of what was assigned to it.

    After step t, if it was taken, with :math:`n_k` the number of vectors v of the batch that are nearest to
    :math:`e_k`,

    .. math:: N_k \leftarrow \gamma_t N_k + (1 - \gamma_t) n_k, \quad
              m_k \leftarrow \gamma_t m_k + (1 - \gamma_t) \sum_{v \to k} v, \quad e_k = m_k / N_k

    with :math:`N_k` smoothed by a little and :math:`\gamma_t = \min(\gamma, (1 + t) / (10 + t))`, so that the vectors
    follow an encoder that has just begun to learn. After the first step they are set by k-means on its batch. A vector
    with fewer assignments than ``revive`` times the average starts again at a vector of the batch.

    References:
        Van den Oord, Vinyals, Kavukcuoglu (2017), Neural discrete representation learning, appendix A.1. Razavi, van
        den Oord, Vinyals (2019), Generating diverse high-fidelity images with VQ-VAE-2.

    Arguments:
        codes: The number K of vectors.
        size: The number of values in each.
        decay: The decay γ.
        revive: The share of the average number of assignments below which a vector is given up; 0 for never.

    Raises:
        OptionError: If an argument is out of range.

    Example:
        >>> book = Codebook(4, 2)
        >>> index = book.nearest(torch.zeros(5, 7, 2))
        >>> index.shape, book.lookup(index).shape
        (torch.Size([5, 7]), torch.Size([5, 7, 2]))
    """

    vectors: Tensor
    counts: Tensor
    chosen: Tensor
    sums: Tensor
    steps: Tensor

    def __init__(self, codes: int, size: int, decay: float = 0.99, revive: float = 0.05) -> None:
        super().__init__()
        if codes < 2 or size < 1:
            raise OptionError(f"a codebook needs at least 2 codes of 1 value; got codes={codes}, size={size}.")
        if not 0 <= decay < 1 or not 0 <= revive < 1:
            raise OptionError(f"decay and revive are shares below 1; got decay={decay}, revive={revive}.")
        self.codes, self.size, self.decay, self.revive = codes, size, float(decay), float(revive)
        self.register_buffer("vectors", torch.randn(codes, size) / size**0.5)
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("chosen", torch.ones(codes))  # as counts, but a vector that starts again counts nothing
        self.register_buffer("sums", self.vectors.clone())
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self._seen: tuple[Tensor, Tensor] | None = None

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # Codebooks that were saved before choices were counted apart from starts have one count for both.
        if f"{prefix}counts" in state:
            state.setdefault(f"{prefix}chosen", state[f"{prefix}counts"])
        super()._load_from_state_dict(state, prefix, *rest)

    def nearest(self, x: Tensor) -> Tensor:
        r"""The number of the nearest vector to each of x, shape (\*, D), in the squared distance."""
        if x.shape[-1] != self.size:
            raise ShapeError(f"the vectors of this codebook have {self.size} values; got {x.shape[-1]}.")
        vectors = self.vectors.to(x.dtype)
        flat = x.detach().reshape(-1, self.size)
        distance = vectors.square().sum(-1) - 2 * flat @ vectors.t()
        return distance.argmin(-1).reshape(x.shape[:-1])

    def lookup(self, index: Tensor) -> Tensor:
        r"""The vectors of code numbers, shape (\*, D)."""
        return F.embedding(index, self.vectors)

    def watch(self, x: Tensor, index: Tensor) -> None:
        """Keeps what a batch assigned until the step that it belongs to is done."""
        self._seen = x.detach().reshape(-1, self.size), index.reshape(-1)

    def usage(self) -> dict[str, float]:
        """The perplexity of the codes that encoders chose, and how many are in use, from their moving averages."""
        share = self.chosen.double() / self.chosen.sum().double()
        entropy = -torch.special.xlogy(share, share).sum()
        used = int((share > 0.05 / self.codes).sum())
        return {"code_perplexity": float(entropy.exp()), "codes_used": float(used)}

    @torch.no_grad()
    def after_step(self, good: Tensor) -> None:
        """Takes in what the last batch assigned, if its step was taken."""
        seen, self._seen = self._seen, None
        if seen is None or not bool(good):
            return
        x, index = seen[0].to(self.vectors.dtype), seen[1]
        t = int(self.steps)
        self.steps.add_(1)
        if t == 0:
            self._start(x)
            return
        pace = 1 - min(self.decay, (1 + t) / (10 + t))
        counts, sums = self._assigned(x, index)
        self.counts.lerp_(counts, pace)
        self.chosen.lerp_(counts, pace)
        self.sums.lerp_(sums, pace)
        self._revive(x)
        self._average()

    def _assigned(self, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """How many of x belong to each code, and their sums."""
        counts = torch.zeros_like(self.counts).index_add_(0, index, torch.ones_like(x[:, 0]))
        return counts, torch.zeros_like(self.sums).index_add_(0, index, x)

    def _average(self) -> None:
        total = self.counts.sum()
        smoothed = (self.counts + _SMOOTHING) / (total + self.codes * _SMOOTHING) * total
        self.vectors.copy_(self.sums / smoothed[:, None])

    def _some(self, x: Tensor) -> Tensor:
        """As many rows of x as there are codes, at random; rows that have to come twice are moved apart a little."""
        order = torch.randperm(len(x), device=x.device)
        rows = x[order[torch.arange(self.codes, device=x.device) % len(x)]]
        noise = 1e-2 * x.std(0, correction=0) * torch.randn_like(rows)
        return rows if len(x) >= self.codes else rows + noise

    def _start(self, x: Tensor) -> None:
        """K-means on the vectors of a batch, from vectors that lie far apart (Arthur, Vassilvitskii, 2007)."""
        distance = torch.ones_like(x[:, 0])
        for i in range(self.codes):
            chosen = x[torch.multinomial(distance + _SMOOTHING * distance.mean() + 1e-30, 1)[0]]
            self.vectors[i] = chosen
            apart = (x - chosen).square().sum(-1)
            distance = apart if i == 0 else torch.minimum(distance, apart)
        for _ in range(_ROUNDS):
            counts, sums = self._assigned(x, self.nearest(x))
            means = sums / counts.clamp(min=1)[:, None]
            self.vectors.copy_(torch.where(counts[:, None] > 0, means, self._some(x)))
        counts, sums = self._assigned(x, self.nearest(x))
        self.chosen.copy_(counts)
        empty = counts == 0
        # A vector that nothing belongs to gets the weight of one row, and is given up if that stays so.
        self.counts.copy_(torch.where(empty, 1.0, counts))
        self.sums.copy_(torch.where(empty[:, None], self.vectors, sums))

    def _revive(self, x: Tensor) -> None:
        average = self.counts.mean()
        dead = self.counts < self.revive * average
        rows = self._some(x)
        self.counts.copy_(torch.where(dead, average, self.counts))
        self.sums.copy_(torch.where(dead[:, None], average * rows, self.sums))
