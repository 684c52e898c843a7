"""Families: from the outputs of a network to a distribution; each declares the parameter shapes it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Distribution, Independent, MultivariateNormal, constraints
from torch.distributions import Normal as TorchNormal

from . import distributions
from .distributions import BinnedCategorical, RowwiseNormal, UnitGrid, bounded_scale, diagonal_normal, unbounded_scale
from .errors import OptionError, ShapeError
from .spec import declared

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiscretizedLogistic",
    "Family",
    "FixedScale",
    "FullNormal",
    "Normal",
    "PerDimensionScale",
    "PredictedScale",
    "Scale",
    "SharedScale",
]

Measure = Literal["mass", "density"]

_LEAST_SPREAD = 1e-3


class Family(Protocol):
    r"""A module that turns unconstrained network outputs into a distribution of one event.

    ``parameter_shapes`` lists the shape of each parameter it takes; ``support`` is where its events may lie;
    ``measure`` says whether its ``log_prob`` is of a mass or of a density. A likelihood's family also has
    ``marginal(x)``: the parameters, one tensor each, with which it describes rows x of shape (N, \*X) independently of
    anything else; training starts there.
    """

    event_shape: tuple[int, ...]
    parameter_shapes: tuple[tuple[int, ...], ...]
    measure: Measure

    @property
    def support(self) -> constraints.Constraint: ...

    def __call__(self, *parameters: Tensor) -> Distribution: ...


def _event_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    event = (shape,) if isinstance(shape, int) else tuple(shape)
    if not event or any(size < 1 for size in event):
        raise OptionError(f"an event shape needs one or more positive sizes; got {shape!r}.")
    return event


class Scale(Protocol):
    """A module that gives a normal family its standard deviation; ``predicted`` asks the network for it."""

    predicted: bool

    def __call__(self, raw: Tensor | None) -> Tensor: ...


@declared("families.SharedScale")
class SharedScale(nn.Module):
    r"""One learned :math:`\sigma` for all dimensions, the default of a normal likelihood.

    References:
        Rybkin, Daniilidis, Levine (2021), Simple and effective VAE training with calibrated decoders.

    Arguments:
        initial: The value before training, in the units of the modelled data.

    Example:
        >>> SharedScale(initial=1.0)(None).item()
        1.0
    """

    predicted = False

    def __init__(self, initial: float = 1.0) -> None:
        super().__init__()
        self.raw = nn.Parameter(unbounded_scale(torch.tensor(float(initial))))

    def forward(self, raw: Tensor | None) -> Tensor:
        return bounded_scale(self.raw)


@declared("families.FixedScale")
class FixedScale(nn.Module):
    r"""A :math:`\sigma` that is given and stays.

    Arguments:
        value: The standard deviation, positive.

    Raises:
        OptionError: If the value is not a positive number.

    Example:
        >>> float(FixedScale(0.5)(None))
        0.5
    """

    predicted = False
    value: Tensor

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        if not 0 < value < float("inf"):
            raise OptionError(f"a standard deviation is positive; got {value}.")
        self.register_buffer("value", torch.tensor(float(value)))

    def forward(self, raw: Tensor | None) -> Tensor:
        return self.value


@declared("families.PerDimensionScale")
class PerDimensionScale(nn.Module):
    r"""A learned :math:`\sigma_d` for each dimension, the same for every example.

    Arguments:
        shape: The event shape.
        initial: The value before training.

    Example:
        >>> PerDimensionScale(3)(None).shape
        torch.Size([3])
    """

    predicted = False

    def __init__(self, shape: int | Sequence[int], initial: float = 1.0) -> None:
        super().__init__()
        self.raw = nn.Parameter(unbounded_scale(torch.full(_event_shape(shape), float(initial))))

    def forward(self, raw: Tensor | None) -> Tensor:
        return bounded_scale(self.raw)


@declared("families.PredictedScale")
class PredictedScale(nn.Module):
    r"""A :math:`\sigma_d` that the network predicts for each example and dimension.

    Example:
        >>> PredictedScale()(torch.zeros(2))
        tensor([1., 1.])
    """

    predicted = True

    def forward(self, raw: Tensor | None) -> Tensor:
        if raw is None:
            raise OptionError("a predicted scale needs the network's output for it; none was given.")
        return bounded_scale(raw)


@declared("families.Normal")
class Normal(nn.Module):
    r"""Independent normals :math:`\prod_d N(x_d; \mu_d, \sigma_d^2)`.

    With a fixed scale its log-likelihood is the squared error up to a constant:

    .. math:: \log p(x) = -\frac{\|x - \mu\|^2}{2 \sigma^2} - \frac{D}{2} \log (2 \pi \sigma^2)

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes.

    Arguments:
        shape: The event shape; an integer D means (D,).
        scale: Where :math:`\sigma` comes from; by default one learned number. A posterior uses ``PredictedScale()``.

    Example:
        >>> import math
        >>> x, mu, sigma = torch.tensor([0.2, 0.9]), torch.tensor([0.0, 1.0]), 0.5
        >>> log_p = Normal(2, scale=FixedScale(sigma))(mu).log_prob(x)
        >>> mse = (x - mu).square().sum()
        >>> constant = 2 / 2 * math.log(2 * math.pi * sigma**2)
        >>> torch.allclose(log_p, -mse / (2 * sigma**2) - constant)
        True
    """

    support: ClassVar[constraints.Constraint] = constraints.real
    measure: Measure = "density"

    def __init__(self, shape: int | Sequence[int], scale: Scale | None = None) -> None:
        super().__init__()
        self.event_shape = _event_shape(shape)
        self.scale = SharedScale() if scale is None else scale
        if not self.scale.predicted and tuple(self.scale(None).shape) not in ((), self.event_shape):
            raise ShapeError(
                f"the scale has shape {tuple(self.scale(None).shape)}, the events {self.event_shape}; give both the "
                "same shape, or one scale for all."
            )
        self.parameter_shapes: tuple[tuple[int, ...], ...] = (self.event_shape,) * (2 if self.scale.predicted else 1)

    def forward(self, loc: Tensor, raw_scale: Tensor | None = None) -> Independent[TorchNormal]:
        return diagonal_normal(loc, self.scale(raw_scale).expand_as(loc), len(self.event_shape))

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """The mean of each dimension and, where the network predicts the scale, a scale that covers the spread."""
        mean = x.mean(0)
        if not self.scale.predicted:
            return (mean,)
        spread = x.std(0, correction=0).clamp(_LEAST_SPREAD, 1 / _LEAST_SPREAD)
        return mean, unbounded_scale(spread)


@declared("families.FullNormal")
class FullNormal(nn.Module):
    r"""A normal with full covariance :math:`N(z; \mu, L L^\top)`, :math:`L` lower triangular.

    Network outputs below the diagonal of L are divided by :math:`\sqrt D`: whatever D, a network that has not learned
    anything yet gives a covariance that is close to diagonal, and no latent is given up for its noise.

    Arguments:
        size: The number of dimensions D.

    Example:
        >>> FullNormal(3).parameter_shapes
        ((3,), (3,), (3,))
        >>> FullNormal(2)(torch.zeros(2), torch.zeros(2), torch.full((1,), 2**0.5)).covariance_matrix
        tensor([[1., 1.],
                [1., 2.]])
    """

    support: ClassVar[constraints.Constraint] = constraints.real
    measure: Measure = "density"
    _below: Tensor
    _diagonal: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.event_shape = _event_shape(size)
        self.size = size
        self.parameter_shapes: tuple[tuple[int, ...], ...] = ((size,), (size,), (size * (size - 1) // 2,))
        row, column = torch.tril_indices(size, size, offset=-1)
        self.register_buffer("_below", row * size + column, persistent=False)
        self.register_buffer("_diagonal", torch.arange(size) * (size + 1), persistent=False)

    def forward(self, loc: Tensor, raw_diagonal: Tensor, below: Tensor) -> MultivariateNormal:
        flat = below.new_zeros(*below.shape[:-1], self.size**2)
        flat = flat.index_copy(-1, self._below, below / self.size**0.5).index_copy(
            -1, self._diagonal, bounded_scale(raw_diagonal)
        )
        return RowwiseNormal(loc, scale_tril=flat.unflatten(-1, (self.size, self.size)), validate_args=False)


@declared("families.Bernoulli")
class Bernoulli(nn.Module):
    r"""Independent coin flips :math:`\prod_d p_d^{x_d} (1 - p_d)^{1 - x_d}`, the network giving the logits.

    Its log-likelihood is the binary cross-entropy with a minus sign, with no constant.

    Arguments:
        shape: The event shape; an integer D means (D,).

    Example:
        >>> import torch.nn.functional as F
        >>> x, logits = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.3, -2.0, 1.5])
        >>> log_p = Bernoulli(3)(logits).log_prob(x)
        >>> bce = sum(F.binary_cross_entropy_with_logits(a, b) for a, b in zip(logits, x))
        >>> torch.allclose(log_p, -bce)
        True
    """

    support: ClassVar[constraints.Constraint] = constraints.boolean
    measure: Measure = "mass"

    def __init__(self, shape: int | Sequence[int]) -> None:
        super().__init__()
        self.event_shape = _event_shape(shape)
        self.parameter_shapes: tuple[tuple[int, ...], ...] = (self.event_shape,)

    def forward(self, logits: Tensor) -> Independent[TorchBernoulli]:
        coins = TorchBernoulli(logits=logits, validate_args=False)
        return Independent(coins, len(self.event_shape), validate_args=False)

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """The log-odds of each dimension, smoothed by half a one and half a zero."""
        ones = x.sum(0)
        return (torch.log((ones + 0.5) / (len(x) - ones + 0.5)),)


class _Binned(nn.Module):
    """What the families on a unit grid share."""

    measure: Measure = "mass"

    def __init__(self, shape: int | Sequence[int], levels: int) -> None:
        super().__init__()
        if levels < 2:
            raise OptionError(f"a grid needs at least 2 levels; got {levels}.")
        self.event_shape = _event_shape(shape)
        self.levels = levels
        self.support: constraints.Constraint = UnitGrid(levels)


@declared("families.Categorical")
class Categorical(_Binned):
    r"""A free probability for each of L levels in each dimension; values lie on the grid :math:`l / (L - 1)`.

    Arguments:
        shape: The event shape; an integer D means (D,).
        levels: The number of levels L.

    Example:
        >>> family = Categorical(2, levels=3)
        >>> family.parameter_shapes
        ((2, 3),)
        >>> float(family(torch.zeros(2, 3)).log_prob(torch.tensor([0.0, 0.5])).exp())  # doctest: +ELLIPSIS
        0.111...
    """

    def __init__(self, shape: int | Sequence[int], levels: int) -> None:
        super().__init__(shape, levels)
        self.parameter_shapes: tuple[tuple[int, ...], ...] = ((*self.event_shape, levels),)

    def forward(self, logits: Tensor) -> Independent[BinnedCategorical]:
        return Independent(BinnedCategorical(logits, validate_args=False), len(self.event_shape), validate_args=False)

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """The log-frequency of each level in each dimension, smoothed by half an observation."""
        level = (x * (self.levels - 1)).round()
        counts = torch.stack([(level == number).sum(0) for number in range(self.levels)], -1)
        return (torch.log((counts + 0.5) / (len(x) + 0.5 * self.levels)),)


@declared("families.DiscretizedLogistic")
class DiscretizedLogistic(_Binned):
    r"""Binned data as logistics integrated over the bins; values lie on the grid :math:`l / (L - 1)`.

    References:
        Salimans, Karpathy, Chen, Kingma (2017), PixelCNN++.

    Arguments:
        shape: The event shape; an integer D means (D,).
        levels: The number of levels L, 256 for 8-bit images.

    Example:
        >>> family = DiscretizedLogistic(2, levels=256)
        >>> family(torch.full((2,), 0.5), torch.full((2,), -4.0)).log_prob(torch.tensor([0.0, 1.0])) < 0
        tensor(True)
    """

    def __init__(self, shape: int | Sequence[int], levels: int) -> None:
        super().__init__(shape, levels)
        self.parameter_shapes: tuple[tuple[int, ...], ...] = (self.event_shape, self.event_shape)

    def forward(self, loc: Tensor, raw_scale: Tensor) -> Independent[distributions.DiscretizedLogistic]:
        # Centred so that a network at zero predicts the middle of the grid with a broad scale.
        scale = bounded_scale(raw_scale - 2.0)
        bins = distributions.DiscretizedLogistic(loc + 0.5, scale, self.levels, validate_args=False)
        return Independent(bins, len(self.event_shape), validate_args=False)

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logistic with the mean and the spread of each dimension, no narrower than a bin."""
        spread = x.std(0, correction=0) * math.sqrt(3) / math.pi
        return x.mean(0) - 0.5, unbounded_scale(spread.clamp(min=0.5 / (self.levels - 1))) + 2.0
