"""Autoregressive flows: invertible networks."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..errors import OptionError

__all__ = ["AutoregressiveFlow"]

_LEAST_SLOPE = 1e-2
"""One affine step changes a length by at most 1 / this, so that no chain of steps overflows on strange inputs."""


def _zuko(module: str) -> Any:
    """A module of zuko; torch's validation, which zuko switches off for everybody when imported, stays as it was."""
    validate, arguments = Distribution._validate_args, Distribution.__dict__["arg_constraints"]
    try:
        return importlib.import_module(f"zuko.{module}")
    finally:
        Distribution._validate_args = validate
        setattr(Distribution, "arg_constraints", arguments)  # noqa: B010 (mypy mistrusts the assignment)


class AutoregressiveFlow(nn.Module):
    r"""An invertible map of :math:`R^D`, a chain of steps :math:`y_d = f(x_d; x_{<d}, c)` with rising f.

    Every other step goes through the dimensions backwards. The direct way costs one pass, the inverse D of them.

    References:
        Kingma et al. (2016), Improving variational inference with inverse autoregressive flow. Papamakarios, Pavlakou,
        Murray (2017), Masked autoregressive flow. Durkan et al. (2019), Neural spline flows.

    Arguments:
        size: The number of dimensions D.
        context: The size of the context c; 0 for none.
        transforms: The number of steps.
        hidden: The widths of the hidden layers of each step's network.
        bins: The number of bins of a rational-quadratic spline on [-5, 5]; None for affine steps.

    Raises:
        OptionError: If an argument is out of range.

    Example:
        >>> flow = AutoregressiveFlow(3, context=2)
        >>> x, c = torch.randn(5, 3), torch.randn(5, 2)
        >>> y, log_det = flow(x, c)
        >>> torch.allclose(flow(y, c, inverse=True)[0], x, atol=1e-5)
        True
    """

    def __init__(
        self,
        size: int,
        context: int = 0,
        transforms: int = 2,
        hidden: Sequence[int] = (64, 64),
        bins: int | None = None,
    ) -> None:
        super().__init__()
        if size < 1 or transforms < 1 or any(width < 1 for width in hidden) or (bins is not None and bins < 2):
            raise OptionError(
                "a flow needs at least 1 dimension, 1 transform, hidden layers of at least 1 unit, and 2 bins or none; "
                f"got size={size}, transforms={transforms}, hidden={tuple(hidden)}, bins={bins}."
            )
        step = _zuko("flows.autoregressive").MaskedAutoregressiveTransform
        elementwise = _zuko("transforms")
        options: dict[str, Any]
        if bins is None:
            affine = partial(elementwise.MonotonicAffineTransform, slope=_LEAST_SLOPE)
            options = {"univariate": affine, "shapes": [(), ()]}
        else:
            options = {"univariate": elementwise.MonotonicRQSTransform, "shapes": [(bins,), (bins,), (bins - 1,)]}
        if size > 1 or context > 0:
            options |= {"hidden_features": tuple(hidden), "activation": nn.ELU}
        orders = torch.arange(size), torch.arange(size).flip(0)
        self.steps = nn.ModuleList(
            step(features=size, context=context, order=orders[i % 2], **options) for i in range(transforms)
        )
        if size == 1 and context == 0:
            # Such steps have no network but free parameters, which zuko draws far apart; at zero they do nothing.
            for parameter in self.steps.parameters():
                nn.init.zeros_(parameter)

    def forward(self, value: Tensor, context: Tensor | None = None, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        r"""The image of a value and the logarithm of the determinant of the Jacobian there, one number for each."""
        maps = [step(context) for step in self.steps]
        if inverse:
            source = value
            for each in reversed(maps):
                source = each.inv(source)
            return source, -self._chain(source, maps)[1]
        return self._chain(value, maps)

    @staticmethod
    def _chain(value: Tensor, maps: list[Any]) -> tuple[Tensor, Tensor]:
        log_det = value.new_zeros(())
        for each in maps:
            value, step_log_det = each.call_and_ladj(value)
            log_det = log_det + step_log_det
        return value, log_det
