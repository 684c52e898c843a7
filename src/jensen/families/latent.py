"""Families of continuous latents beside the diagonal and the full normal."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from .. import distributions
from ..distributions import UnitSphere, bounded_scale
from ..errors import OptionError
from ..spec import declared
from .base import Measure, event_shape_of

__all__ = ["LowRankNormal", "NormalMixture", "PowerSpherical"]

_MOST = 100.0
"""About the largest ratio between the standard deviations of the two parts of a low-rank normal."""


@declared("families.LowRankNormal")
class LowRankNormal(nn.Module):
    r"""A normal with covariance :math:`W W^\top + \mathrm{diag}(\sigma^2)`, W having few columns.

    From network outputs a it takes :math:`W_{dr} = \sigma_d \frac{100}{\sqrt D} \tanh \frac{a_{dr}}{100}`: whatever D,
    a network that has not learned anything yet gives a covariance that is close to diagonal, and the part of W stays
    within about 100 times :math:`\sigma`, so that the matrices stay invertible.

    References:
        Ong, Nott, Smith (2018), Gaussian variational approximation with a factor covariance structure.

    Arguments:
        size: The number of dimensions D.
        rank: The number of columns of W.

    Raises:
        OptionError: If ``rank`` does not lie between 1 and ``size``.

    Example:
        >>> LowRankNormal(3, rank=2).parameter_shapes
        ((3,), (3,), (3, 2))
    """

    support: constraints.Constraint = constraints.real
    measure: Measure = "density"

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.event_shape = event_shape_of(size)
        if not 1 <= rank <= size:
            raise OptionError(f"the rank lies between 1 and the number of dimensions, {size}; got rank={rank}.")
        self.size = size
        self.parameter_shapes: tuple[tuple[int, ...], ...] = ((size,), (size,), (size, rank))

    def forward(self, loc: Tensor, raw_scale: Tensor, factor: Tensor) -> distributions.LowRankNormal:
        scale = bounded_scale(raw_scale)
        white = _MOST * torch.tanh(factor / _MOST) / self.size**0.5
        return distributions.LowRankNormal(loc, scale[..., None] * white, scale, validate_args=False)


@declared("families.NormalMixture")
class NormalMixture(nn.Module):
    r"""A mixture of diagonal normals :math:`\sum_c \pi_c \prod_d N(z_d; \mu_{cd}, \sigma_{cd}^2)`.

    Its samples are reparameterised implicitly, so that every parameter has a gradient; there is no formula for its KL.

    References:
        Figurnov, Mohamed, Mnih (2018), Implicit reparameterization gradients.

    Arguments:
        size: The number of dimensions D.
        components: The number of normals C.

    Raises:
        OptionError: If there is no component.

    Example:
        >>> NormalMixture(3, components=4).parameter_shapes
        ((4,), (4, 3), (4, 3))
    """

    support: constraints.Constraint = constraints.real
    measure: Measure = "density"

    def __init__(self, size: int, components: int) -> None:
        super().__init__()
        self.event_shape = event_shape_of(size)
        if components < 1:
            raise OptionError(f"a mixture needs at least 1 component; got components={components}.")
        self.parameter_shapes: tuple[tuple[int, ...], ...] = ((components,), (components, size), (components, size))

    def forward(self, logits: Tensor, loc: Tensor, raw_scale: Tensor) -> distributions.NormalMixture:
        return distributions.NormalMixture(logits, loc, bounded_scale(raw_scale), validate_args=False)


@declared("families.PowerSpherical")
class PowerSpherical(nn.Module):
    r"""A bump on the unit sphere in :math:`R^D`, :math:`q(z) \propto (1 + \mu^\top z)^\kappa`.

    The direction :math:`\mu` is the network's output divided by its length. The concentration is :math:`D - 1` times
    :func:`jensen.distributions.bounded_scale` of one more output: at zero the mean has length 1/2, whatever D.

    References:
        De Cao, Aziz (2020), The power spherical distribution. Davidson et al. (2018), Hyperspherical variational
        auto-encoders.

    Arguments:
        size: The dimension D of the space around, at least 2.

    Raises:
        OptionError: If ``size`` is below 2.

    Example:
        >>> PowerSpherical(3)(torch.tensor([0.0, 2.0, 0.0]), torch.zeros(1)).mean
        tensor([0.0000, 0.5000, 0.0000])
    """

    support: constraints.Constraint = UnitSphere()
    measure: Measure = "density"
    _first: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 2:
            raise OptionError(f"a sphere lies in a space of at least 2 dimensions; got size={size}.")
        self.event_shape = event_shape_of(size)
        self.size = size
        self.parameter_shapes: tuple[tuple[int, ...], ...] = ((size,), (1,))
        self.register_buffer("_first", torch.eye(size)[0], persistent=False)

    def forward(self, raw: Tensor, raw_concentration: Tensor) -> distributions.PowerSpherical:
        # The zero vector has no direction; it gets that of the first axis.
        raw = raw + (raw == 0).all(-1, keepdim=True) * self._first.to(raw)
        # Divided by the largest entry first, so that no square overflows or vanishes.
        raw = raw / raw.detach().abs().amax(-1, keepdim=True)
        direction = raw / torch.linalg.vector_norm(raw, dim=-1, keepdim=True)
        concentration = (self.size - 1) * bounded_scale(raw_concentration[..., 0])
        return distributions.PowerSpherical(direction, concentration, validate_args=False)
