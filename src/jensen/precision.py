"""What networks compute in: the type of their parameters, or one of lower precision that the hardware is faster at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .errors import OptionError
from .numbers import Precision

__all__ = ["LowPrecision", "conditionals_of", "networks_in"]

_TYPES: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


class LowPrecision(nn.Module):
    """A module whose networks may compute in a type of lower precision, such as ``torch.bfloat16``.

    Its attribute ``dtype`` says which; None, the default, is that of their parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dtype: torch.dtype | None = None

    def computed(self, net: nn.Module, first: Tensor, *others: Tensor | None) -> Any:
        """What a network makes of inputs; tensors that it returns have the type of the first input."""
        if self.dtype is None:
            return net(first, *others)
        if first.ndim == 4:  # images: convolutions in bf16 are fastest with the channels of a pixel side by side
            first = first.contiguous(memory_format=torch.channels_last)
        with torch.autocast(first.device.type, self.dtype):
            outputs = net(first, *others)
        if isinstance(outputs, Tensor):
            return outputs.to(first.dtype)
        return [output.to(first.dtype) for output in outputs]


def conditionals_of(model: nn.Module) -> list[LowPrecision]:
    """The modules of a model whose networks may compute in lower precision."""
    return [module for module in model.modules() if isinstance(module, LowPrecision)]


@contextmanager
def networks_in(conditionals: Sequence[LowPrecision], precision: Precision) -> Iterator[None]:
    """Lets the networks of such modules compute in a precision inside the block.

    Raises:
        OptionError: If there is no such precision.

    Example:
        >>> from jensen import Conditional, families, nets
        >>> decoder = Conditional(nets.mlp(2, 6), families.Bernoulli(6))
        >>> with networks_in(conditionals_of(decoder), "bf16"):
        ...     decoder.dtype
        torch.bfloat16
        >>> decoder.dtype is None
        True
    """
    if precision not in _TYPES:
        raise OptionError(f"there is no precision {precision!r}; networks compute in {' or '.join(_TYPES)}.")
    before = [conditional.dtype for conditional in conditionals]
    for conditional in conditionals:
        conditional.dtype = _TYPES[precision]
    try:
        yield
    finally:
        for conditional, kept in zip(conditionals, before, strict=True):
            conditional.dtype = kept
