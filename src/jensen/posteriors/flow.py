"""A posterior made by an invertible network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import constraints

from ..distributions import InverseFlow, bounded_scale
from ..errors import ShapeError
from ..nets.flow import AutoregressiveFlow
from ..precision import LowPrecision
from ..roles import Given
from ..spec import declared

__all__ = ["Flow"]


@declared("posteriors.Flow")
class Flow(LowPrecision):
    r"""An amortised posterior :math:`z = \mu(x) + \sigma(x) \odot T(\epsilon; h(x))` with an autoregressive flow T.

    A network gives features h(x); :math:`\mu` is linear in them, :math:`\sigma` is
    :func:`jensen.distributions.bounded_scale` of a linear function, and every step of T sees them. Sampling takes one
    pass, and so does the log-density of the samples. Its ``mean`` is the image of the centre of the base. With
    ``bins=None`` this is an inverse autoregressive flow.

    References:
        Rezende, Mohamed (2015), Variational inference with normalizing flows. Kingma et al. (2016), Improving
        variational inference with inverse autoregressive flow. Durkan et al. (2019), Neural spline flows.

    Arguments:
        net: A module from (B, \*X) to (B, F).
        size: The number of latents.
        features: The number F of outputs of ``net``.
        transforms: The number of autoregressive steps.
        hidden: The widths of the hidden layers of each step's network.
        bins: The number of bins of the splines of which the steps are made; None for affine steps.

    Raises:
        OptionError: If an argument is out of range.
        ShapeError: If ``net`` returns another number of features.

    Example:
        >>> import torch
        >>> from jensen import nets
        >>> posterior = Flow(nets.mlp(6, 16), size=2, features=16)
        >>> q = posterior(torch.zeros(5, 6))
        >>> z = q.rsample((3,))
        >>> z.shape, q.log_prob(z).shape
        (torch.Size([3, 5, 2]), torch.Size([3, 5]))
    """

    def __init__(
        self,
        net: nn.Module,
        size: int,
        features: int,
        transforms: int = 2,
        hidden: Sequence[int] = (64, 64),
        bins: int | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.features = features
        self.event_shape, self.support = (size,), constraints.real_vector
        self.flow = AutoregressiveFlow(size, features, transforms, hidden, bins)
        self.head = nn.Linear(features, 2 * size)

    def forward(self, x: Tensor, given: Given | None = None) -> InverseFlow:
        context = self.computed(self.net, x)
        if context.shape != (len(x), self.features):
            raise ShapeError(
                f"expected the network to return {self.features} features, shape {(len(x), self.features)}; got "
                f"{tuple(context.shape)}."
            )
        loc, raw_scale = self.head(context).chunk(2, -1)
        return InverseFlow(self.flow, loc, bounded_scale(raw_scale), context, validate_args=False)
