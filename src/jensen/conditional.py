"""A network whose outputs are the parameters of a distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .errors import JensenError, OptionError, ShapeError, SupportError
from .families import Family, Measure
from .families.base import count_of
from .precision import LowPrecision
from .roles import Given
from .spec import declared

__all__ = ["Conditional", "Conditioned", "check_events", "condition_of", "distribution_at"]


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
    None, the default, is that of its parameters. Parameters, outputs and the distribution keep theirs. Training and
    bounds set it while they work, by the precision that they are asked for.

    Raises:
        OptionError: If the network is none.
        ShapeError: When used, if the network returns another number of parameters.

    Example:
        >>> import torch
        >>> from jensen import families, nets
        >>> decoder = Conditional(nets.mlp(2, 64), families.Bernoulli((8, 8)))
        >>> decoder(torch.zeros(7, 5, 2)).log_prob(torch.ones(5, 8, 8)).shape
        torch.Size([7, 5])
    """

    def __init__(self, net: nn.Module, family: Family, event_dims: int = 1) -> None:
        super().__init__()
        if not callable(net):
            raise OptionError(f"the network of a {type(self).__name__} must be a torch.nn.Module; got {net!r}.")
        self.net = net
        self.family = family
        self.event_dims = event_dims
        self._count = count_of(family)

    @property
    def measure(self) -> Measure:
        """Whether ``log_prob`` is of a mass or of a density."""
        return self.family.measure

    def forward(self, inputs: Tensor, given: Given | None = None) -> Distribution:
        return distribution_at(self.family, self.raw(inputs, given))

    def raw(self, inputs: Tensor, given: Given | None = None) -> Tensor:
        r"""The unconstrained parameters of the distribution, one after the other, shape (\*, P)."""
        batch = inputs.shape[: inputs.ndim - self.event_dims]
        raw: Tensor = self.computed(self.net, self._network_inputs(inputs, given))
        if raw.shape[-1] != self._count or raw.ndim != 2:
            name = type(self.family).__name__
            raise ShapeError(
                f"expected the network to return {self._count} parameters for {name} with event shape "
                f"{self.family.event_shape}, shape (N, {self._count}); got {tuple(raw.shape)}."
            )
        return raw.reshape((*batch, raw.shape[-1]))

    def _network_inputs(self, inputs: Tensor, given: Given | None) -> Tensor:
        """All batch dimensions as one."""
        return inputs.reshape(-1, *inputs.shape[inputs.ndim - self.event_dims :])

    def check(self, x: Tensor) -> None:
        """Checks that data have the family's event shape and lie in its support.

        Raises:
            ShapeError: If the shape differs.
            SupportError: If a value lies outside the support; the message names the first one.
        """
        check_events(self.family, x)


def check_events(family: Family, x: Tensor) -> None:
    """Checks that rows have a family's event shape and lie in its support.

    Raises:
        ShapeError: If the shape differs.
        SupportError: If a value lies outside the support; the message names the first one.
    """
    name, event = type(family).__name__, tuple(family.event_shape)
    if tuple(x.shape[1:]) != event:
        raise ShapeError(f"{name} models events of shape {event}; got rows of shape {tuple(x.shape[1:])}.")
    bad = ~(family.support.check(x) & x.isfinite())
    if bad.any():
        where = bad.nonzero()[0].tolist()
        low, high = float(x.min()), float(x.max())
        raise SupportError(
            f"{name} needs values in {family.support}; found {float(x[tuple(where)])!r} in row {where[0]} at "
            f"position {where[1:]} ({int(bad.sum())} of {x.numel()} values do not fit; they range from {low:g} to "
            f"{high:g}). Choose another likelihood, or binarise or rescale the data."
        )


def condition_of(given: Given | None, size: int) -> Tensor:
    """The condition that is given, shape (B, C).

    Raises:
        JensenError: If there is none.
        ShapeError: If it has another number of values.
    """
    if given is None or given.condition is None:
        raise JensenError(
            "this model is conditioned on labels, and none are given: what it says of a row holds given the label of "
            "that row. On the command line give --label where there is one, or leave out DATA, since a run knows the "
            "labels of its own rows; in Python pass labels=, or given=Given(condition=...) to the model itself."
        )
    if given.condition.shape[-1] != size:
        raise ShapeError(f"expected a condition of {size} values; got shape {tuple(given.condition.shape)}.")
    return given.condition


@declared("Conditioned")
class Conditioned(Conditional):
    r"""A :class:`Conditional` that sees the condition too, :math:`p(y | c, \text{condition})`.

    The condition stands beside the input, which is flattened; beside an image it is one constant map for each value,
    after the channels.

    References:
        Sohn, Lee, Yan (2015), Learning structured output representation using deep conditional generative models.

    Arguments:
        net: A module from (N, D + C), or from (N, H, W, channels + C), to (N, P).
        family: The family.
        conditions: The number C of values of a condition.
        event_dims: The number of dimensions of one input.
        maps: Whether inputs are images, of shape (H, W) or (H, W, channels), and stay so.

    Raises:
        JensenError: When used, if no condition is given.
        ShapeError: When used, if it is of another size.

    Example:
        >>> from jensen import families, nets
        >>> decoder = Conditioned(nets.mlp(2 + 3, 6), families.Bernoulli(6), conditions=3)
        >>> decoder(torch.zeros(7, 5, 2), Given(condition=torch.eye(3)[[0, 1, 2, 0, 1]])).batch_shape
        torch.Size([7, 5])
    """

    def __init__(
        self, net: nn.Module, family: Family, conditions: int, event_dims: int = 1, *, maps: bool = False
    ) -> None:
        super().__init__(net, family, event_dims)
        self.conditions, self.maps = conditions, maps

    def _network_inputs(self, inputs: Tensor, given: Given | None) -> Tensor:
        condition = condition_of(given, self.conditions).to(inputs.dtype)
        batch, event = inputs.shape[: inputs.ndim - self.event_dims], inputs.shape[inputs.ndim - self.event_dims :]
        beside = condition.expand(*batch, self.conditions).reshape(-1, self.conditions)
        flat = inputs.reshape(-1, *event)
        if not self.maps:
            return torch.cat([flat.flatten(1), beside], 1)
        image = flat[..., None] if len(event) == 2 else flat
        return torch.cat([image, beside[:, None, None].expand(*image.shape[:3], self.conditions)], -1)


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
