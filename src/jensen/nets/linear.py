"""Affine maps whose products take the faster of the two libraries that torch has on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Linear"]


class _Product(torch.autograd.Function):
    """x Wᵀ + b by oneDNN, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, _ = ctx.needs_input_grad
        bias = gradient.sum(0) if ctx.has_bias else None
        if torch.is_grad_enabled():  # someone differentiates twice
            return gradient @ weight if wants_x else None, gradient.t() @ x if wants_weight else None, bias
        gradient = gradient.contiguous()
        return (
            _onednn(gradient, weight.t(), None) if wants_x else None,
            _onednn(gradient.t(), x.t(), None) if wants_weight else None,
            bias,
        )


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if torch.compiler.is_compiling():
        whole: Tensor = _opaque(x, weight, bias)
        return whole
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


@torch.library.custom_op("jensen::product", mutates_args=())
def _opaque(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product as a whole: the compiler would take the weight for a constant, which holds for inference only."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


@_opaque.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(len(x), len(weight))


class Linear(nn.Linear):
    """An affine map, the same as ``torch.nn.Linear``.

    In single precision on a CPU, torch's own goes through MKL, which on processors of other makers takes twice the time
    that oneDNN takes for the same product; so such products go through oneDNN, in the same precision.

    Example:
        >>> layer = Linear(3, 2)
        >>> x = torch.ones(5, 3)
        >>> torch.allclose(layer(x), nn.functional.linear(x, layer.weight, layer.bias), atol=1e-6)
        True
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self._onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's signature)
        if self._onednn and _suits(input, self.weight):
            product: Tensor = _Product.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return product
        return F.linear(input, self.weight, self.bias)


def _suits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.ndim == 2
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and len(x) >= _LEAST_ROWS
        and not torch.is_autocast_enabled("cpu")
        # Transforms such as vmap see through torch's own product only.
        and (torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active())
    )


_LEAST_ROWS = 16
