"""Families of discrete codes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Independent, constraints

from .. import distributions
from ..distributions import OneHot
from ..errors import OptionError
from ..spec import declared
from .base import Measure, event_shape_of

__all__ = ["OneHotCategorical", "StraightThroughBernoulli", "StraightThroughCategorical"]


def _check_temperature(temperature: float) -> float:
    if not 0 < temperature < float("inf"):
        raise OptionError(f"a temperature is a positive number; got temperature={temperature}.")
    return float(temperature)


class _OneHot(nn.Module):
    """What the families of one-hot codes share."""

    support: constraints.Constraint = OneHot()
    measure: Measure = "mass"

    def __init__(self, variables: int, categories: int) -> None:
        super().__init__()
        if categories < 2:
            raise OptionError(f"a categorical variable needs at least 2 categories; got categories={categories}.")
        self.event_shape = event_shape_of((variables, categories))
        self.parameter_shapes: tuple[tuple[int, ...], ...] = (self.event_shape,)


@declared("families.OneHotCategorical")
class OneHotCategorical(_OneHot):
    r"""Independent categorical variables, each a one-hot vector.

    As a posterior its samples have no gradient: it needs an estimator for discrete latents.

    Arguments:
        variables: The number V of variables.
        categories: The number C of values of each.

    Raises:
        OptionError: If there is no variable, or fewer than 2 categories.

    Example:
        >>> import torch
        >>> OneHotCategorical(2, 4)(torch.zeros(5, 2, 4)).sample().shape
        torch.Size([5, 2, 4])
    """

    def forward(self, logits: Tensor) -> Independent[distributions.OneHotCategorical]:
        return Independent(distributions.OneHotCategorical(logits, validate_args=False), 1, validate_args=False)

    def marginal(self, x: Tensor) -> tuple[Tensor, ...]:
        """The log-frequency of each category, smoothed by half an observation."""
        return (((x.sum(0) + 0.5) / (len(x) + 0.5 * x.shape[-1])).log(),)


@declared("families.StraightThroughCategorical")
class StraightThroughCategorical(_OneHot):
    r"""Independent categorical variables whose samples are one-hot and have the gradient of a relaxed sample.

    In evaluation mode it is :class:`OneHotCategorical`. In training the gradient is biased; the bound is not.

    References:
        Jang, Gu, Poole (2017), Categorical reparameterization with Gumbel-softmax. Maddison, Mnih, Teh (2017), The
        concrete distribution.

    Arguments:
        variables: The number V of variables.
        categories: The number C of values of each.
        temperature: The temperature of the relaxation; lower is less biased and noisier.

    Raises:
        OptionError: If an argument is out of range.

    Example:
        >>> import torch
        >>> family = StraightThroughCategorical(2, 4)
        >>> family(torch.zeros(2, 4)).has_rsample, family.eval()(torch.zeros(2, 4)).has_rsample
        (True, False)
    """

    def __init__(self, variables: int, categories: int, temperature: float = 0.5) -> None:
        super().__init__(variables, categories)
        self.temperature = _check_temperature(temperature)

    def forward(self, logits: Tensor) -> Independent[distributions.StraightThroughCategorical]:
        codes = distributions.StraightThroughCategorical(
            logits, self.temperature, relaxed=self.training, validate_args=False
        )
        return Independent(codes, 1, validate_args=False)


@declared("families.StraightThroughBernoulli")
class StraightThroughBernoulli(nn.Module):
    r"""Independent coin flips whose samples are 0 or 1 and have the gradient of a relaxed sample.

    In evaluation mode it is :class:`Bernoulli`. In training the gradient is biased; the bound is not.

    References:
        Jang, Gu, Poole (2017), Categorical reparameterization with Gumbel-softmax. Maddison, Mnih, Teh (2017), The
        concrete distribution.

    Arguments:
        size: The number of latents.
        temperature: The temperature of the relaxation; lower is less biased and noisier.

    Raises:
        OptionError: If an argument is out of range.

    Example:
        >>> import torch
        >>> StraightThroughBernoulli(3)(torch.zeros(3)).log_prob(torch.ones(3)).exp()
        tensor(0.1250)
    """

    support: constraints.Constraint = constraints.boolean
    measure: Measure = "mass"

    def __init__(self, size: int, temperature: float = 0.5) -> None:
        super().__init__()
        self.event_shape = event_shape_of(size)
        self.temperature = _check_temperature(temperature)
        self.parameter_shapes: tuple[tuple[int, ...], ...] = (self.event_shape,)

    def forward(self, logits: Tensor) -> Independent[distributions.StraightThroughBernoulli]:
        codes = distributions.StraightThroughBernoulli(
            logits, self.temperature, relaxed=self.training, validate_args=False
        )
        return Independent(codes, len(self.event_shape), validate_args=False)
