"""Where training starts: a decoder that describes the rows as well as one without latents can."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .conditional import Conditional
from .families.base import pooled_marginal

__all__ = ["start_at_marginal"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@torch.no_grad()
def start_at_marginal(likelihood: nn.Module, x: Tensor) -> bool:
    r"""Sets the last bias of a decoder so that at first it describes the rows like independent dimensions.

    A bias with one entry for each parameter of the distribution is set exactly; one with an entry for each channel,
    such as that of a convolution, so that all places together are described. Networks that do not end with a bias, and
    families without ``marginal``, are left alone.

    Arguments:
        likelihood: A decoder: a :class:`jensen.Conditional`, or a module with a method ``start_at_marginal(x)``.
        x: Training rows as the model sees them, shape (N, \*X).

    Returns:
        Whether a bias was set.

    Example:
        >>> from jensen import families, nets
        >>> decoder = Conditional(nets.mlp(2, 3, hidden=()), families.Bernoulli(3))
        >>> x = torch.tensor([[1.0, 0.0, 1.0]] * 99)
        >>> start_at_marginal(decoder, x)
        True
        >>> [round(p, 3) for p in decoder(torch.zeros(1, 2)).mean[0].tolist()]
        [0.995, 0.005, 0.995]
    """
    own = getattr(likelihood, "start_at_marginal", None)
    if own is not None:
        return bool(own(x))
    if not isinstance(likelihood, Conditional) or not hasattr(likelihood.family, "marginal"):
        return False
    layers = [module for module in likelihood.net.modules() if next(module.parameters(recurse=False), None) is not None]
    bias = getattr(layers[-1], "bias", None) if layers else None
    if not isinstance(bias, Tensor):
        return False
    family = likelihood.family
    if isinstance(layers[-1], _CONVOLUTIONS):
        parameters = pooled_marginal(family, x, family.event_shape[2:])
        if any(parameter.ndim > 1 for parameter in parameters):
            return False  # the order of several numbers for each channel is that of what follows
    else:
        parameters = family.marginal(x)
    whole = torch.cat([parameter.reshape(-1) for parameter in parameters])
    if bias.numel() != whole.numel() or not whole.isfinite().all():
        return False
    bias.copy_(whole)
    return True
