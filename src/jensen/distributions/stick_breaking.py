"""From pieces broken off a stick to what they leave: points of the simplex, and probabilities that fall."""

from __future__ import annotations

import torch
from torch import Tensor

from .kumaraswamy import log1mexp

__all__ = ["falling_logits", "stick_breaking"]


def stick_breaking(v: Tensor) -> Tensor:
    r"""Breaks a stick of length 1: the share :math:`v_t` of what is left, T times, and then the rest.

    .. math:: \pi_t = v_t \prod_{s < t} (1 - v_s), \quad \pi_{T + 1} = \prod_t (1 - v_t)

    References:
        Sethuraman (1994), A constructive definition of Dirichlet priors.

    Arguments:
        v: The shares, between 0 and 1, shape (\*, T).

    Returns:
        The lengths, shape (\*, T + 1); they add up to 1.

    Example:
        >>> stick_breaking(torch.tensor([0.5, 0.5, 0.2]))
        tensor([0.5000, 0.2500, 0.0500, 0.2000])
    """
    left = torch.cumprod(1 - v, -1)
    before = torch.cat([torch.ones_like(v[..., :1]), left[..., :-1]], -1)
    return torch.cat([v * before, left[..., -1:]], -1)


def falling_logits(v: Tensor) -> Tensor:
    r"""The logits of the falling probabilities :math:`\pi_t = \prod_{s \le t} v_s` of the Indian buffet process.

    References:
        Teh, Görür, Ghahramani (2007), Stick-breaking construction for the Indian buffet process.

    Arguments:
        v: The sticks, between 0 and 1, shape (\*, T).

    Example:
        >>> torch.sigmoid(falling_logits(torch.tensor([0.5, 0.5, 0.5])))
        tensor([0.5000, 0.2500, 0.1250])
    """
    log_pi = torch.cumsum(v.clamp(min=torch.finfo(v.dtype).tiny).log(), -1)
    return log_pi - log1mexp(log_pi)
