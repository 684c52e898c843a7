"""p(x|z) of a network whose weights are latents themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..conditional import Conditional
from ..errors import ShapeError
from ..roles import Given
from ..spec import declared

__all__ = ["SampledWeights"]


@declared("likelihoods.SampledWeights")
class SampledWeights(Conditional):
    r"""The distribution :math:`p(x | z, g)` by a network with the weights g, all in one vector.

    It finds them in ``given.shared``: one vector for all, shape (W,), or one for each sample, shape (K, 1, W). Without
    them it is the network as it is.

    References:
        Kingma, Welling (2013), Auto-encoding variational Bayes, appendix F.

    Arguments:
        net: A module from (N, \*C) to (N, P).
        family: The family.
        event_dims: The number of dimensions of one input.

    Raises:
        ShapeError: When used, if the weights are not as many as those of the network.

    Example:
        >>> from jensen import families, nets
        >>> decoder = SampledWeights(nets.mlp(2, 6, hidden=()), families.Bernoulli(6))
        >>> decoder(torch.ones(3, 5, 2), Given(shared=torch.zeros(3, 1, 18))).mean[0, 0]
        tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000])
    """

    uses_shared = True

    def raw(self, inputs: Tensor, given: Given | None = None) -> Tensor:
        weights = None if given is None else given.shared
        if weights is None:
            return super().raw(inputs, given)
        if weights.ndim == 1:
            return self._raw_with(weights, inputs, given)
        if weights.ndim != 3 or len(weights) != len(inputs):
            raise ShapeError(
                f"expected the weights of {len(inputs)} samples, shape ({len(inputs)}, 1, W); got "
                f"{tuple(weights.shape)}."
            )
        pairs = zip(weights[:, 0], inputs, strict=True)
        return torch.stack([self._raw_with(each, some, given) for each, some in pairs])

    def _raw_with(self, weights: Tensor, inputs: Tensor, given: Given | None) -> Tensor:
        named = dict(self.net.named_parameters())
        sizes = [parameter.numel() for parameter in named.values()]
        if sum(sizes) != len(weights):
            raise ShapeError(f"the network has {sum(sizes)} weights; got {len(weights)}.")
        pieces = weights.split(sizes)
        values = {n: piece.view_as(p) for (n, p), piece in zip(named.items(), pieces, strict=True)}
        net = self.net

        def call(x: Tensor) -> Any:
            return torch.func.functional_call(net, values, (x,))

        batch = inputs.shape[: inputs.ndim - self.event_dims]
        flat = inputs.reshape(-1, *inputs.shape[inputs.ndim - self.event_dims :])
        raw: Tensor = self.computed(cast(nn.Module, cast(Callable[[Tensor], Any], call)), flat)
        return raw.reshape((*batch, raw.shape[-1]))
