"""What is measured against what: each contender does one kind of work in a process of its own.

This package imports nothing heavy, and the modules of the peers nothing of jensen: they run in another environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from .job import Contender, Job

__all__ = ["CONTENDERS", "Entry", "make"]


@dataclass(frozen=True)
class Entry:
    """A contender: its name in tables, the module that makes it, with which options, and in which environment."""

    label: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    peer: bool = False


CONTENDERS = {
    "jensen-fp32": Entry("jensen, fp32", "ours"),
    "jensen-bf16": Entry("jensen, bf16", "ours", {"precision": "bf16"}),
    "jensen-fp32-compiled": Entry("jensen, fp32, compiled", "ours", {"compiled": True}),
    "jensen-bf16-compiled": Entry("jensen, bf16, compiled", "ours", {"precision": "bf16", "compiled": True}),
    "plain": Entry("plain PyTorch loop", "plain"),
    "pythae": Entry("pythae", "peer_pythae", peer=True),
    "pyro": Entry("Pyro", "peer_pyro", peer=True),
    "numpyro": Entry("NumPyro, epoch under XLA", "peer_numpyro", peer=True),
    "products-fp32": Entry("matrix products, fp32", "products", {"how": "fp32"}),
    "products-onednn": Entry("matrix products, fp32 by oneDNN", "products", {"how": "onednn"}),
    "products-bf16": Entry("matrix products, bf16", "products", {"how": "bf16"}),
    "conv-jensen-fp32": Entry("jensen, fp32", "ours", {"images": True}),
    "conv-jensen-bf16": Entry("jensen, bf16", "ours", {"images": True, "precision": "bf16"}),
    "conv-jensen-bf16-compiled": Entry(
        "jensen, bf16, compiled", "ours", {"images": True, "precision": "bf16", "compiled": True}
    ),
    "conv-plain": Entry("plain PyTorch loop", "plain", {"images": True}),
    "bound-jensen": Entry("jensen.evaluation.bounds, fp32", "scoring"),
    "bound-jensen-bf16": Entry("jensen.evaluation.bounds, bf16", "scoring", {"precision": "bf16"}),
    "bound-products": Entry("matrix products of the decoder, fp32", "products", {"how": "decoder"}),
    "bound-pythae": Entry("pythae get_nll", "peer_pythae", {"scoring": True}, peer=True),
    "memory-jensen": Entry("jensen.evaluation.bounds, fp32", "scoring", {"growing": True}),
}


def make(name: str, job: Job) -> Contender:
    """The contender of a name."""
    entry = CONTENDERS[name]
    contender: Contender = import_module(f"{__name__}.{entry.module}").make(job, **entry.options)
    return contender
