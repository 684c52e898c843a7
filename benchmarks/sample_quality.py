"""How far drawn images are from real ones, as sets of feature vectors: three distances between two samples.

Everything here is a function of two arrays of features, (N, F) and (M, F), of which the second is of real images; what
the features are is the caller's choice, and figures compare only in the same features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Quality",
    "frechet_distance",
    "frechet_of_moments",
    "kernel_distance",
    "precision_and_recall",
    "quality",
    "squared_mmd",
]

Array = NDArray[np.float64]

_CHUNK = 500
"""Rows whose distances to all others are in memory at a time: 40 MB for 10,000 others."""


@dataclass(frozen=True)
class Quality:
    """Distances between drawn and real images in a space of features.

    Arguments:
        frechet: The squared Fréchet distance of their Gaussian fits.
        kernel: The unbiased squared maximum mean discrepancy.
        kernel_se: Its standard error over subsets.
        precision: The share of drawn images that lie among real ones.
        recall: The share of real images that lie among drawn ones.
    """

    frechet: float
    kernel: float
    kernel_se: float
    precision: float
    recall: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def quality(drawn: Array, real: Array, *, subset: int = 1000, seed: int = 0) -> Quality:
    """All figures for features of drawn images, shape (N, F), and of real ones, shape (M, F)."""
    kernel, kernel_se = kernel_distance(drawn, real, subset=subset, seed=seed)
    precision, recall = precision_and_recall(drawn, real)
    return Quality(frechet_distance(drawn, real), kernel, kernel_se, precision, recall)


def frechet_of_moments(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> float:
    r"""The squared Fréchet distance of two Gaussians.

    .. math:: |m - m'|^2 + \mathrm{tr}\bigl(S + S' - 2 (S^{1/2} S' S^{1/2})^{1/2}\bigr)

    The trace of the last root is the sum of the singular values of :math:`S^{1/2} S'^{1/2}`. No complex number and no
    iteration comes in, and matrices that are singular, as those of few rows, need no ridge.

    References:
        Dowson, Landau (1982), The Fréchet distance between multivariate normal distributions.

    Example:
        >>> frechet_of_moments(np.zeros(2), np.eye(2), np.array([3.0, 0.0]), 4 * np.eye(2))
        11.0
    """
    cross = np.linalg.svd(_root(covariance) @ _root(other_covariance), compute_uv=False).sum()
    apart = np.square(mean - other_mean).sum()
    return float(apart + np.trace(covariance) + np.trace(other_covariance) - 2 * cross)


def _root(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    root: Array = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return root


def frechet_distance(drawn: Array, real: Array) -> float:
    r"""The squared Fréchet distance of the Gaussians with the means and covariances of two sets of features.

    It is too large in small samples: by :math:`(F + F(F + 1)/4)(1/N + 1/M)` in the first order where both sets are of
    one normal distribution with unit covariance. Figures compare at the same number of rows only, and a line of real
    images shows the floor.

    References:
        Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter (2017), GANs trained by a two time-scale update rule converge
        to a local Nash equilibrium.

    Arguments:
        drawn: The features of drawn images, shape (N, F).
        real: Those of real ones, shape (M, F).
    """
    moments = [(x.mean(0), np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1])) for x in _doubles(drawn, real)]
    return frechet_of_moments(*moments[0], *moments[1])


def squared_mmd(x: Array, y: Array) -> float:
    r"""The unbiased squared maximum mean discrepancy with the kernel :math:`k(a, b) = (a^T b / F + 1)^3`.

    It may be negative. A row is never compared with itself, which is what makes its mean zero for equal distributions.

    References:
        Gretton, Borgwardt, Rasch, Schölkopf, Smola (2012), A kernel two-sample test, lemma 6.
    """
    within = []
    for part in (x, y):
        products = _cubic(part, part)
        within.append((products.sum() - np.trace(products)) / (len(part) * (len(part) - 1)))
    return float(sum(within) - 2 * _cubic(x, y).mean())


def kernel_distance(drawn: Array, real: Array, *, subset: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The mean of :func:`squared_mmd` over random subsets, and its standard error.

    The subsets are disjoint, so that they are independent and their scatter gives an honest error, which overlapping
    ones would not. Unlike the Fréchet distance it has no bias in small samples.

    References:
        Bińkowski, Sutherland, Arbel, Gretton (2018), Demystifying MMD GANs.

    Arguments:
        drawn: The features of drawn images, shape (N, F).
        real: Those of real ones, shape (M, F).
        subset: The number of rows in a subset; each set must have at least two subsets.
        seed: The seed of their choice.

    Raises:
        ValueError: If there are fewer than two subsets.
    """
    x, y = _doubles(drawn, real)
    count = min(len(x), len(y)) // subset
    if count < 2:
        raise ValueError(f"{len(x)} and {len(y)} rows make fewer than two subsets of {subset}; choose a smaller one.")
    generator = np.random.default_rng(seed)
    places = [generator.permutation(len(part))[: count * subset].reshape(count, subset) for part in (x, y)]
    found = np.array([squared_mmd(x[here], y[there]) for here, there in zip(*places, strict=True)])
    return float(found.mean()), float(found.std(ddof=1) / np.sqrt(count))


def precision_and_recall(drawn: Array, real: Array, k: int = 3) -> tuple[float, float]:
    """The share of drawn images that lie among real ones, and of real images that lie among drawn ones.

    A point lies among others if it is no further from one of them than that one's k-th nearest neighbour in its own
    set.

    References:
        Kynkäänniemi, Karras, Laine, Lehtinen, Aila (2019), Improved precision and recall metric for assessing
        generative models.

    Arguments:
        drawn: The features of drawn images, shape (N, F).
        real: Those of real ones, shape (M, F).
        k: Which neighbour.
    """
    x, y = _doubles(drawn, real)
    return _share_among(x, y, k), _share_among(y, x, k)


def _share_among(points: Array, others: Array, k: int) -> float:
    """The share of points that lie in a ball around one of the others which reaches to its k-th neighbour."""
    # The nearest of all is the point itself, hence the place k in an order that begins with 0.
    radii = np.concatenate([np.partition(rows, k, axis=1)[:, k] for rows in _squared_distances(others, others)])
    inside = [(rows <= radii).any(1) for rows in _squared_distances(points, others)]
    return float(np.concatenate(inside).mean())


def _squared_distances(x: Array, y: Array) -> Iterator[Array]:
    """Squared distances of rows of x to all of y, some rows at a time."""
    lengths = np.square(y).sum(1)
    for start in range(0, len(x), _CHUNK):
        rows = x[start : start + _CHUNK]
        yield (np.square(rows).sum(1)[:, None] + lengths - 2 * rows @ y.T).clip(0)


def _cubic(x: Array, y: Array) -> Array:
    kernel: Array = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def _doubles(x: Array, y: Array) -> tuple[Array, Array]:
    return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
