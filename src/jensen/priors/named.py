"""Priors over named quantities with torch's own distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch import distributions as D
from torch.distributions import Distribution, biject_to, constraints
from torch.distributions.constraints import Constraint

from ..distributions.logarithmic import unconstrained_of
from ..errors import OptionError, ShapeError, SupportError
from ..noise import seeded
from ..roles import Given
from ..spec import adopt, declare, declared

__all__ = ["Named"]

_SUPPORTED: dict[type[Distribution], tuple[str, ...]] = {
    D.Beta: ("concentration1", "concentration0"),
    D.Cauchy: ("loc", "scale"),
    D.Chi2: ("df",),
    D.Dirichlet: ("concentration",),
    D.Exponential: ("rate",),
    D.Gamma: ("concentration", "rate"),
    D.Gumbel: ("loc", "scale"),
    D.HalfCauchy: ("scale",),
    D.HalfNormal: ("scale",),
    D.InverseGamma: ("concentration", "rate"),
    D.Kumaraswamy: ("concentration1", "concentration0"),
    D.Laplace: ("loc", "scale"),
    D.LogNormal: ("loc", "scale"),
    D.MultivariateNormal: ("loc", "scale_tril"),
    D.Normal: ("loc", "scale"),
    D.Pareto: ("scale", "alpha"),
    D.StudentT: ("df", "loc", "scale"),
    D.Uniform: ("low", "high"),
    D.Weibull: ("scale", "concentration"),
}
"""The distributions a latent may have, and the arguments that build each of them."""

_DRAWS = 1000
_CLAMPED = 0.001
"""The share of draws that may lie where rounding moves them to the border of the support."""
_FAR, _LEAST, _MOST = (
    20.0,
    10.0,
    30.0,
)  # e^20 is 5e8: a float32 holds its square over a variance, and the square of that

for _kind in (*_SUPPORTED, D.Independent):
    adopt(f"torch.{_kind.__name__}", _kind)


@declared("priors.Named")
class Named(nn.Module):
    r"""Independent named quantities :math:`p(v) = \prod_i p_i(v_i)`, each with the support that its distribution has.

    What is drawn and scored is one unconstrained vector z, :math:`v = T(z)` with torch's bijection T from the real
    numbers onto the support, so that any posterior over real vectors fits:

    .. math:: \log p(z) = \log p(v) + \log \left| \det \frac{\partial T(z)}{\partial z} \right|

    A quantity on a half-line, :math:`v = a + e^z`, is held where floats can work with it: where z is 20 away from its
    median (no fewer than 10 and no more than 30 times its spread), v stays as it is there and the density of z falls
    on. What an encoder tries at the start of its training then has a finite bound, and a gradient that leads back.

    The likelihood receives a dictionary from names to constrained values v. All dimensions of a distribution, its batch
    too, belong to one value: ``Normal(torch.zeros(3), 1.0)`` is a vector of three.

    References:
        Kucukelbir, Tran, Ranganath, Gelman, Blei (2017), Automatic differentiation variational inference.

    Arguments:
        distributions: A distribution of ``torch.distributions`` for each name.

    Raises:
        OptionError: If there is no latent, or a distribution is not supported; the message lists those that are. Or if
            one is so vague that floats of its type cannot hold its draws.

    Example:
        >>> prior = Named(rate=D.LogNormal(0.0, 1.0), mix=D.Dirichlet(torch.ones(3)))
        >>> prior.sizes
        {'rate': 1, 'mix': 2}
        >>> values = prior.unpack(torch.zeros(3))
        >>> values["rate"], values["mix"]
        (tensor(1.), tensor([0.3333, 0.3333, 0.3333]))
        >>> prior.pack(values).abs().max() < 1e-6
        tensor(True)
    """

    def __init__(self, **distributions: Distribution) -> None:
        super().__init__()
        if not distributions:
            raise OptionError("a prior needs at least one named latent, such as Named(rate=LogNormal(0.0, 1.0)).")
        self.names = tuple(distributions)
        self._parts = nn.ModuleList(_Part(name, distribution) for name, distribution in distributions.items())

    @property
    def sizes(self) -> dict[str, int]:
        """The number of unconstrained numbers that each name takes in z, in order."""
        return {name: part.size for name, part in self._named()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each constrained value."""
        return {name: part.shape for name, part in self._named()}

    def forward(self, given: Given | None = None) -> Distribution:
        return _Unconstrained([part for _, part in self._named()])

    def unpack(self, z: Tensor) -> dict[str, Tensor]:
        r"""The constrained values of unconstrained vectors.

        Arguments:
            z: Unconstrained vectors, shape (\*, D).

        Returns:
            For each name a tensor of shape (\*, \*V).
        """
        if z.shape[-1] != sum(self.sizes.values()):
            raise ShapeError(f"expected z of shape (*, {sum(self.sizes.values())}) for {self.sizes}; got {z.shape}.")
        pieces = z.split(list(self.sizes.values()), -1)
        return {name: part.constrained(piece) for (name, part), piece in zip(self._named(), pieces, strict=True)}

    def pack(self, values: Mapping[str, Tensor]) -> Tensor:
        r"""The unconstrained vectors of constrained values, the inverse of :meth:`unpack`.

        Arguments:
            values: For each name a tensor of shape (\*, \*V), with the same leading dimensions.

        Raises:
            ShapeError: If a name is missing or unknown, or a value has another shape.
            SupportError: If a value lies outside the support of its distribution.
        """
        if set(values) != set(self.names):
            raise ShapeError(f"expected values named {sorted(self.names)}; got {sorted(values)}.")
        return torch.cat([part.unconstrained(values[name]) for name, part in self._named()], -1)

    def _named(self) -> list[tuple[str, _Part]]:
        return list(zip(self.names, self._parts, strict=True))  # type: ignore[arg-type]


