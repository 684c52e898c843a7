"""Free baselines of the same measure as a model: what simple densities make of the same rows."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import SPLITS, Schema, Splits
from .ngrams import ngram

__all__ = [
    "Baseline",
    "baselines",
    "bernoulli_mixture",
    "independent_bernoulli",
    "independent_histogram",
    "independent_normal",
    "probabilistic_pca",
    "rows_fitted",
]

_MOST_VALUES = 2**26


@dataclass(frozen=True)
class Baseline:
    """The log-likelihood of each test row under a simple model, nats, shape (N,), float64."""

    log_likelihood: Tensor
    kind: Literal["exact", "lower"] = "exact"
    measure: Literal["mass", "density"] = "mass"


def rows_fitted(splits: Splits, split: str = "train") -> int:
    """How many rows of a split baselines see: all, or as many as hold 67 million values, of which copies are made."""
    rows = len(splits.stored[split])
    return rows if splits.schema.kind == "tokens" else min(rows, max(2, _MOST_VALUES // splits.schema.size))


def _seen(splits: Splits, split: str) -> Tensor:
    """The rows of a split that baselines see, from all over, each as a vector."""
    rows, seen = splits.frozen(split).flatten(1), rows_fitted(splits, split)
    return rows if seen == len(rows) else rows[torch.linspace(0, len(rows) - 1, seen).long()]


def baselines(splits: Splits, latents: int) -> dict[str, Baseline]:
    """The two baselines that fit the kind of the data, fitted on the training rows and scored on the test rows.

    Of very many values they see a part of the training and validation rows (:func:`rows_fitted`), but all test rows.

    Arguments:
        splits: The data.
        latents: The width of probabilistic PCA, that of the model.
    """
    schema = splits.schema
    if schema.kind == "tokens":
        return _of_tokens(splits)
    train, valid, test = _seen(splits, "train"), _seen(splits, "valid"), splits.frozen("test").flatten(1)
    if schema.binary:
        return {
            "independent pixels": Baseline(independent_bernoulli(train, test)),
            "mixture of 50 Bernoulli products": Baseline(bernoulli_mixture(train, test)),
        }
    if schema.kind == "binned":
        return _binned(schema, train, valid, test, latents)
    jacobian = schema.log_jacobian
    results = {"independent normals": Baseline(independent_normal(train, test) + jacobian, measure="density")}
    if min(train.shape) > 1:
        train, valid, test = train.double(), valid.double(), test.double()
        density = _chosen_pca(train, valid, test, latents) + jacobian
        results["probabilistic PCA"] = Baseline(density, measure="density")
    return results


def _of_tokens(splits: Splits) -> dict[str, Baseline]:
    train, valid, test = (splits.stored[split] for split in SPLITS)
    named = {"unigram": 1, "bigram": 2, "5-gram": 5}
    return {name: Baseline(ngram(train, valid, test, n, splits.schema.levels)) for name, n in named.items()}


def _binned(schema: Schema, train: Tensor, valid: Tensor, test: Tensor, latents: int) -> dict[str, Baseline]:
    train, valid, test = ((rows * (schema.levels - 1)).round().long() for rows in (train, valid, test))
    results = {"independent histograms": Baseline(independent_histogram(train, valid, test, schema.levels))}
    if min(train.shape) > 1:
        generator = torch.Generator().manual_seed(0)
        # The density of level + u, u uniform on [0, 1), bounds the mass of the level from below in expectation.
        noise = (torch.rand(rows.shape, generator=generator, dtype=torch.float64) for rows in (train, valid, test))
        smooth = [rows + u for rows, u in zip((train, valid, test), noise, strict=True)]
        density = _chosen_pca(smooth[0], smooth[1], smooth[2], latents)
        results["probabilistic PCA, dequantised"] = Baseline(density, "lower")
    return results


def independent_bernoulli(train: Tensor, test: Tensor) -> Tensor:
    r"""Pixels as independent coins: :math:`\log p(x) = \sum_d x_d \log p_d + (1 - x_d) \log (1 - p_d)`.

    Arguments:
        train: Zeros and ones, shape (N, D).
        test: Zeros and ones, shape (M, D).

    Example:
        >>> independent_bernoulli(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0]])).exp()
        tensor([0.5000], dtype=torch.float64)
    """
    p = (train.double().sum(0) + 0.5) / (len(train) + 1)
    return test.double() @ (p / (1 - p)).log() + torch.log1p(-p).sum()


def bernoulli_mixture(
    train: Tensor, test: Tensor, components: int = 50, iterations: int = 100, seed: int = 0
) -> Tensor:
    r"""A mixture of products of coins, :math:`\log \sum_c \pi_c \prod_d p_{cd}^{x_d} (1 - p_{cd})^{1 - x_d}`, by EM.

    References:
        Dempster, Laird, Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm.

    Arguments:
        train: Zeros and ones, shape (N, D).
        test: Zeros and ones, shape (M, D).
        components: The number of components; at most half the number of training rows.
        iterations: The largest number of EM steps; they end earlier when the bound stands still.
        seed: The seed of the initial components.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(50, 1)
        >>> log_p = bernoulli_mixture(x, x[:2], components=2)
        >>> bool((log_p > math.log(0.45)).all())
        True
    """
    components = max(1, min(components, len(train) // 2))
    generator = torch.Generator().manual_seed(seed)
    start = torch.randperm(len(train), generator=generator)[:components]
    p, weight = 0.25 + 0.5 * train[start].float(), torch.full((components,), 1 / components)
    before = -math.inf
    for _ in range(iterations):
        joint = _mixture_joint(train, p, weight)
        evidence = joint.logsumexp(1)
        responsibility = (joint - evidence[:, None]).exp()
        mass = responsibility.sum(0)
        p = (responsibility.T @ train + 0.5) / (mass[:, None] + 1)
        weight = (mass + 0.5) / (len(train) + 0.5 * components)
        now = float(evidence.double().mean())
        if now - before < 1e-4:
            break
        before = now
    result: Tensor = _mixture_joint(test, p, weight).double().logsumexp(1)
    return result


def _mixture_joint(x: Tensor, p: Tensor, weight: Tensor) -> Tensor:
    return x @ (p / (1 - p)).log().T + torch.log1p(-p).sum(1) + weight.log()


def independent_histogram(train: Tensor, valid: Tensor, test: Tensor, levels: int) -> Tensor:
    r"""A histogram for each dimension, with a pseudo-count chosen on the validation rows.

    Arguments:
        train: Levels as integers, shape (N, D).
        valid: Likewise, for the choice of the pseudo-count.
        test: Likewise, shape (M, D).
        levels: The number of levels.

    Example:
        >>> x = torch.tensor([[0], [1], [1], [1]])
        >>> independent_histogram(x, x, x[:1], 2).exp()
        tensor([0.2501], dtype=torch.float64)
    """
    counts = torch.zeros(train.shape[1], levels, dtype=torch.float64)
    for column, values in enumerate(train.T):
        counts[column] = torch.bincount(values, minlength=levels)
    best: tuple[float, Tensor] = (-math.inf, torch.empty(0))
    for pseudo in (0.001, 0.01, 0.1, 1.0):
        log_p = ((counts + pseudo) / (len(train) + pseudo * levels)).log()
        score = float(log_p.T.gather(0, valid).sum(1).mean())
        if score > best[0]:
            best = score, log_p
    return best[1].T.gather(0, test).sum(1)


def independent_normal(train: Tensor, test: Tensor) -> Tensor:
    """A normal for each dimension.

    Arguments:
        train: Shape (N, D).
        test: Shape (M, D).

    Example:
        >>> independent_normal(torch.tensor([[-1.0], [1.0]]), torch.tensor([[0.0]]))
        tensor([-0.9189], dtype=torch.float64)
    """
    loc, scale = train.double().mean(0), train.double().std(0, correction=0).clamp(min=1e-4)
    log_p: Tensor = torch.distributions.Normal(loc, scale).log_prob(test.double()).sum(1)
    return log_p


def probabilistic_pca(train: Tensor, test: Tensor, latents: int) -> Tensor:
    r"""The density :math:`N(x; \mu, W W^\top + \sigma^2 I)` of the principal components and the mean of the rest.

    References:
        Tipping, Bishop (1999), Probabilistic principal component analysis.

    Arguments:
        train: Shape (N, D).
        test: Shape (M, D).
        latents: The number of components; at most one less than N and D.

    Example:
        >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> log_p = probabilistic_pca(x, x, 1).mean()
        >>> bool((log_p - 3 * -0.5 * math.log(2 * math.pi * math.e)).abs() < 0.1)
        True
    """
    return _Components(train, min(latents, train.shape[1] - 1, len(train) - 1)).log_prob(test)


def _chosen_pca(train: Tensor, valid: Tensor, test: Tensor, latents: int) -> Tensor:
    """Probabilistic PCA of the width, up to that of the model, which describes the validation rows best."""
    # At least two dimensions of the training rows are left to the noise, which would otherwise be nought.
    most = max(0, min(latents, train.shape[1] - 1, len(train) - 2))
    found = _Components(train, most)
    widths = sorted({0, most, *(2**i for i in range(most.bit_length()))})
    scores = [float(found.log_prob(valid, width).mean()) for width in widths]
    return found.log_prob(test, widths[scores.index(max(scores))])


class _Components:
    """The principal components of training rows, and the density of probabilistic PCA of any width up to theirs."""

    def __init__(self, train: Tensor, width: int) -> None:
        from sklearn.decomposition import PCA  # slow to import

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # constant columns; their variance is floored below
            pca = PCA(n_components=width, svd_solver="auto", random_state=0).fit(train.numpy())
        self.mean = torch.from_numpy(pca.mean_)
        self.components = torch.from_numpy(pca.components_)
        # Of highest likelihood are the variances that divide by the number of rows, not by one less.
        share = (len(train) - 1) / len(train)
        self.variance = (torch.from_numpy(pca.explained_variance_) * share).clamp(min=1e-8)
        self.total = float(train.var(0, correction=0).sum())

    def log_prob(self, x: Tensor, width: int | None = None) -> Tensor:
        size = x.shape[1]
        width = len(self.components) if width is None else width
        variance, components = self.variance[:width], self.components[:width]
        noise = max((self.total - float(variance.sum())) / (size - width), 1e-8)
        centred = x - self.mean
        inside = centred @ components.T
        outside = F.relu(centred.square().sum(1) - inside.square().sum(1))
        log_det = variance.log().sum() + (size - width) * math.log(noise)
        distance = (inside.square() / variance).sum(1) + outside / noise
        return -0.5 * (size * math.log(2 * math.pi) + log_det + distance)
