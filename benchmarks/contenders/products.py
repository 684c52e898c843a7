"""The matrix products alone, which no loop over the same model can do without."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor

from .job import HIDDEN, LATENTS, PIXELS, Array, Job, Turn, versions

__all__ = ["make"]

_SHARE = 4  # of the rows of an epoch, one in so many is enough to measure products
_BLOCKS = (2048, 4096, 8192, 16384)
_ENCODER = list(pairwise([PIXELS, *HIDDEN, 2 * LATENTS]))
_DECODER = list(pairwise([LATENTS, *HIDDEN[::-1], PIXELS]))

Product = Callable[[Tensor, Tensor], Tensor]


class Layer:
    """The three products of a dense layer: x Wᵀ, gᵀ x and, unless it is the first one, g W."""

    def __init__(self, batch: int, sizes: tuple[int, int], dtype: torch.dtype, *, first: bool) -> None:
        before, after = sizes
        self.x = torch.randn(batch, before).to(dtype)
        self.weight = torch.randn(after, before).to(dtype)
        self.gradient = torch.randn(batch, after).to(dtype)
        self.first = first

    def __call__(self, product: Product) -> None:
        product(self.x, self.weight.t())
        product(self.gradient.t(), self.x)
        if not self.first:
            product(self.gradient, self.weight)


class Step:
    """All products of one step of training."""

    def __init__(self, job: Job, how: str) -> None:
        self.versions = versions("torch")
        rows = len(job.load())
        self.turns, self.batch, self.steps = job.turns, job.batch, max(1, rows // job.batch // _SHARE)
        dtype = torch.bfloat16 if how == "bf16" else torch.float32
        sizes = [*_ENCODER, *_DECODER]
        self.layers = [Layer(job.batch, size, dtype, first=number == 0) for number, size in enumerate(sizes)]
        self.product = by_onednn if how == "onednn" else torch.mm

    def run(self, turn: Turn) -> None:
        """A turn is a part of an epoch."""
        with torch.inference_mode():
            for _ in range(self.turns):
                for _ in range(self.steps):
                    for layer in self.layers:
                        layer(self.product)
                turn(self.steps * self.batch, None)

    def weights(self) -> Mapping[str, Array]:
        """Nothing was learned."""
        return {}


def by_onednn(first: Tensor, second: Tensor) -> Tensor:
    """A product in fp32 by oneDNN, where ``torch.mm`` would leave it to the BLAS that torch was built with."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(first, second.t(), None, "none", [], "")
    return found


class Decoder:
    """The products of the decoder for many samples, in the way and in blocks of the size at which they are fastest."""

    def __init__(self, job: Job) -> None:
        self.versions = versions("torch")
        self.turns, self.wanted = job.turns, job.samples * len(job.load())
        self.matrices = [torch.randn(before, after) for before, after in _DECODER]
        ways = [(product, block) for product in (torch.mm, by_onednn) for block in _BLOCKS]
        with torch.inference_mode():
            self.product, self.block = min(ways, key=lambda way: self._seconds_per_row(*way))

    def _seconds_per_row(self, product: Product, block: int) -> float:
        z = torch.randn(block, LATENTS)
        self._decode(z, product)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            self._decode(z, product)
            times.append(time.perf_counter() - start)
        return sorted(times)[2] / block

    def _decode(self, z: Tensor, product: Product) -> None:
        for matrix in self.matrices:
            z = product(z, matrix)

    def run(self, turn: Turn) -> None:
        """A turn decodes as many samples as there are to score."""
        z = torch.randn(self.block, LATENTS)
        blocks = max(1, self.wanted // self.block)
        with torch.inference_mode():
            for _ in range(self.turns):
                for _ in range(blocks):
                    self._decode(z, self.product)
                turn(blocks * self.block, None)

    def weights(self) -> Mapping[str, Array]:
        """Nothing was learned."""
        return {}


def make(job: Job, how: str) -> Step | Decoder:
    """The contender."""
    return Decoder(job) if how == "decoder" else Step(job, how)
