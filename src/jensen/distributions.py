"""The distributions and divergences that ``torch.distributions`` lacks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, constraints, kl_divergence
from torch.types import _size

from .errors import OptionError

__all__ = [
    "BinnedCategorical",
    "DiscretizedLogistic",
    "RowwiseNormal",
    "UnitGrid",
    "bounded_scale",
    "closed_form_kl",
    "diagonal_normal",
    "kl_per_latent",
]

SCALE_FLOOR = 1e-4
_LOG_RANGE = -math.log(SCALE_FLOOR)


def bounded_scale(raw: Tensor) -> Tensor:
    r"""The one map from an unconstrained number to a scale: :math:`\sigma = e^{b \tanh(a / b)}`, :math:`b = \ln 10^4`.

    It is smooth, increasing, close to :math:`e^a` for small :math:`|a|` and stays within :math:`[10^{-4}, 10^4]`, so
    that neither a variance nor its gradient can overflow.

    Arguments:
        raw: Unconstrained values, any shape.

    Example:
        >>> bounded_scale(torch.tensor([-1e9, 0.0, 1e9]))
        tensor([1.0000e-04, 1.0000e+00, 1.0000e+04])
    """
    return (_LOG_RANGE * torch.tanh(raw / _LOG_RANGE)).exp()


def unbounded_scale(scale: Tensor) -> Tensor:
    """The inverse of :func:`bounded_scale`, for initial values.

    Arguments:
        scale: Scales, any shape.

    Raises:
        OptionError: If the scale lies outside the range of :func:`bounded_scale`.

    Example:
        >>> unbounded_scale(torch.tensor(1.0))
        tensor(0.)
    """
    inside = (scale > SCALE_FLOOR) & (scale < 1 / SCALE_FLOOR)
    if not inside.all():
        found = float(scale[~inside].flatten()[0])
        raise OptionError(f"an initial scale lies between {SCALE_FLOOR:g} and {1 / SCALE_FLOOR:g}; got {found:g}.")
    exact: Tensor = _LOG_RANGE * torch.atanh(scale.double().log() / _LOG_RANGE)
    return exact.to(scale.dtype)


def diagonal_normal(loc: Tensor, scale: Tensor, event_dims: int) -> Independent[Normal]:
    """Independent normals, the last ``event_dims`` dimensions being one event."""
    return Independent(Normal(loc, scale, validate_args=False), event_dims, validate_args=False)


class RowwiseNormal(MultivariateNormal):
    """A normal with full covariance whose ``log_prob`` does not depend, to the last bit, on where a row stands.

    Example:
        >>> RowwiseNormal(torch.zeros(2), scale_tril=torch.eye(2)).log_prob(torch.zeros(2))
        tensor(-1.8379)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        factor = self.scale_tril
        # With several right-hand sides at once, rounding depends on where a matrix lies in memory.
        centred = (value - self.loc)[..., None]
        white = torch.linalg.solve_triangular(factor, centred, upper=False)[..., 0]
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        size = self.loc.shape[-1]
        log_prob: Tensor = -0.5 * (white.square().sum(-1) + size * math.log(2 * math.pi)) - log_det
        return log_prob


class UnitGrid(constraints.Constraint):
    r"""The grid :math:`\{0, \frac{1}{L-1}, \dots, 1\}` on which binned data lie.

    Arguments:
        levels: The number of grid points :math:`L \ge 2`.

    Example:
        >>> UnitGrid(3).check(torch.tensor([0.0, 0.5, 0.6]))
        tensor([ True,  True, False])
    """

    is_discrete = True

    def __init__(self, levels: int) -> None:
        self.levels = levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        level = value * (self.levels - 1)
        on_grid = (level - level.round()).abs() < 1e-3
        return on_grid & (value >= 0) & (value <= 1)

    def values(self) -> Tensor:
        """All grid points, shape (levels,)."""
        return torch.arange(self.levels) / (self.levels - 1)

    def __repr__(self) -> str:
        return f"UnitGrid({self.levels})"


