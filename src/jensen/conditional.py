"""A network whose outputs are the parameters of a distribution."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .errors import ShapeError, SupportError
from .families import Family, Measure
from .roles import Given
from .spec import declared

__all__ = ["Conditional", "LowPrecision", "distribution_at"]


class LowPrecision(nn.Module):
    """A module whose networks may compute in a type of lower precision, such as ``torch.bfloat16``.

    Its attribute ``dtype`` says which; None, the default, is that of their parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dtype: torch.dtype | None = None

    def computed(self, net: nn.Module, *inputs: Tensor) -> Any:
        """What a network makes of inputs; tensors that it returns have the type of the first input."""
        if self.dtype is None:
            return net(*inputs)
        with torch.autocast(inputs[0].device.type, self.dtype):
            outputs = net(*inputs)
        if isinstance(outputs, Tensor):
            return outputs.to(inputs[0].dtype)
        return [output.to(inputs[0].dtype) for output in outputs]


@declared("Conditional")
class Conditional(LowPrecision):
    r"""The distribution :math:`p(y | c)` whose parameters are the outputs of a network on :math:`c`.

    It is a likelihood when :math:`c = z` and an amortised posterior when :math:`c = x`.

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes, appendix C.

    Arguments:
        net: A module from (N, \*C) to (N, P), P being the number of parameters that the family needs.
        family: The family; it maps the unconstrained outputs, so the network ends without an activation.
        event_dims: The number of dimensions of one input :math:`c`; all dimensions before them are batch dimensions.

    Its attribute ``dtype`` is a type of lower precision for the network to compute in, such as ``torch.bfloat16``;
    None, the default, is that of its parameters. Parameters, outputs and the distribution keep theirs.

    Raises:
        ShapeError: If the network returns another number of parameters.

    Example:
        >>> import torch
        >>> from jensen import families, nets
        >>> decoder = Conditional(nets.mlp(2, 64), families.Bernoulli((8, 8)))
        >>> decoder(torch.zeros(7, 5, 2)).log_prob(torch.ones(5, 8, 8)).shape
        torch.Size([7, 5])
    """

    def __init__(self, net: nn.Module, family: Family, event_dims: int = 1) -> None:
        super().__init__()
        self.net = net
        self.family = family
        self.event_dims = event_dims
        self._sizes = [math.prod(shape) for shape in family.parameter_shapes]

    @property
    def measure(self) -> Measure:
        """Whether ``log_prob`` is of a mass or of a density."""
        return self.family.measure

    def forward(self, inputs: Tensor, given: Given | None = None) -> Distribution:
        return distribution_at(self.family, self.raw(inputs, given))

    def raw(self, inputs: Tensor, given: Given | None = None) -> Tensor:
        r"""The unconstrained parameters of the distribution, one after the other, shape (\*, P)."""
        batch = inputs.shape[: inputs.ndim - self.event_dims]
        raw: Tensor = self.computed(self.net, inputs.reshape(-1, *inputs.shape[inputs.ndim - self.event_dims :]))
        if raw.shape[-1] != sum(self._sizes) or raw.ndim != 2:
            name = type(self.family).__name__
            raise ShapeError(
                f"expected the network to return {sum(self._sizes)} parameters for {name} with event shape "
                f"{self.family.event_shape}, shape (N, {sum(self._sizes)}); got {tuple(raw.shape)}."
            )
        return raw.reshape((*batch, raw.shape[-1]))

    def check(self, x: Tensor) -> None:
        """Checks that data have the family's event shape and lie in its support.

        Raises:
            ShapeError: If the shape differs.
            SupportError: If a value lies outside the support; the message names the first one.
        """
        name, event = type(self.family).__name__, self.family.event_shape
        if tuple(x.shape[1:]) != event:
            raise ShapeError(f"{name} models events of shape {event}; got rows of shape {tuple(x.shape[1:])}.")
        bad = ~(self.family.support.check(x) & x.isfinite())
        if bad.any():
            where = bad.nonzero()[0].tolist()
            low, high = float(x.min()), float(x.max())
            raise SupportError(
                f"{name} needs values in {self.family.support}; found {float(x[tuple(where)])!r} in row {where[0]} at "
                f"position {where[1:]} ({int(bad.sum())} of {x.numel()} values do not fit; they range from {low:g} to "
                f"{high:g}). Choose another likelihood, or binarise or rescale the data."
            )


def distribution_at(family: Family, raw: Tensor) -> Distribution:
    r"""The member of a family with given unconstrained parameters, one after the other, shape (\*, P).

    Example:
        >>> import torch
        >>> from jensen import families
        >>> distribution_at(families.FullNormal(2), torch.zeros(5, 5)).batch_shape
        torch.Size([5])
    """
    shapes = family.parameter_shapes
    parts = raw.split([math.prod(shape) for shape in shapes], dim=-1)
    lead = raw.shape[:-1]
    return family(*(part.reshape((*lead, *shape)) for part, shape in zip(parts, shapes, strict=True)))
