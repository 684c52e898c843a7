"""How much each latent is used over a data set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..distributions import closed_form_kl, kl_per_latent
from ..noise import RowNoise, mix, row_keys, seeded
from ..roles import Given
from .checks import check_data, latent_size
from .chunks import device_of, evaluation_mode, in_chunks

__all__ = ["ACTIVE", "Latents", "latents"]

ACTIVE = 0.01
"""The variance of its posterior mean over rows above which a latent is active (Burda et al., 2016)."""


@dataclass(frozen=True)
class Latents:
    """What the posterior does over a data set.

    Arguments:
        mean_variance: The variance over examples of the posterior mean of each latent, shape (Z,).
        kl: The mean KL to the prior, nats per example; None without a closed form.
        kl_per_latent: The mean KL of each latent, shape (Z,); None where the posterior does not factorise.
    """

    mean_variance: Tensor
    kl: float | None
    kl_per_latent: Tensor | None

    @property
    def active(self) -> int:
        """How many latents are active: the variance of their posterior mean is above 0.01 (Burda et al., 2016)."""
        return int((self.mean_variance > ACTIVE).sum())


def latents(model: Any, x: Tensor, given: Given | None = None) -> Latents:
    """How much each latent is used over a data set.

    Where the prior of a group depends on other groups or on a condition, the posterior mean is measured from the mean
    of the prior, in its standard deviations, and the KL of a group is that at one draw of those above it.

    Arguments:
        model: A model with a prior and a posterior, or with several groups of latents.
        x: Rows in the values that the model sees.
        given: What is known beside each row.

    Example:
        >>> from jensen import testing
        >>> oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
        >>> latents(oracle.model, 2 * torch.eye(3, dtype=torch.float64)).active
        2
    """
    check_data(model, x, given)
    size = 0
    if latent_size(model) == 0:
        return Latents(torch.zeros(0, dtype=torch.float64), None, None)

    def statistics(rows: Tensor, given: Given | None = None) -> Tensor:
        nonlocal size
        device = device_of(model)
        pairs = _pairs(model, rows.to(device), None if given is None else given.to(device))
        columns = [_statistics(q, p, len(rows)) for q, p in pairs]
        # Not half of the columns: a one-hot code has a mean for each category and one KL.
        size = sum(means.shape[1] for means, _, _ in columns)
        parts = [torch.cat(part, 1) for part in zip(*columns, strict=True)] or [torch.zeros(len(rows), 0)] * 3
        return torch.cat([parts[0], parts[1].sum(1, keepdim=True), parts[2]], 1).double().cpu()

    with evaluation_mode(model), seeded(0):
        table = in_chunks(statistics, x, given)
    kl, each = table[:, size], table[:, size + 1 :]
    known = size > 0
    return Latents(
        mean_variance=table[:, :size].var(0, correction=0) if known else table[0, :0],
        kl=None if not known or kl.isnan().any() else float(kl.mean()),
        kl_per_latent=None if not known or each.isnan().any() else each.mean(0),
    )


def _pairs(model: Any, x: Tensor, given: Given | None) -> list[tuple[Distribution, Distribution]]:
    """The posterior and the prior of each group of latents."""
    if hasattr(model, "posterior"):
        return [(model.posterior(x, given), model.prior(given))]
    with RowNoise([mix("latents", key) for key in row_keys(x)]):
        return [(group.posterior, group.prior) for group in model.draw(x, given).groups]


def _statistics(q: Distribution, p: Distribution, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior means, the KL and the KL of each latent, each with a row for each example."""
    mean = (q.mean - p.mean) / p.stddev if p.batch_shape else q.mean
    kl, each = closed_form_kl(q, p), kl_per_latent(q, p)
    means = mean.reshape(rows, -1).double()
    unknown = torch.full_like(means, math.nan)
    total = unknown[:, :1] if kl is None else kl.reshape(rows, 1).double()
    return means, total, unknown if each is None else each.reshape(rows, -1).double()
