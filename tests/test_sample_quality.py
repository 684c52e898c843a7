"""Distances between sets of features, against closed forms and cases with a known answer."""

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.distance import cdist

benchmark = pytest.importorskip("benchmarks.sample_quality", reason="benchmarks are not beside the tests")
frechet_distance, frechet_of_moments = benchmark.frechet_distance, benchmark.frechet_of_moments
kernel_distance, squared_mmd = benchmark.kernel_distance, benchmark.squared_mmd
precision_and_recall, quality = benchmark.precision_and_recall, benchmark.quality


def covariance(rng, size):
    factor = rng.normal(size=(size, size))
    return factor @ factor.T


def rows_with(rng, count, mean, covariance):
    """Rows whose sample mean and sample covariance are exactly these."""
    x = rng.normal(size=(count, len(mean)))
    x -= x.mean(0)
    white = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return mean + white @ np.linalg.cholesky(covariance).T


def test_frechet_is_the_closed_form_where_covariances_commute():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 3, 5), rng.uniform(0.1, 3, 5)
    mean, other = rng.normal(size=5), rng.normal(size=5)
    turned = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    found = frechet_of_moments(mean, turned * a @ turned.T, other, turned * b @ turned.T)
    expected = np.square(mean - other).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert found == pytest.approx(expected, abs=1e-10)


def test_frechet_is_the_one_with_the_root_of_a_product():
    rng = np.random.default_rng(1)
    first, second = covariance(rng, 6), covariance(rng, 6)
    root = scipy.linalg.sqrtm(first @ second).real
    expected = np.trace(first + second - 2 * root)
    assert frechet_of_moments(np.zeros(6), first, np.zeros(6), second) == pytest.approx(expected, abs=1e-10)


def test_frechet_of_rows_is_that_of_their_moments():
    rng = np.random.default_rng(2)
    mean, a, b = np.array([2.0, -1.0, 0.5]), covariance(rng, 3), covariance(rng, 3)
    found = frechet_distance(rows_with(rng, 40, mean, a), rows_with(rng, 60, np.zeros(3), b))
    assert found == pytest.approx(frechet_of_moments(mean, a, np.zeros(3), b), abs=1e-10)


def test_frechet_of_equal_rows_is_zero_though_their_covariance_is_singular():
    x = np.random.default_rng(3).normal(size=(5, 20))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)


def test_frechet_is_too_large_in_small_samples_by_what_is_said():
    rng, size, n, m = np.random.default_rng(4), 8, 2000, 1000
    found = [frechet_distance(rng.normal(size=(n, size)), rng.normal(size=(m, size))) for _ in range(100)]
    expected = (size + size * (size + 1) / 4) * (1 / n + 1 / m)
    assert abs(np.mean(found) - expected) < 4 * np.std(found, ddof=1) / 10


def test_the_squared_discrepancy_leaves_out_a_row_beside_itself():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(9, 3))

    def average(a, b, *, same):
        values = [(r @ s / 3 + 1) ** 3 for i, r in enumerate(a) for j, s in enumerate(b) if not (same and i == j)]
        return np.mean(values)

    expected = average(x, x, same=True) + average(y, y, same=True) - 2 * average(x, y, same=False)
    assert squared_mmd(x, y) == pytest.approx(expected, abs=1e-10)


def test_the_kernel_distance_has_mean_zero_for_equal_distributions():
    rng = np.random.default_rng(6)
    mean, se = kernel_distance(rng.normal(size=(4000, 4)), rng.normal(size=(4000, 4)), subset=50)
    assert abs(mean) < 4 * se


def test_the_kernel_distance_of_shifted_normals_is_that_of_their_moments():
    # E (xy + 1)^3 = 1 + 3 E[x] E[y] + 3 E[x²] E[y²] + E[x³] E[y³], with the moments 0, 1, 0 and 1, 2, 4.
    rng = np.random.default_rng(7)
    mean, se = kernel_distance(rng.normal(size=(20_000, 1)), 1 + rng.normal(size=(20_000, 1)), subset=100)
    assert abs(mean - (3 + 3 + 16)) < 4 * se
    assert mean > 20 * se


def test_the_error_of_the_kernel_distance_is_its_scatter():
    rng = np.random.default_rng(8)
    draws = [kernel_distance(rng.normal(size=(800, 3)), rng.normal(size=(800, 3)), subset=40) for _ in range(100)]
    means, errors = np.array(draws).T
    # Twenty subsets each, a hundred repeats: the ratio of variances is known to about a fifth.
    assert 0.4 < means.var(ddof=1) / np.square(errors).mean() < 2.0


def test_too_few_rows_for_subsets_are_refused():
    with pytest.raises(ValueError, match="fewer than two subsets of 60"):
        kernel_distance(np.zeros((100, 2)), np.zeros((200, 2)), subset=60)


def test_identical_sets_have_all_precision_and_recall():
    x = np.random.default_rng(9).normal(size=(100, 4))
    assert precision_and_recall(x, x) == (1.0, 1.0)


def test_sets_far_apart_have_none():
    rng = np.random.default_rng(10)
    assert precision_and_recall(rng.normal(size=(100, 4)), 100 + rng.normal(size=(90, 4))) == (0.0, 0.0)


def test_precision_and_recall_are_those_of_all_distances_at_once():
    rng = np.random.default_rng(11)
    drawn, real = 0.3 + rng.normal(size=(1100, 3)), 1.2 * rng.normal(size=(700, 3))

    def share(points, others):
        radii = np.sort(cdist(others, others), axis=1)[:, 3]
        return (cdist(points, others) <= radii).any(1).mean()

    assert precision_and_recall(drawn, real) == (share(drawn, real), share(real, drawn))


def test_a_dropped_mode_costs_recall_and_not_precision():
    rng = np.random.default_rng(12)
    modes = rng.normal(size=(400, 2)) + 20 * (np.arange(400) % 2)[:, None]
    precision, recall = precision_and_recall(rng.normal(size=(400, 2)), modes)
    assert precision > 0.9
    assert recall <= 0.5


def test_a_mode_that_does_not_exist_costs_precision_and_not_recall():
    rng = np.random.default_rng(13)
    modes = rng.normal(size=(400, 2)) + 20 * (np.arange(400) % 2)[:, None]
    precision, recall = precision_and_recall(modes, rng.normal(size=(400, 2)))
    assert precision <= 0.5
    assert recall > 0.9


def test_all_figures_together_are_those_of_each():
    rng = np.random.default_rng(14)
    drawn, real = 0.5 + rng.normal(size=(200, 3)), rng.normal(size=(300, 3))
    found = quality(drawn, real, subset=50, seed=3)
    assert (found.kernel, found.kernel_se) == kernel_distance(drawn, real, subset=50, seed=3)
    assert (found.precision, found.recall) == precision_and_recall(drawn, real)
    assert found.to_json()["frechet"] == frechet_distance(drawn, real)
