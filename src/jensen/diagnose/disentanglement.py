"""Does each latent stand for one factor of variation, and each factor in one latent?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError

__all__ = ["Disentanglement", "InformationGap", "dci", "mutual_information_gap"]

_LEAST_ROWS = 20


@dataclass(frozen=True)
class InformationGap:
    """The mutual information gap.

    Arguments:
        gap: The mean over factors, from 0 to 1.
        each: The gap of each factor, shape (F,).
        information: The mutual information of each latent and factor, shape (Z, F), nats.
        entropy: The entropy of each factor, shape (F,), nats.
    """

    gap: float
    each: Tensor
    information: Tensor
    entropy: Tensor

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data."""
        return {"gap": self.gap, "each": self.each.tolist(), "entropy": self.entropy.tolist()}


def mutual_information_gap(codes: Tensor, factors: Tensor, *, bins: int = 20) -> InformationGap:
    r"""How much more the best latent knows about a factor than the second best, as a share of its entropy.

    .. math:: \mathrm{MIG} = \frac1F \sum_f \frac{I(z_{(1)}; v_f) - I(z_{(2)}; v_f)}{H(v_f)}

    Codes are cut into bins of equal width; means or samples of the posterior may be given.

    References:
        Chen, Li, Grosse, Duvenaud (2018), Isolating sources of disentanglement in variational autoencoders.

    Arguments:
        codes: The codes, shape (N, Z), of at least 2 latents.
        factors: The factors as whole numbers from 0, shape (N, F).
        bins: The number of bins.

    Raises:
        DataError: If the shapes do not fit, there is only one latent, or a factor never varies.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(4))
        >>> round(mutual_information_gap(factors.double(), factors).gap, 6)
        1.0
    """
    _check(codes, factors)
    if codes.shape[1] < 2:  # beside a second latent much of the bias of a binned information cancels
        raise DataError(
            f"the information gap is one between latents; got codes of {codes.shape[1]}, expected at least 2."
        )
    low, high = codes.amin(0), codes.amax(0)
    width = torch.where(high > low, high - low, 1.0)
    binned = ((codes - low) / width * bins).long().clamp(max=bins - 1)
    columns = [[_information(z, v) for v in factors.T] for z in binned.T]
    information = torch.tensor(columns, dtype=torch.float64)
    entropy = torch.tensor([_information(v, v) for v in factors.T], dtype=torch.float64)
    top = information.topk(2, 0).values
    each = (top[0] - top[1]) / entropy
    return InformationGap(float(each.mean()), each, information, entropy)


def _check(codes: Tensor, factors: Tensor) -> None:
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise DataError(
            f"codes have shape (N, Z) and factors (N, F); got {tuple(codes.shape)} and {tuple(factors.shape)}."
        )
    if factors.is_floating_point() or int(factors.min()) < 0:
        raise DataError("factors are whole numbers from 0; number their values first.")
    still = [f for f, column in enumerate(factors.T) if len(column.unique()) < 2]
    if still:
        raise DataError(f"factor {still[0]} has the same value in all {len(factors)} rows; leave it out.")


def _information(a: Tensor, b: Tensor) -> float:
    """The mutual information of two columns of whole numbers, nats."""
    width = int(b.max()) + 1
    joint = torch.bincount(a * width + b, minlength=(int(a.max()) + 1) * width).double().reshape(-1, width)
    joint = joint / joint.sum()
    product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    inside = joint > 0
    return float((joint[inside] * (joint[inside] / product[inside]).log()).sum())


@dataclass(frozen=True)
class Disentanglement:
    """Disentanglement, completeness and informativeness, each from 0 to 1.

    Arguments:
        disentanglement: 1 where each latent tells of one factor only.
        completeness: 1 where each factor is told by one latent only.
        informativeness: The mean accuracy with which factors are read from codes, on held-out rows.
        importance: How much each latent matters for each factor, shape (Z, F).
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Tensor

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain data."""
        names = ("disentanglement", "completeness", "informativeness")
        return {name: getattr(self, name) for name in names} | {"importance": self.importance.tolist()}


def dci(codes: Tensor, factors: Tensor, *, seed: int = 0) -> Disentanglement:
    r"""Disentanglement, completeness and informativeness from the importances R of a random forest for each factor.

    .. math:: D = \sum_z \rho_z \Bigl(1 - \frac{H(R_{z \cdot})}{\log F}\Bigr), \quad
              C = \sum_f \kappa_f \Bigl(1 - \frac{H(R_{\cdot f})}{\log Z}\Bigr)

    with rows and columns of R scaled to sum to 1 inside H, and weights ρ, κ their shares of the sum of R.

    References:
        Eastwood, Williams (2018), A framework for the quantitative evaluation of disentangled representations.

    Arguments:
        codes: The codes, shape (N, Z), N at least 20.
        factors: The factors as whole numbers from 0, shape (N, F).
        seed: The seed of the forests and of the rows that are held out, a fifth.

    Raises:
        DataError: If the shapes do not fit, there are too few rows, or a factor never varies.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(3), torch.arange(3)).repeat(20, 1)
        >>> found = dci(factors.double(), factors)
        >>> found.disentanglement > 0.99, found.completeness > 0.99, found.informativeness
        (True, True, 1.0)
    """
    from sklearn.ensemble import RandomForestClassifier

    _check(codes, factors)
    if len(codes) < _LEAST_ROWS:
        raise DataError(f"DCI needs at least {_LEAST_ROWS} rows; got {len(codes)}.")
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    held, train = order[: len(order) // 5].numpy(), order[len(order) // 5 :].numpy()
    inputs, accuracies, columns = codes.double().cpu().numpy(), [], []
    for factor in factors.T.cpu().numpy():
        forest = RandomForestClassifier(100, random_state=seed, max_features=None).fit(inputs[train], factor[train])
        accuracies.append(float((forest.predict(inputs[held]) == factor[held]).mean()))
        columns.append(torch.from_numpy(forest.feature_importances_))
    importance = torch.stack(columns, 1)
    return Disentanglement(
        disentanglement=_purity(importance),
        completeness=_purity(importance.T),
        informativeness=sum(accuracies) / len(accuracies),
        importance=importance,
    )


def _purity(importance: Tensor) -> float:
    """One less the entropy of each row as a share of its largest, the rows weighted by their sums."""
    totals = importance.sum(1)
    shares = importance / torch.where(totals > 0, totals, 1.0)[:, None]
    if importance.shape[1] == 1:
        return 1.0
    entropy = -torch.special.xlogy(shares, shares).sum(1) / math.log(importance.shape[1])
    return float((totals * (1 - entropy)).sum() / totals.sum())