class _Part(nn.Module):
    """One latent: its parameters as buffers, and the bijection onto its support."""

    _lowest: Tensor
    _highest: Tensor

    def __init__(self, name: str, distribution: Distribution) -> None:
        super().__init__()
        self.name = name
        _declare(name, distribution)
        while isinstance(distribution, D.Independent):  # all dimensions are one value anyway
            distribution = distribution.base_dist
        self.kind = type(distribution)
        self.shape = tuple(distribution.batch_shape + distribution.event_shape)
        for argument in _SUPPORTED[self.kind]:
            self.register_buffer(argument, getattr(distribution, argument).detach().clone(), persistent=False)
        event = biject_to(_support(distribution)).inverse_shape(distribution.event_shape)
        self.free_shape = tuple(distribution.batch_shape + event)
        self.size = math.prod(self.free_shape)
        self._check_draws()
        self._find_reach()

    def _check_draws(self) -> None:
        """A density that is cut off where floats end does not integrate to one."""
        distribution = self.distribution()
        if unconstrained_of(distribution) is not None:
            return
        with seeded(0, "draws"):
            values = distribution.sample(Size((_DRAWS,)))
        share = float((values != _inside(values, _support(distribution))).double().mean())
        if share > _CLAMPED:
            raise OptionError(
                f"{self.name} has a {self.kind.__name__} of which {share:.1%} of the draws are rounded to a border of "
                f"its support in {str(values.dtype).removeprefix('torch.')}; its density would not integrate to one. "
                "Choose a less vague prior, or build it from tensors of type torch.float64."
            )

    def _find_reach(self) -> None:
        """How far z may go either way: everywhere on the line, but not where the exponential of it is no number."""
        support = _support(self.distribution())
        lowest, highest = torch.full(self.free_shape, -math.inf), torch.full(self.free_shape, math.inf)
        if hasattr(support, "lower_bound") and not hasattr(support, "upper_bound"):
            with seeded(0, "reach"):
                z = self.sample(Size((_DRAWS,))).reshape(_DRAWS, *self.free_shape).double()
            below, middle, above = z.quantile(torch.tensor([0.16, 0.5, 0.84], dtype=z.dtype, device=z.device), 0)
            spread = (above - below) / 2
            far = torch.full_like(spread, _FAR).clamp(_LEAST * spread, _MOST * spread)
            lowest, highest = middle - far, middle + far
        self.register_buffer("_lowest", lowest, persistent=False)
        self.register_buffer("_highest", highest, persistent=False)

    def distribution(self) -> Distribution:
        arguments = {argument: getattr(self, argument) for argument in _SUPPORTED[self.kind]}
        return self.kind(**arguments, validate_args=False)

    def constrained(self, piece: Tensor) -> Tensor:
        support = _support(self.distribution())
        # A trajectory that diverged ends at no number; its density is zero, and the likelihood need not see it.
        return _inside(biject_to(support)(self._held(self._free(piece.nan_to_num()))), support)

    def _held(self, free: Tensor) -> Tensor:
        """The numbers within reach that are closest, in the type of the numbers."""
        return torch.minimum(torch.maximum(free, self._lowest.to(free)), self._highest.to(free))

    def unconstrained(self, value: Tensor) -> Tensor:
        lead = value.shape[: value.ndim - len(self.shape)]
        if tuple(value.shape[len(lead) :]) != self.shape:
            raise ShapeError(f"expected {self.name} of shape (*, {self.shape}); got {tuple(value.shape)}.")
        support = _support(self.distribution())
        if not bool((support.check(value) & value.isfinite().all()).all()):
            raise SupportError(f"{self.name} must lie in {support}; got values in [{value.min():g}, {value.max():g}].")
        free: Tensor = biject_to(support).inv(_inside(value, support))
        return free.reshape((*lead, self.size))

    def log_prob(self, piece: Tensor) -> Tensor:
        distribution, lead = self.distribution(), piece.shape[:-1]
        free, plain = self._free(piece), unconstrained_of(distribution)
        if isinstance(distribution, D.LogNormal):  # finite everywhere
            return _total(distribution.base_dist.log_prob(free), lead)
        held = self._held(free)
        beyond = _total((free - held).abs(), lead)
        if plain is not None:
            total = _total(plain.log_prob(held), lead) - beyond
            return torch.where(total < math.inf, total, -math.inf)
        support = _support(distribution)
        bijection = biject_to(support)
        value = bijection(held)
        jacobian = _total(bijection.log_abs_det_jacobian(held, value), lead) - beyond
        total = _total(distribution.log_prob(_inside(value, support)), lead) + jacobian
        # Where a value or its density is beyond what floats can hold, the density is taken for zero.
        finite = (total < math.inf) & value.isfinite().reshape((*lead, -1)).all(-1)
        return torch.where(finite, total, -math.inf)

    def sample(self, shape: Size) -> Tensor:
        distribution = self.distribution()
        support, plain = _support(distribution), unconstrained_of(distribution)
        free: Tensor
        if plain is not None:
            free = plain.sample(shape)
        else:
            free = biject_to(support).inv(_inside(distribution.sample(shape), support))
        return free.reshape((*shape, self.size))

    def _free(self, piece: Tensor) -> Tensor:
        return piece.reshape((*piece.shape[:-1], *self.free_shape))