class DiscretizedLogistic(Distribution):
    r"""A logistic distribution integrated over the bins of a unit grid; the end bins take the tails.

    .. math:: P(x) = \sigma\Bigl(\frac{x + h - \mu}{s}\Bigr) - \sigma\Bigl(\frac{x - h - \mu}{s}\Bigr),
              \quad h = \frac{1}{2 (L - 1)}

    References:
        Salimans, Karpathy, Chen, Kingma (2017), PixelCNN++.

    Arguments:
        loc: The location :math:`\mu`, any shape.
        scale: The scale :math:`s > 0`, broadcastable to ``loc``.
        levels: The number of grid points :math:`L`.

    Example:
        >>> d = DiscretizedLogistic(torch.tensor(0.4), torch.tensor(0.1), levels=16)
        >>> round(float(d.log_prob(UnitGrid(16).values()).exp().sum()), 6)
        1.0
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Tensor, scale: Tensor, levels: int, *, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> UnitGrid:
        return UnitGrid(self.levels)

    def expand(self, batch_shape: _size, _instance: None = None) -> DiscretizedLogistic:
        return DiscretizedLogistic(
            self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.levels, validate_args=False
        )

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        half = 0.5 / (self.levels - 1)
        upper = (value + half - self.loc) / self.scale
        lower = (value - half - self.loc) / self.scale
        # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)): no difference of nearly equal numbers.
        # The width is taken from h itself, since far from the location upper and lower round to the same number.
        below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
        inside = below + above + torch.log(-torch.expm1(-2 * half / self.scale))
        return torch.where(value < half, below, torch.where(value > 1 - half, above, inside))

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        with torch.no_grad():
            tiny = torch.finfo(self.loc.dtype).eps
            u = torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
            x = self.loc + self.scale * torch.logit(u.clamp(tiny, 1 - tiny))
            level: Tensor = (x.clamp(0, 1) * (self.levels - 1)).round()
            return level / (self.levels - 1)

    @property
    def mean(self) -> Tensor:
        # E[level] = sum over thresholds of P(level >= threshold).
        total = torch.zeros_like(self.loc)
        for level in range(1, self.levels):
            total = total + torch.sigmoid((self.loc - (level - 0.5) / (self.levels - 1)) / self.scale)
        return total / (self.levels - 1)


class BinnedCategorical(Distribution):
    r"""A free probability for each point of a unit grid: :math:`P(x = \frac{l}{L-1}) = \mathrm{softmax}(a)_l`.

    Arguments:
        logits: The unnormalised log-probabilities :math:`a`, shape (\*, L).

    Example:
        >>> d = BinnedCategorical(torch.tensor([0.0, 0.0, 0.0, 0.0]))
        >>> d.log_prob(torch.tensor(1 / 3)).exp()
        tensor(0.2500)
    """

    arg_constraints = {"logits": constraints.real_vector}

    def __init__(self, logits: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits = logits
        self.levels = logits.shape[-1]
        super().__init__(logits.shape[:-1], validate_args=validate_args)

    @property
    def support(self) -> UnitGrid:
        return UnitGrid(self.levels)

    def expand(self, batch_shape: _size, _instance: None = None) -> BinnedCategorical:
        return BinnedCategorical(self.logits.expand((*batch_shape, self.levels)), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        level = (value * (self.levels - 1)).round().long()
        shape = torch.broadcast_shapes(level.shape, self.batch_shape)
        logits = self.logits.log_softmax(-1).expand((*shape, self.levels))
        return logits.gather(-1, level.expand(shape)[..., None])[..., 0]

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        chosen = torch.distributions.Categorical(logits=self.logits, validate_args=False)
        level: Tensor = chosen.sample(sample_shape)
        return level.to(self.logits.dtype) / (self.levels - 1)

    @property
    def mean(self) -> Tensor:
        grid = self.support.values().to(self.logits)
        return (self.logits.softmax(-1) * grid).sum(-1)


def closed_form_kl(q: Distribution, p: Distribution) -> Tensor | None:
    r""":math:`\mathrm{KL}(q \| p) = E_q[\log q - \log p]` in nats where a formula is known, else None.

    Example:
        >>> q = diagonal_normal(torch.ones(5, 3), torch.ones(5, 3), 1)
        >>> closed_form_kl(q, diagonal_normal(torch.zeros(3), torch.ones(3), 1))
        tensor([1.5000, 1.5000, 1.5000, 1.5000, 1.5000])
    """
    if isinstance(q, MultivariateNormal) and _is_diagonal_normal(p):
        return _full_to_diagonal_kl(q, p)
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def _is_diagonal_normal(p: Distribution) -> bool:
    return isinstance(p, Independent) and isinstance(p.base_dist, Normal) and len(p.event_shape) == 1


def _full_to_diagonal_kl(q: MultivariateNormal, p: Distribution) -> Tensor:
    scale = p.stddev
    trace = (q.scale_tril.square().sum(-1) / scale.square()).sum(-1)
    distance = ((q.loc - p.mean) / scale).square().sum(-1)
    log_det = scale.log().sum(-1) - q.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (trace + distance - q.loc.shape[-1]) + log_det


def kl_per_latent(q: Distribution, p: Distribution) -> Tensor | None:
    r"""The closed-form KL of each latent, shape (B, \*Z), where both distributions factorise; else None.

    Example:
        >>> q = diagonal_normal(torch.tensor([[1.0, 0.0]]), torch.ones(1, 2), 1)
        >>> kl_per_latent(q, diagonal_normal(torch.zeros(2), torch.ones(2), 1))
        tensor([[0.5000, 0.0000]])
    """
    if isinstance(q, Independent) and isinstance(p, Independent):
        return closed_form_kl(q.base_dist, p.base_dist)
    return None
