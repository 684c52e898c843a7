"""The aggregate posterior: the mixture of the posteriors of all rows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from ..distributions import closed_form_kl
from ..errors import DataError
from ..evaluation import check_data, evaluation_mode
from ..noise import seeded
from .draws import prior_and_posterior

__all__ = ["Aggregate", "marginals"]

_CHUNK = 512
_BLOCK_VALUES = 2**22


def marginals(distribution: Distribution) -> Distribution | None:
    r"""The distribution of each latent by itself, batch shape (\*B, \*Z); None where it has no formula.

    Example:
        >>> marginals(MultivariateNormal(torch.zeros(2), torch.tensor([[4.0, 1.0], [1.0, 1.0]]))).scale
        tensor([2., 1.])
    """
    if isinstance(distribution, MultivariateNormal):
        return Normal(distribution.loc, distribution.scale_tril.square().sum(-1).sqrt(), validate_args=False)
    if isinstance(distribution, Independent) and not distribution.base_dist.event_shape:
        base: Distribution = distribution.base_dist
        return base
    return None


class Aggregate:
    r"""The mixture :math:`q(z) = \frac1N \sum_n q(z|x_n)` over all rows of a split, with its exact log-density.

    References:
        Hoffman, Johnson (2016), ELBO surgery. Makhzani et al. (2016), Adversarial autoencoders.

    Arguments:
        model: A model with one prior and one posterior.
        x: All rows, shape (N, \*X), in the values that the model sees.

    Raises:
        DataError: If the rows cannot be scored.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> q = Aggregate(oracle.model, torch.zeros(4, 3, dtype=torch.float64))
        >>> one = oracle.model.posterior(torch.zeros(1, 3, dtype=torch.float64))
        >>> z = torch.ones(1, 2, dtype=torch.float64)
        >>> torch.allclose(q.log_prob(z), one.log_prob(z))
        True
    """

    def __init__(self, model: Any, x: Tensor) -> None:
        check_data(model, x)
        with evaluation_mode(model):
            pairs = [prior_and_posterior(model, part) for part in x.split(_CHUNK)]
        self.model, self.x, self.n = model, x, len(x)
        self.prior = pairs[0][0]
        self.parts = [posterior for _, posterior in pairs]
        if len(self.parts[0].batch_shape) != 1:
            raise DataError(f"the posterior of one row has batch shape {tuple(self.parts[0].batch_shape)}, not (B,).")

    def draw(self, index: Tensor, *seed: int | str) -> tuple[Tensor, Tensor]:
        r"""A draw z from q(z|x_n) for each n of ``index``, shape (M, \*Z), and :math:`\log q(z|x_n)`, shape (M,)."""
        with evaluation_mode(self.model), seeded(*seed):
            pairs = []
            for part in self.x[index].split(_CHUNK):
                posterior = prior_and_posterior(self.model, part)[1]
                z = posterior.sample()
                pairs.append((z, posterior.log_prob(z).double().cpu()))
        z, log_q = (torch.cat(column).clone() for column in zip(*pairs, strict=True))
        return z, log_q

    def log_prob(self, z: Tensor) -> Tensor:
        r""":math:`\log q(z)`, shape (M,), nats, float64, for z of shape (M, \*Z)."""
        total = torch.full((len(z),), -math.inf, dtype=torch.float64)
        with torch.inference_mode():
            for part in self.parts:
                block = max(1, _BLOCK_VALUES // (part.batch_shape[0] * part.event_shape.numel()))
                logs = [_log_components(part, some).double().logsumexp(1).cpu() for some in z.split(block)]
                total = torch.logaddexp(total, torch.cat(logs))
        return (total - math.log(self.n)).clone()

    def log_prob_of_each(self, z: Tensor) -> Tensor | None:
        r""":math:`\log q(z_j)` of each latent by itself, shape (M, Z); None where that has no formula."""
        total = torch.full((len(z), z[0].numel()), -math.inf, dtype=torch.float64)
        with torch.inference_mode():
            for part in self.parts:
                each = marginals(part)
                if each is None:
                    return None
                block = max(1, _BLOCK_VALUES // (part.batch_shape[0] * part.event_shape.numel()))
                logs = [each.log_prob(some[:, None]).flatten(2).double().logsumexp(1).cpu() for some in z.split(block)]
                total = torch.logaddexp(total, torch.cat(logs))
        return (total - math.log(self.n)).clone()

    def kl(self) -> Tensor | None:
        """The KL of each row's posterior from the prior by its formula, shape (N,), nats; None where there is none."""
        with torch.inference_mode():
            kls = [closed_form_kl(part, self.prior) for part in self.parts]
        known = [kl.double().cpu() for kl in kls if kl is not None]
        return torch.cat(known).clone() if len(known) == len(kls) else None


def _log_components(part: Distribution, z: Tensor) -> Tensor:
    r""":math:`\log q(z_m|x_b)`, shape (M, B)."""
    if isinstance(part, MultivariateNormal):
        factor = part.scale_tril
        eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
        inverse = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
        white = inverse @ (z.T - part.loc[..., None])  # (B, Z, M)
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        size = part.loc.shape[-1]
        log_normal: Tensor = (-0.5 * (white.square().sum(1) + size * math.log(2 * math.pi)) - log_det[:, None]).T
        return log_normal
    log_prob: Tensor = part.log_prob(z[:, None].expand(-1, part.batch_shape[0], *z.shape[1:]))
    return log_prob
