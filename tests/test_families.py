"""The contract that every family keeps; a new family is one more row of FAMILIES."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import constraints

from jensen import Conditional, JensenError, distributions, families, nets
from jensen.errors import OptionError, ShapeError, SupportError

FAMILIES = {
    "normal-shared": lambda shape: families.Normal(shape, scale=families.SharedScale(0.7)),
    "normal-fixed": lambda shape: families.Normal(shape, scale=families.FixedScale(0.7)),
    "normal-per-dimension": lambda shape: families.Normal(shape, scale=families.PerDimensionScale(shape, 0.7)),
    "normal-predicted": lambda shape: families.Normal(shape, scale=families.PredictedScale()),
    "normal-full": lambda shape: families.FullNormal(math.prod(shape)),
    "bernoulli": families.Bernoulli,
    "categorical-2": lambda shape: families.Categorical(shape, levels=2),
    "categorical-5": lambda shape: families.Categorical(shape, levels=5),
    "logistic-2": lambda shape: families.DiscretizedLogistic(shape, levels=2),
    "logistic-3": lambda shape: families.DiscretizedLogistic(shape, levels=3),
    "logistic-17": lambda shape: families.DiscretizedLogistic(shape, levels=17),
    "logistic-256": lambda shape: families.DiscretizedLogistic(shape, levels=256),
    "mixture-3": lambda shape: families.DiscretizedLogisticMixture(shape, levels=3, components=4),
    "mixture-256": lambda shape: families.DiscretizedLogisticMixture(shape, levels=256, components=2),
    "continuous-bernoulli": families.ContinuousBernoulli,
    "student": families.StudentT,
    "student-fixed": lambda shape: families.StudentT(shape, families.PredictedScale(), degrees=3.0, learned=False),
    "log-normal": lambda shape: families.LogNormal(shape, families.SharedScale(0.5)),
    "log-normal-predicted": lambda shape: families.LogNormal(shape, families.PredictedScale()),
}
EXTREMES = [-1e4, -30.0, 0.0, 30.0, 1e4]
every_family = pytest.mark.parametrize("name", FAMILIES)


def raw_parameters(family, batch, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(*batch, *shape, generator=generator) for shape in family.parameter_shapes]


def grid_of(family, distribution):
    """All values of a mass with weights of one; for a density a grid that resolves it, with its steps."""
    if family.measure == "mass":
        values = distributions.UnitGrid(getattr(family, "levels", 2)).values().double()
        return values, torch.ones_like(values)
    base = getattr(distribution, "base_dist", None)
    u = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    if family.support is constraints.unit_interval:
        u, sizes = torch.linspace(0, 1, 4001, dtype=torch.float64), 1 / (1 + base.logits.detach().abs())
        # Finer towards both ends, where a far logit puts everything.
        values = torch.cat([u * 40 * sizes, 1 - u * 40 * sizes, u]).clamp(0, 1).unique()
    elif isinstance(base, distributions.StudentT):
        scale = base.scale.detach()
        return base.loc.detach() + scale * torch.sinh(4 * u), scale * torch.cosh(4 * u) * 0.02
    elif family.support is constraints.positive:
        scale = base.base_dist.scale.detach()
        values = (base.base_dist.loc.detach() + scale * u).exp()
        return values, values * scale * 0.005
    else:
        values = distribution.mean.detach() + distribution.stddev.detach() * u
    weights = torch.zeros_like(values)
    weights[1:] += 0.5 * values.diff()
    weights[:-1] += 0.5 * values.diff()
    return values, weights


def support_points(family):
    """Rows of one value each, from the whole support."""
    if family.measure == "mass":
        return distributions.UnitGrid(getattr(family, "levels", 2)).values()[:, None]
    if family.support is constraints.unit_interval:
        return torch.tensor([0.0, 1e-6, 0.5, 1.0])[:, None]
    if family.support is constraints.positive:
        return torch.tensor([1e-30, 1e-4, 1.0, 1e4])[:, None]
    return torch.tensor([-1e4, -1.0, 0.0, 0.3, 1e4])[:, None]


def total(family, parameters):
    family = family.double()
    if isinstance(family, families.LogNormal):  # beyond, the values themselves overflow
        parameters = [parameters[0].clamp(-30, 30), *(p.clamp(max=3.0) for p in parameters[1:])]
    distribution = family(*(p.double() for p in parameters))
    values, weights = grid_of(family, distribution)
    return float((distribution.log_prob(values[:, None]).exp() * weights).sum().detach())


@every_family
@settings(max_examples=15, deadline=None)
@given(numbers=st.lists(st.floats(-8, 8), min_size=5, max_size=5))
def test_probabilities_sum_to_one(name, numbers):
    family = FAMILIES[name]((1,))
    parameters = [torch.tensor(numbers[: math.prod(s)]).reshape(s) for s in family.parameter_shapes]
    assert abs(total(family, parameters) - 1) < 1e-4


@every_family
@pytest.mark.parametrize("loc", EXTREMES)
@pytest.mark.parametrize("raw_scale", EXTREMES)
def test_probabilities_sum_to_one_at_extremes(name, loc, raw_scale):
    family = FAMILIES[name]((1,))
    filled = [torch.full(s, v) for s, v in zip(family.parameter_shapes, (loc, raw_scale, 0.0), strict=False)]
    if name in ("normal-predicted", "normal-full", "student-fixed"):
        filled[0] = filled[0].clamp(-30, 30)  # a grid of doubles cannot resolve 1e-4 around 1e4
    assert abs(total(family, filled) - 1) < 1e-4


@every_family
@pytest.mark.parametrize("loc", EXTREMES)
@pytest.mark.parametrize("raw_scale", EXTREMES)
def test_log_prob_and_gradients_are_finite_at_extremes(name, loc, raw_scale):
    family = FAMILIES[name]((1,))
    points = support_points(family)
    parameters = [
        torch.full((len(points), *shape), value).requires_grad_()
        for shape, value in zip(family.parameter_shapes, (loc, raw_scale, 0.0), strict=False)
    ]
    log_prob = family(*parameters).log_prob(points)
    assert log_prob.shape == (len(points),)
    assert log_prob.isfinite().all()
    log_prob.sum().backward()
    for tensor in (*parameters, *family.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@every_family
def test_samples_lie_in_the_support_and_average_to_the_mean(name):
    family = FAMILIES[name]((2, 3)) if name != "normal-full" else families.FullNormal(6)
    parameters = raw_parameters(family, (4,), scale=0.7)
    if name == "log-normal-predicted":
        parameters[1] -= 1.5  # the mean of a wide one is made by draws too rare to be seen
    distribution = family(*parameters)
    draws = 20_000
    torch.manual_seed(1)
    samples = distribution.sample((draws,))
    assert samples.shape == (draws, 4, *family.event_shape)
    assert family.support.check(samples).all()
    # The second part is for values so rare that hardly any was drawn.
    tolerance = 4 * samples.double().std(0) / draws**0.5 + 4 / draws
    assert ((samples.double().mean(0) - distribution.mean.detach().double()).abs() <= tolerance).all()


@every_family
def test_log_prob_is_one_number_for_each_example(name):
    family = FAMILIES[name]((2, 3)) if name != "normal-full" else families.FullNormal(6)
    net = nets.mlp(2, sum(math.prod(s) for s in family.parameter_shapes), hidden=(4,))
    model = Conditional(net, family)
    torch.manual_seed(0)
    x = model(torch.zeros(5, 2)).sample()
    assert model(torch.randn(7, 5, 2)).log_prob(x).shape == (7, 5)
    assert model.measure == family.measure
    model.check(x)


OUTSIDE = {
    "normal": float("nan"),
    "bernoulli": 0.5,
    "categorical": 0.9,
    "logistic": 1.5,
    "mixture": 0.3,
    "continuous": -0.1,
    "student": float("nan"),
    "log": 0.0,
}


@every_family
def test_data_outside_the_support_are_refused_by_row_and_position(name):
    family = FAMILIES[name]((6,))
    model = Conditional(nets.mlp(2, sum(math.prod(s) for s in family.parameter_shapes)), family)
    x = torch.ones(5, 6)
    model.check(x)
    bad = x.clone()
    bad[3, 4] = OUTSIDE[name.split("-")[0]]
    with pytest.raises(SupportError, match=r"row 3 at position \[4\] \(1 of 30"):
        model.check(bad)
    bad[3, 4] = math.inf
    with pytest.raises(SupportError, match="row 3"):
        model.check(bad)
    with pytest.raises(ShapeError, match=r"\(6,\).*\(7,\)"):
        model.check(torch.zeros(5, 7))


@every_family
def test_a_network_with_another_number_of_outputs_is_refused(name):
    family = FAMILIES[name]((6,))
    with pytest.raises(ShapeError, match=type(family).__name__):
        Conditional(nets.mlp(2, 1), family)(torch.zeros(3, 2))


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("scale", [0.02, 0.3, 3.0])
@pytest.mark.parametrize("loc", [-0.2, 0.1, 0.5, 0.97])
def test_the_discretised_logistic_is_a_difference_of_sigmoids(levels, scale, loc):
    x = distributions.UnitGrid(levels).values().double()
    loc, scale = torch.tensor(loc).double(), torch.tensor(scale).double()
    half = 0.5 / (levels - 1)
    upper = torch.where(x > 1 - half, 1.0, torch.sigmoid((x + half - loc) / scale))
    lower = torch.where(x < half, 0.0, torch.sigmoid((x - half - loc) / scale))
    direct = upper - lower
    log_prob = distributions.DiscretizedLogistic(loc, scale, levels).log_prob(x)
    sure = direct > 1e-6  # below, the direct difference has lost its digits
    assert sure.any()
    torch.testing.assert_close(log_prob[sure], direct[sure].log(), rtol=1e-9, atol=1e-9)


def test_a_discretised_logistic_far_away_keeps_its_bins_apart():
    d = distributions.DiscretizedLogistic(torch.tensor(1e4), torch.tensor(1.0), 256)
    log_prob = d.log_prob(distributions.UnitGrid(256).values())
    assert log_prob.isfinite().all()
    assert float(log_prob[128]) == pytest.approx(128 / 255 - 1e4 - math.log(255), rel=1e-5)


@pytest.mark.parametrize("name", ["normal", "bernoulli"])
def test_twice_the_resolution_is_four_times_the_log_likelihood(name):
    def make(shape):
        if name == "normal":
            return families.Normal(shape, scale=families.FixedScale(0.3)).double()
        return families.Bernoulli(shape)

    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    x = torch.bernoulli(torch.full((3, 4, 5), 0.5, dtype=torch.float64), generator=generator)

    def twice(t):
        return t.repeat_interleave(2, 1).repeat_interleave(2, 2)

    small = make((4, 5))(raw).log_prob(x)
    large = make((8, 10))(twice(raw)).log_prob(twice(x))
    torch.testing.assert_close(large, 4 * small, rtol=1e-12, atol=0)


@given(st.floats(-40, 40), st.floats(1e-3, 10))
def test_the_scale_map_rises(a, step):
    low, high = distributions.bounded_scale(torch.tensor([a, a + step], dtype=torch.float64))
    assert 1e-4 * (1 - 1e-12) <= low <= high <= 1e4 * (1 + 1e-12)
    if abs(a) < 30:
        assert low < high


def test_the_scale_map_is_smooth_and_inverted():
    a = torch.linspace(-20, 20, 401, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(distributions.bounded_scale, a)
    assert torch.autograd.gradgradcheck(distributions.bounded_scale, a)
    scale = torch.tensor([2e-4, 0.1, 1.0, 9.9e3], dtype=torch.float64)
    back = distributions.bounded_scale(distributions.unbounded_scale(scale))
    torch.testing.assert_close(back, scale, rtol=1e-12, atol=0)
    with pytest.raises(OptionError, match="1e-05"):
        distributions.unbounded_scale(torch.tensor([1.0, 1e-5]))
    small = torch.tensor([-0.1, 0.0, 0.1], dtype=torch.float64)
    torch.testing.assert_close(distributions.bounded_scale(small), small.exp(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: families.Normal(()),
        lambda: families.Normal((3, 0)),
        lambda: families.Bernoulli(-1),
        lambda: families.Categorical(3, levels=1),
        lambda: families.DiscretizedLogistic(3, levels=0),
        lambda: families.FixedScale(0.0),
        lambda: families.FixedScale(math.inf),
        lambda: families.FixedScale(math.nan),
        lambda: families.SharedScale(0.0),
        lambda: families.SharedScale(1e9),
        lambda: families.PerDimensionScale(3, initial=-1.0),
        lambda: families.FullNormal(0),
        lambda: families.ContinuousBernoulli(0),
        lambda: families.DiscretizedLogisticMixture(3, levels=1),
        lambda: families.DiscretizedLogisticMixture(3, levels=3, components=0),
        lambda: families.StudentT(3, degrees=1.0),
        lambda: families.StudentT(3, degrees=math.nan),
    ],
)
def test_bad_arguments_are_refused(build):
    with pytest.raises(OptionError, match="got"):
        build()


def test_a_scale_of_another_shape_is_refused_at_construction():
    with pytest.raises(ShapeError, match="scale has shape"):
        families.Normal((2, 3), scale=families.PerDimensionScale((3,)))


def test_a_predicted_scale_needs_the_network():
    with pytest.raises(JensenError, match="network"):
        families.PredictedScale()(None)


def test_a_full_normal_scores_and_samples_one_covariance():
    family = families.FullNormal(3).double()
    distribution = family(*(p.double() for p in raw_parameters(family, ())))
    reference = torch.distributions.MultivariateNormal(distribution.mean, distribution.covariance_matrix)
    torch.manual_seed(0)
    z = distribution.sample((20_000,))
    torch.testing.assert_close(distribution.log_prob(z), reference.log_prob(z), rtol=1e-10, atol=1e-10)
    products = (z - z.mean(0))[:, :, None] * (z - z.mean(0))[:, None, :]
    error = products.std(0) / len(z) ** 0.5
    assert ((products.mean(0) - distribution.covariance_matrix).abs() < 4.5 * error).all()
