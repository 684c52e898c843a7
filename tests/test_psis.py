"""Pareto-smoothed importance sampling on weights with known tails."""

import math
import warnings

import pytest
import torch

from jensen import JensenError
from jensen.inference import psis


def pareto(shape, draws=10_000, rows=20, seed=0):
    """Log-weights whose exponentials have a Pareto tail of this shape; the mean weight is 1 / (1 - shape)."""
    generator = torch.Generator().manual_seed(seed)
    return -shape * torch.rand(draws, rows, generator=generator, dtype=torch.float64).log()


@pytest.mark.parametrize("shape", [0.2, 0.4, 1.0])
def test_k_hat_is_the_shape_of_the_tail(shape):
    found = psis(pareto(shape))
    tail = 300
    # The fit draws k towards 0.5 with the weight of ten draws; its standard error is (1 + k) / sqrt(tail).
    expected = (tail * shape + 10 * 0.5) / (tail + 10)
    se = (1 + shape) / math.sqrt(tail)
    assert ((found.k_hat - expected).abs() < 4 * se).all()
    assert abs(float(found.k_hat.mean()) - expected) < 4 * se / math.sqrt(20)
    assert found.reliable.all() == (shape < 0.7) and found.reliable.any() == (shape < 0.7)


def test_the_estimate_is_that_of_the_mean_weight():
    shape = 0.4
    found = psis(pareto(shape))
    # The variance of a Pareto weight is k^2 / ((1 - k)^2 (1 - 2k)).
    relative = shape / math.sqrt(1 - 2 * shape) / math.sqrt(10_000)
    z_score = (found.log_likelihood + math.log(1 - shape)) / relative
    assert z_score.abs().max() < 4
    assert abs(float(z_score.mean())) < 4 / math.sqrt(20)


def test_smoothing_lessens_the_error_where_the_tail_is_heavy():
    log_weight = pareto(0.65, draws=1000, rows=400)
    truth = -math.log(1 - 0.65)
    plain = log_weight.logsumexp(0) - math.log(1000)
    smooth = psis(log_weight).log_likelihood
    assert (smooth - truth).square().mean() < (plain - truth).square().mean()


def test_weights_below_the_tail_stay_and_order_and_level_do_not_matter():
    log_weight = pareto(0.5)
    found = psis(log_weight)
    below = log_weight <= log_weight.sort(0).values[-301]
    assert (found.log_weight - log_weight)[below].abs().max() < 1e-10
    assert (found.log_weight - log_weight)[~below].abs().max() > 0.01
    assert (found.log_weight <= log_weight.amax(0) + 1e-10).all()
    moved = psis(log_weight.flip(0) - 700.0)
    assert (moved.k_hat - found.k_hat).abs().max() < 1e-8
    assert (moved.log_likelihood + 700 - found.log_likelihood).abs().max() < 1e-8


@pytest.mark.parametrize(("draws", "threshold"), [(1000, 2 / 3), (2000, 1 - 1 / math.log10(2000)), (10_000, 0.7)])
def test_the_threshold_depends_on_the_number_of_draws(draws, threshold):
    assert abs(psis(pareto(0.3, draws, 1)).threshold - threshold) < 1e-12


def test_too_few_draws_are_refused_with_the_reason():
    with pytest.raises(JensenError, match="at least 1000 draws for each row, got 999"):
        psis(pareto(0.3, 999))
    with pytest.raises(JensenError, match="draws, rows"):
        psis(pareto(0.3)[:, 0])


def test_weights_without_a_tail():
    constant = torch.full((1000, 3), -80.0, dtype=torch.float64)
    constant[:, 1] += 1e-13 * torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    constant[:400, 2] = -math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = psis(constant)
    assert (found.k_hat == -math.inf).all() and found.reliable.all()
    assert (found.log_likelihood[:2] + 80).abs().max() < 1e-10
    assert abs(float(found.log_likelihood[2]) + 80 - math.log(0.6)) < 1e-10


def test_where_nothing_can_be_fitted_k_hat_is_unknown():
    log_weight = torch.full((1000, 2), -1.0, dtype=torch.float64)
    log_weight[:5, 0] = torch.arange(5.0, dtype=torch.float64)
    log_weight[:, 1] = -math.inf
    log_weight[:9, 1] = 0.0
    found = psis(log_weight)
    assert found.k_hat.isnan().all() and not found.reliable.any()
    assert torch.equal(found.log_likelihood, log_weight.logsumexp(0) - math.log(1000))


def test_some_weights_of_zero_are_no_hindrance():
    log_weight = pareto(0.5)
    log_weight[:4000] = -math.inf
    found = psis(log_weight)
    assert ((found.k_hat - 0.5).abs() < 0.4).all()
    assert ((found.log_likelihood - math.log(0.6 / 0.5)).abs() < 0.2).all()


def test_not_a_number_is_refused():
    log_weight = pareto(0.3)
    log_weight[5, 3] = math.nan
    with pytest.raises(JensenError, match="log-weight 5 of row 3"):
        psis(log_weight)


def test_the_number_is_an_estimate():
    number = psis(pareto(0.3)).number("valid", measure="mass")
    assert (number.kind, number.k, number.n, number.split, number.measure) == ("estimate", 10_000, 20, "valid", "mass")
    assert 0 < number.mc_se < 0.01 and str(number).startswith("≈ 0.3")
