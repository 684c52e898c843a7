"""Distributions that torch lacks, against closed forms, quadrature and enumeration."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from jensen import distributions, families
from jensen.distributions.categorical import chosen

LOGITS = [sign * size for size in (1e-4, 1e-2, 0.14999, 0.15, 1.0, 20.0, 100.0, 1e4) for sign in (1, -1)] + [0.0]
both_types = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def exact_log_normaliser(a):
    """log((e^a - 1) / a) in float64, without cancellation."""
    size = abs(a)
    if size == 0:
        return 0.0
    from_series = math.log(math.fsum(size**n / math.factorial(n + 1) for n in range(30))) if size < 2 else None
    value = from_series if from_series is not None else size + math.log(-math.expm1(-size)) - math.log(size)
    return value if a > 0 else value - size


@both_types
@pytest.mark.parametrize("a", LOGITS)
def test_the_continuous_bernoulli_has_the_right_density(a, dtype):
    a = float(torch.tensor(a, dtype=dtype))
    x = torch.tensor([0.0, 0.3, 0.5, 1.0], dtype=dtype)
    log_prob = distributions.ContinuousBernoulli(torch.tensor(a, dtype=dtype)).log_prob(x).double()
    exact = a * x.double() - exact_log_normaliser(a)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(log_prob, exact, rtol=4 * eps, atol=4 * eps + 4e-16 * abs(a))


@both_types
@pytest.mark.parametrize("a", LOGITS)
def test_the_continuous_bernoulli_integrates_to_one(a, dtype):
    d = distributions.ContinuousBernoulli(torch.tensor(a, dtype=dtype))
    x = (torch.linspace(0, 1, 4001, dtype=torch.float64) * min(1.0, 40 / max(abs(a), 1e-9))).to(dtype)
    # In float32 values near 1 have lost the digits that a far logit needs: the mirror image has the same integral.
    mirrored = distributions.ContinuousBernoulli(torch.tensor(-abs(a), dtype=dtype)) if abs(a) > 40 else d
    total = float(torch.trapezoid(mirrored.log_prob(x).double().exp(), x.double()))
    assert abs(total - 1) < 2e-5


@both_types
@pytest.mark.parametrize("a", LOGITS)
def test_mean_variance_and_gradient_of_the_continuous_bernoulli(a, dtype):
    eps = torch.finfo(dtype).eps
    logits = torch.tensor(a, dtype=dtype, requires_grad=True)
    d = distributions.ContinuousBernoulli(logits)
    exact = scipy.stats.truncexpon(b=abs(float(logits.detach()))) if abs(a) >= 0.1 else None
    if exact is not None:  # scipy's distance from the nearer end, in units of 1/|a|
        size = abs(float(logits.detach()))
        below = exact.mean() / size
        mean, variance = (1 - below if a > 0 else below), exact.var() / size**2
    else:
        a = float(logits.detach())
        mean, variance = 0.5 + a / 12 - a**3 / 720, 1 / 12 - a**2 / 240
    assert float(d.mean.detach()) == pytest.approx(mean, rel=1e-9 + 60 * eps)
    assert float(d.variance.detach()) == pytest.approx(variance, rel=1e-6 + 2000 * eps)
    # The derivative of log p in the logit is x minus the mean, at zero as elsewhere.
    for x in (0.0, 0.25, 1.0):
        (slope,) = torch.autograd.grad(distributions.ContinuousBernoulli(logits).log_prob(torch.tensor(x)), logits)
        assert float(slope) == pytest.approx(x - mean, rel=1e-9, abs=1e-9 + 60 * eps)


@both_types
@pytest.mark.parametrize("a", LOGITS)
def test_the_inverse_of_the_continuous_bernoulli_gives_back_the_share(a, dtype):
    d = distributions.ContinuousBernoulli(torch.tensor(a, dtype=dtype))
    share = torch.linspace(0, 1, 11, dtype=dtype)
    x = d.icdf(share).double()
    assert ((x >= 0) & (x <= 1)).all()
    a = float(d.logits)
    below = torch.expm1(-abs(a) * (1 - x if a > 0 else x)) / math.expm1(-abs(a)) if a else x
    # float32 cannot place a value close to 1 more finely than its spacing, times the density there.
    tolerance = (1e-12 if dtype is torch.float64 else 1e-6) * (1 + abs(a))
    torch.testing.assert_close(1 - below if a > 0 else below, share.double(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("df", [1.5, 5.0, 100.0, 1e4])
def test_the_t_of_single_precision_agrees_with_scipy(df):
    d = distributions.StudentT(torch.tensor(df), torch.tensor(0.5), torch.tensor(2.0))
    x = torch.tensor([-20.0, 0.5, 3.0])
    exact = scipy.stats.t(df, 0.5, 2.0).logpdf(x.double().numpy())
    torch.testing.assert_close(d.log_prob(x).double(), torch.as_tensor(exact), rtol=2e-6, atol=2e-6)


def test_a_mixture_of_discretised_logistics_is_the_sum_of_its_components():
    torch.manual_seed(0)
    family = families.DiscretizedLogisticMixture(1, levels=17, components=3)
    logits, loc, raw = (torch.randn(1, 3, dtype=torch.float64) for _ in range(3))
    x = distributions.UnitGrid(17).values().double()
    centres = (torch.arange(3) + 0.5) / 3
    direct = sum(
        weight * distributions.DiscretizedLogistic(m + c, distributions.bounded_scale(r - 2), 17).log_prob(x).exp()
        for weight, m, c, r in zip(logits[0].softmax(0), loc[0], centres, raw[0], strict=True)
    )
    torch.testing.assert_close(family.double()(logits, loc, raw).log_prob(x[:, None]).exp(), direct, rtol=1e-7, atol=0)


MARGINALS = {
    "continuous-bernoulli": (families.ContinuousBernoulli(3), torch.rand),
    "log-normal": (families.LogNormal(3, families.PredictedScale()), lambda *s: torch.randn(*s).mul(0.5).exp()),
    "mixture": (families.DiscretizedLogisticMixture(3, 17, 4), lambda *s: torch.randint(0, 17, s) / 16),
    "student": (families.StudentT(3, families.PredictedScale(), degrees=50.0), torch.randn),
}


@pytest.mark.parametrize("name", MARGINALS)
def test_training_starts_near_the_mean_of_the_data(name):
    family, draw = MARGINALS[name]
    torch.manual_seed(0)
    x = draw(4000, 3) * (torch.tensor([1.0, 0.5, 1.0]) if name != "mixture" else 1)
    parameters = family.marginal(x)
    assert [p.shape for p in parameters] == [torch.Size(s) for s in family.parameter_shapes]
    mean = family(*parameters).mean.detach()
    assert ((mean - x.mean(0)).abs() < 0.05 * x.std(0) + 0.02).all()
    constant = family.marginal(torch.ones(10, 3))  # a dimension that never varies
    assert all(p.isfinite().all() for p in constant)


COINS = {
    "coins": lambda logits: distributions.Bernoulli(logits=logits),
    "straight-through": lambda logits: distributions.StraightThroughBernoulli(logits, 0.5),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
@pytest.mark.parametrize("x", [0.0, 1.0])
@pytest.mark.parametrize("coins", COINS.values(), ids=COINS)
def test_coins_are_scored_to_the_last_digits_of_their_logits(dtype, tolerance, x, coins):
    logits = torch.linspace(-90, 90, 721, dtype=dtype, requires_grad=True)
    log_prob = coins(logits).log_prob(torch.full_like(logits, x))
    exact = -np.logaddexp(0.0, (1 - 2 * x) * logits.detach().double().numpy())
    np.testing.assert_allclose(log_prob.detach().double().numpy(), exact, atol=tolerance, rtol=0)
    (slope,) = torch.autograd.grad(log_prob.sum(), logits)
    torch.testing.assert_close(slope, x - logits.detach().sigmoid(), atol=tolerance, rtol=0)


def test_coins_of_short_numbers_keep_their_small_log_probabilities():
    logits = torch.tensor([8.0, -8.0, 0.5], dtype=torch.bfloat16)
    log_prob = distributions.Bernoulli(logits=logits).log_prob(torch.tensor([1.0, 0.0, 1.0], dtype=torch.bfloat16))
    exact = torch.tensor([-math.log1p(math.exp(-8))] * 2 + [-math.log1p(math.exp(-0.5))])
    torch.testing.assert_close(log_prob.float(), exact, rtol=1e-2, atol=0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64])
@pytest.mark.parametrize("shapes", [((3,), (2, 3)), ((4, 2, 3), (2, 3)), ((4, 1, 3), (2, 1))])
def test_coins_take_values_of_any_type_and_shape(dtype, shapes):
    logits, coins = torch.randn(shapes[0]), torch.randint(2, shapes[1])
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(coins.float())
    before = logits.clone()
    found = distributions.Bernoulli(logits=logits, validate_args=False).log_prob(coins.to(dtype))
    torch.testing.assert_close(found, expected)
    assert torch.equal(logits, before)


def test_the_divergence_of_coins_keeps_its_digits():
    q, p = (distributions.Bernoulli(logits=torch.tensor(a, dtype=torch.float64)) for a in (21.0, 25.0))
    on, off = 1 / (1 + math.exp(-21)), math.exp(-21) / (1 + math.exp(-21))
    exact = on * (math.log1p(math.exp(-25)) - math.log1p(math.exp(-21))) + off * (
        -21 - math.log1p(math.exp(-21)) + 25 + math.log1p(math.exp(-25))
    )
    assert float(distributions.closed_form_kl(q, p)) == pytest.approx(exact, abs=1e-14)


def test_categories_have_the_frequencies_of_their_probabilities():
    probabilities = torch.tensor([[0.1, 0.0, 0.6, 0.3, 0.0], [0.0, 0.5, 0.0, 0.0, 0.5]], dtype=torch.float64)
    torch.manual_seed(3)
    drawn = distributions.Categorical(logits=probabilities.log()).sample((20_000,))
    assert drawn.shape == (20_000, 2)
    share = torch.stack([(drawn == number).double().mean(0) for number in range(5)], -1)
    error = (probabilities * (1 - probabilities) / 20_000).sqrt()
    assert ((share - probabilities).abs() <= 4.5 * error).all()  # what is impossible was never drawn


def test_numbers_at_the_ends_draw_no_impossible_category():
    logits = torch.tensor([-math.inf, 0.3, -0.2, 0.1, -math.inf])
    ends = torch.tensor([0.0, 1 - 2**-53, 0.5], dtype=torch.float64)
    assert chosen(logits, ends).tolist() == [1, 3, 2]
    many = torch.randn(500, 7, generator=torch.Generator().manual_seed(0))
    many[:, -1] = -math.inf
    assert (chosen(many, torch.full((500,), 1 - 2**-53, dtype=torch.float64)) == 5).all()


def test_choices_are_the_same_in_blocks(monkeypatch):
    logits, uniform = torch.randn(3, 5, 4), torch.rand(2, 3, 5)
    expected = (uniform[..., None] >= logits.softmax(-1).cumsum(-1)).sum(-1).clamp(max=3)
    assert torch.equal(chosen(logits, uniform), expected)
    monkeypatch.setattr("jensen.distributions.categorical._BLOCK", 8)
    assert torch.equal(chosen(logits, uniform), expected)


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_variance_on_a_grid_is_the_sum_over_its_points(levels, dtype):
    loc = torch.tensor([-3.0, -0.2, 0.0, 0.31, 0.5, 0.999, 1.0, 4.0], dtype=dtype)
    values = distributions.UnitGrid(levels).values().double()
    for scale in (1e-3, 0.05, 1.0, 30.0):
        for d in (
            distributions.DiscretizedLogistic(loc, torch.tensor(scale, dtype=dtype), levels),
            distributions.BinnedCategorical(
                scale * torch.randn(8, levels, generator=torch.Generator().manual_seed(0)).to(dtype)
            ),
        ):
            shares = d.log_prob(values[:, None].to(dtype).expand(levels, 8)).double().exp()
            mean = (shares * values[:, None]).sum(0)
            exact = (shares * (values[:, None] - mean).square()).sum(0)
            torch.testing.assert_close(
                d.variance.double(), exact, rtol=1e-3 if dtype == torch.float32 else 1e-9, atol=1e-9
            )