class _Unconstrained(Distribution):
    """The distribution of z."""

    arg_constraints = {}
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, parts: list[_Part]) -> None:
        self.parts = parts
        super().__init__(Size(), Size((sum(part.size for part in parts),)), validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return torch.cat([part.sample(Size(sample_shape)) for part in self.parts], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        pieces = value.split([part.size for part in self.parts], -1)
        total, *others = [part.log_prob(piece) for part, piece in zip(self.parts, pieces, strict=True)]
        for other in others:
            total = total + other
        return total

    def detached(self) -> Distribution:
        """Itself: its parameters are buffers and have no gradient."""
        return self


def _total(values: Tensor, lead: Size) -> Tensor:
    return values.reshape((*lead, -1)).sum(-1)


def _support(distribution: Distribution) -> Constraint:
    support: Constraint = distribution.support  # type: ignore[assignment]
    return support


def _inside(value: Tensor, support: Constraint) -> Tensor:
    """Values moved off the border of the support, where rounding put them and densities are zero or infinite."""
    low, high = (getattr(support, f"{side}_bound", None) for side in ("lower", "upper"))
    finfo = torch.finfo(value.dtype)
    if support is constraints.simplex:
        return value.clamp(min=finfo.tiny)
    if low is None:
        return value
    low = torch.as_tensor(low, dtype=value.dtype, device=value.device)
    top = torch.full_like(low, finfo.max)
    high = top if high is None else torch.as_tensor(high, dtype=value.dtype, device=value.device)
    least = torch.nextafter(low, high)
    least = torch.where(low == 0, torch.full_like(low, finfo.tiny), least)
    most = high if high is top else torch.nextafter(high, low)
    return torch.minimum(torch.maximum(value, least), most)


def _declare(name: str, distribution: Distribution) -> None:
    """Writes down on a torch distribution how it is built, so that a prior with it can be saved."""
    kind = type(distribution)
    arguments: dict[str, Any]
    if isinstance(distribution, D.Independent):
        _declare(name, distribution.base_dist)
        dims = distribution.reinterpreted_batch_ndims
        arguments = {"base_distribution": distribution.base_dist, "reinterpreted_batch_ndims": dims}
    elif kind in _SUPPORTED:
        arguments = {argument: _plain(getattr(distribution, argument)) for argument in _SUPPORTED[kind]}
    else:
        known = ", ".join(sorted(supported.__name__ for supported in _SUPPORTED))
        raise OptionError(
            f"{name} has a {kind.__name__}, which is not among the distributions of torch that a named latent may "
            f"have: {known}, and Independent around them. Choose one of these."
        )
    declare(distribution, f"torch.{kind.__name__}", arguments)


def _plain(value: Tensor) -> float | Tensor:
    """A number where that gives the same tensor again, which files then show."""
    if value.ndim == 0 and value.dtype == torch.float32:
        return float(value)
    return value.detach().clone()
