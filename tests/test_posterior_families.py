"""The contract that every family of latents keeps; a new one is one more row of LATENTS."""

import math

import pytest
import torch
from torch.distributions import Independent, LowRankMultivariateNormal, MultivariateNormal

from jensen import VAE, Conditional, distributions, families, nets, priors, testing
from jensen.distributions import closed_form_kl, detached, diagonal_normal, kl_per_latent
from jensen.errors import OptionError
from jensen.noise import RowNoise, seeded

LATENTS = {
    "normal": lambda: families.Normal(4, scale=families.PredictedScale()),
    "full": lambda: families.FullNormal(4),
    "low-rank": lambda: families.LowRankNormal(4, rank=2),
    "mixture": lambda: families.NormalMixture(4, components=3),
    "power-spherical": lambda: families.PowerSpherical(4),
    "power-spherical-circle": lambda: families.PowerSpherical(2),
    "bernoulli": lambda: families.Bernoulli(4),
    "one-hot": lambda: families.OneHotCategorical(2, 3),
    "straight-bernoulli": lambda: families.StraightThroughBernoulli(4),
    "straight-one-hot": lambda: families.StraightThroughCategorical(2, 3),
}
WITHOUT_GRADIENT = ("bernoulli", "one-hot")
every_family = pytest.mark.parametrize("name", LATENTS)


def raw_parameters(family, batch, seed=0, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = family.parameter_shapes
    return [scale * torch.randn(*batch, *shape, generator=generator, dtype=dtype) for shape in shapes]


def draw(distribution, k):
    shape = torch.Size((k,))
    return distribution.rsample(shape) if distribution.has_rsample else distribution.sample(shape)


@every_family
def test_shapes_support_and_mean(name):
    family = LATENTS[name]()
    q = family(*raw_parameters(family, (5,), dtype=torch.float64))
    assert tuple(q.batch_shape) == (5,)
    assert tuple(q.event_shape) == family.event_shape
    assert q.has_rsample == (name not in WITHOUT_GRADIENT)
    k = 20_000
    with seeded(1):
        z = draw(q, k).detach()
    assert z.shape == (k, 5, *family.event_shape)
    assert family.support.check(z).all()
    assert q.log_prob(z[:3]).shape == (3, 5)
    assert q.log_prob(z).isfinite().all()
    assert q.mean.shape == (5, *family.event_shape)
    assert ((z.mean(0) - q.mean).abs() < 4.5 * z.std(0) / k**0.5 + 4 / k).all()


@every_family
def test_samples_belong_to_their_rows(name):
    family = LATENTS[name]()
    parameters = raw_parameters(family, (4,))
    with RowNoise([1, 2, 3, 4]):
        whole = draw(family(*parameters), 6)
    with RowNoise([4, 2]):
        part = draw(family(*(p[[3, 1]] for p in parameters)), 6)
    assert torch.equal(whole[:, [3, 1]], part)
    log_q = family(*parameters).log_prob(whole)
    assert torch.equal(log_q[:, [3, 1]], family(*(p[[3, 1]] for p in parameters)).log_prob(part))


@every_family
@pytest.mark.parametrize("size", [-1e4, -30.0, 0.0, 30.0, 1e4])
def test_far_out_parameters_give_finite_numbers_and_gradients(name, size):
    if name == "full" and size == -1e4:
        pytest.skip("entries below the diagonal are not bounded, and here 10^8 times those on it")
    family = LATENTS[name]()
    signs = [torch.sign(p) for p in raw_parameters(family, (3,))]
    parameters = [(size * sign).requires_grad_() for sign in signs]
    q = family(*parameters)
    with seeded(0):
        z = draw(q, 8)
    log_q = q.log_prob(z)
    assert z.isfinite().all() and log_q.isfinite().all()
    (log_q.mean() + z.square().mean()).backward()
    for parameter in parameters:
        assert parameter.grad.isfinite().all()


@every_family
def test_the_detached_distribution_has_a_gradient_in_z_alone(name):
    family = LATENTS[name]()
    parameters = [p.requires_grad_() for p in raw_parameters(family, (3,))]
    q = family(*parameters)
    with seeded(0):
        z = draw(q, 2).detach().requires_grad_()
    log_q = detached(q).log_prob(z)
    assert torch.equal(log_q, q.log_prob(z))
    gradients = torch.autograd.grad(log_q.sum(), [z, *parameters], allow_unused=True)
    assert gradients[0].abs().max() > 0
    assert all(g is None for g in gradients[1:])


def test_a_distribution_is_detached_after_its_transform_was_used():
    loc = torch.zeros(2, requires_grad=True)
    q = torch.distributions.LogNormal(loc, 1.0)
    z = q.rsample().detach().requires_grad_()
    log_q = q.log_prob(z)  # the transform remembers its inverse from here on
    cut = detached(q).log_prob(z)
    assert torch.equal(cut, log_q)
    (slope,) = torch.autograd.grad(cut.sum(), loc, allow_unused=True)
    assert slope is None


def test_a_direction_can_be_learned_from_nothing():
    raw = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    q = families.PowerSpherical(3)(raw, torch.zeros(1, dtype=torch.float64))
    assert q.mean[0] > 0 and q.mean[1:].abs().max() == 0
    (slope,) = torch.autograd.grad(q.mean[1], raw)
    assert slope[1] > 0


@every_family
def test_the_gradient_of_an_expectation_is_that_of_the_formula(name):
    """E f(z) with the gradient through samples against the score function with the same f."""
    if name in WITHOUT_GRADIENT or "straight" in name:
        pytest.skip("its samples have no gradient, or a biased one")
    family = LATENTS[name]()
    parameters = [p.requires_grad_() for p in raw_parameters(family, (), seed=3, scale=0.7, dtype=torch.float64)]
    n = 40_000
    wide = [p.expand(n, *p.shape) for p in parameters]

    def rows(make):
        """One gradient per draw: each draw has a row of parameters of its own."""
        copies = [w.detach().clone().requires_grad_() for w in wide]
        return torch.autograd.grad(make(family(*copies)).sum(), copies)

    def value(z):
        return torch.sin(2 * z[..., 0]) + z[..., 0] * z[..., -1] + 0.3 * z[..., 1].square()

    def score(q):
        z = q.sample()
        return (value(z) - 0.3) * q.log_prob(z)

    with seeded(4):
        pathwise = rows(lambda q: value(q.rsample()))
    with seeded(5):
        scored = rows(score)
    for path, point in zip(pathwise, scored, strict=True):
        error = ((path.var(0) + point.var(0)) / n).sqrt()
        z_score = (path.mean(0) - point.mean(0)) / error.clamp(min=1e-9)
        assert z_score.abs().max() < 4.5
        if name != "power-spherical-circle":  # one angle, where the score is as good
            assert (path.var(0) < point.var(0)).double().mean() > 0.5


def test_the_moments_of_a_mixture_have_exact_gradients():
    torch.manual_seed(0)
    n = 60_000
    raw = [torch.randn(3).double(), torch.randn(3, 2).double(), 0.3 * torch.randn(3, 2).double()]
    leaves = [r.clone().requires_grad_() for r in raw]
    weight, loc, scale = leaves[0].softmax(0), leaves[1], leaves[2].exp()
    # E[z_1^2 + 3 z_1 z_2 + z_2]
    exact = (weight * (loc[:, 0] ** 2 + scale[:, 0] ** 2 + 3 * loc[:, 0] * loc[:, 1] + loc[:, 1])).sum()
    wanted = torch.autograd.grad(exact, leaves)
    copies = [r.expand(n, *r.shape).clone().requires_grad_() for r in raw]
    with seeded(1):
        z = distributions.NormalMixture(copies[0], copies[1], copies[2].exp()).rsample()
    value = z[:, 0] ** 2 + 3 * z[:, 0] * z[:, 1] + z[:, 1]
    for found, target in zip(torch.autograd.grad(value.sum(), copies), wanted, strict=True):
        z_score = (found.mean(0) - target) / (found.std(0) / n**0.5)
        assert z_score.abs().max() < 4


def test_the_low_rank_normal_is_the_normal_with_that_covariance():
    torch.manual_seed(0)
    loc, factor, scale = torch.randn(5, 4).double(), torch.randn(5, 4, 2).double(), torch.rand(5, 4).double() + 0.1
    q = distributions.LowRankNormal(loc, factor, scale)
    same = LowRankMultivariateNormal(loc, factor, scale.square())
    z = torch.randn(7, 5, 4).double()
    torch.testing.assert_close(q.log_prob(z), same.log_prob(z), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(q.entropy(), same.entropy(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(q.variance, same.variance, rtol=1e-12, atol=0)
    p = diagonal_normal(torch.randn(4).double(), torch.rand(4).double() + 0.5, 1)
    full = MultivariateNormal(loc, same.covariance_matrix)
    torch.testing.assert_close(closed_form_kl(q, p), closed_form_kl(full, p), rtol=1e-11, atol=1e-11)
    assert kl_per_latent(q, p) is None
    with seeded(2):
        draws = q.rsample((20_000,))[:, 0]
    products = (draws - loc[0])[:, :, None] * (draws - loc[0])[:, None, :]
    error = products.std(0) / 20_000**0.5
    assert ((products.mean(0) - q.covariance_matrix[0]).abs() < 4.5 * error).all()


def test_a_low_rank_normal_with_a_tiny_scale_keeps_its_digits_in_single_precision():
    torch.manual_seed(0)
    loc, factor = torch.zeros(6), torch.randn(6, 2)
    q = distributions.LowRankNormal(loc, factor, torch.full((6,), 1e-3))
    exact = distributions.LowRankNormal(loc.double(), factor.double(), torch.full((6,), 1e-3).double())
    z = q.sample((200,))
    assert (q.log_prob(z).double() - exact.log_prob(z.double())).abs().max() < 0.02


@pytest.mark.parametrize("size", [2, 3, 5, 32])
@pytest.mark.parametrize("concentration", [1e-3, 1.0, 10.0, 1e4])
def test_the_power_spherical_density_integrates_to_one(size, concentration):
    """The density over the angle from the direction, times the area of the circle of that angle."""
    direction = torch.eye(size, dtype=torch.float64)[0]
    q = distributions.PowerSpherical(direction, torch.tensor(concentration).double())
    angle = torch.linspace(1e-9, math.pi - 1e-9, 200_001, dtype=torch.float64)
    z = torch.zeros(len(angle), size, dtype=torch.float64)
    z[:, 0], z[:, 1] = angle.cos(), angle.sin()
    half = (size - 1) / 2
    log_area = math.log(2) + half * math.log(math.pi) - math.lgamma(half)
    weight = torch.exp(q.log_prob(z) + log_area + (size - 2) * angle.sin().log())
    assert float(torch.trapezoid(weight, angle)) == pytest.approx(1, abs=1e-6)
    along = float(torch.trapezoid(weight * angle.cos(), angle))
    assert along == pytest.approx(float(q.mean[0]), abs=1e-6)
    p = distributions.UniformSphere(size, direction)
    kl = float(torch.trapezoid(weight * (q.log_prob(z) - p.log_prob(z)), angle))
    assert kl == pytest.approx(float(closed_form_kl(q, p)), abs=1e-5)


def uniform_code_kl(probabilities):
    return float((probabilities * (probabilities.log() + math.log(probabilities.shape[-1]))).sum())


@pytest.mark.parametrize("name", ["bernoulli", "straight-bernoulli", "one-hot", "straight-one-hot"])
def test_masses_of_codes_sum_to_one_and_samples_are_hard(name):
    family = LATENTS[name]()
    (logits,) = raw_parameters(family, (), dtype=torch.float64)
    q = family(logits)
    if "one-hot" in name:
        rows = torch.eye(3, dtype=torch.float64)
        codes = torch.stack([torch.stack([a, b]) for a in rows for b in rows])
        probabilities = logits.softmax(-1)
        uniform = Independent(distributions.OneHotCategorical(torch.zeros(2, 3).double()), 1)
    else:
        codes = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 4)
        probabilities = torch.stack([torch.sigmoid(logits), torch.sigmoid(-logits)], -1)
        uniform = Independent(torch.distributions.Bernoulli(logits=torch.zeros(4).double()), 1)
    assert float(q.log_prob(codes).exp().sum()) == pytest.approx(1, abs=1e-12)
    with seeded(0):
        samples = draw(q, 20_000).detach()
    assert family.support.check(samples).all()
    counts = torch.stack([(samples == code).flatten(1).all(1).double().mean() for code in codes])
    mass = q.log_prob(codes).exp().detach()
    assert ((counts - mass).abs() < 4.5 * (mass * (1 - mass) / len(samples)).sqrt()).all()
    kl = closed_form_kl(q, uniform)
    by_sum = (mass * (mass.log() - uniform.log_prob(codes))).sum()
    torch.testing.assert_close(kl.detach(), by_sum, rtol=1e-12, atol=1e-12)
    assert float(kl.detach()) == pytest.approx(uniform_code_kl(probabilities.detach()), abs=1e-12)
    each = kl_per_latent(q, uniform)
    torch.testing.assert_close(each.sum(), kl, rtol=1e-12, atol=1e-12)


def test_the_kl_of_far_out_codes_is_finite():
    q = families.Bernoulli(3)(torch.tensor([-200.0, 0.0, 200.0]))
    p = families.Bernoulli(3)(torch.tensor([200.0, 200.0, 200.0]))
    torch.testing.assert_close(closed_form_kl(q, p), torch.tensor(200.0 + 100.0 - math.log(2)), rtol=1e-6, atol=0)
    q = families.OneHotCategorical(1, 2)(torch.tensor([[0.0, -300.0]]))
    p = families.OneHotCategorical(1, 2)(torch.tensor([[-300.0, 0.0]]))
    torch.testing.assert_close(closed_form_kl(q, p), torch.tensor(300.0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["straight-bernoulli", "straight-one-hot"])
def test_relaxed_gradients_in_training_and_plain_codes_in_evaluation(name):
    family = LATENTS[name]()
    (logits,) = raw_parameters(family, (6,))
    logits.requires_grad_()
    weights = torch.randn(6, *family.event_shape, generator=torch.Generator().manual_seed(2))
    with seeded(0):
        z = family(logits).rsample((50,))
    assert ((z == 0) | (z == 1)).all()
    (slope,) = torch.autograd.grad((z * weights).sum(), logits)
    assert (slope != 0).all()
    # The mass is linear in z, so that a KL from samples has a gradient through the code, too.
    linear = family(logits)
    a, b = torch.rand_like(z[0]), torch.rand_like(z[0])
    middle = linear.log_prob((a + b) / 2)
    torch.testing.assert_close(middle, (linear.log_prob(a) + linear.log_prob(b)) / 2, rtol=1e-5, atol=1e-5)
    q = family.eval()(logits)
    assert not q.has_rsample
    assert not q.sample((3,)).requires_grad


def test_a_cold_relaxation_points_along_the_true_gradient():
    """The straight-through gradient of a linear function is that of its expectation up to bias; the sign is right."""
    logits = torch.zeros(20_000, 2, dtype=torch.float64, requires_grad=True)
    with seeded(0):
        z = families.StraightThroughBernoulli(2, temperature=1.0)(logits).rsample()
    (slope,) = torch.autograd.grad((z * torch.tensor([1.0, -2.0])).sum(), logits)
    exact = torch.tensor([0.25, -0.5], dtype=torch.float64)
    # At temperature 1 and equal odds s is uniform: E[s (1 - s)] = 1/6 where the truth is 1/4.
    error = slope.std(0) / len(slope) ** 0.5
    assert ((slope.mean(0) - exact * 4 / 6).abs() < 4 * error).all()


def test_kl_formulas_agree_with_monte_carlo():
    sphere = families.PowerSpherical(5)
    q = sphere(*raw_parameters(sphere, (), dtype=torch.float64))
    assert abs(testing.kl_z_score(q, distributions.UniformSphere(5, q.direction))) < 4
    low = families.LowRankNormal(4, 2)
    q = low(*raw_parameters(low, (), dtype=torch.float64))
    p = diagonal_normal(torch.ones(4).double(), torch.full((4,), 1.5).double(), 1)
    assert abs(testing.kl_z_score(q, p)) < 4


@every_family
def test_a_network_can_give_its_parameters(name):
    family = LATENTS[name]()
    net = nets.mlp(6, sum(math.prod(s) for s in family.parameter_shapes), hidden=(8,))
    q = Conditional(net, family)(torch.randn(3, 6))
    with seeded(0):
        z = draw(q, 2)
    if q.has_rsample:
        z.square().sum().backward()
        assert (net[-1].weight.grad != 0).any()
    assert q.expand((2, 3)).log_prob(z).shape == (2, 3)


@pytest.mark.parametrize(
    "build",
    [
        lambda: families.LowRankNormal(3, 0),
        lambda: families.LowRankNormal(3, 4),
        lambda: families.NormalMixture(3, 0),
        lambda: families.PowerSpherical(1),
        lambda: families.OneHotCategorical(3, 1),
        lambda: families.OneHotCategorical(0, 3),
        lambda: families.StraightThroughBernoulli(3, temperature=0.0),
        lambda: families.StraightThroughCategorical(3, 3, temperature=math.nan),
    ],
)
def test_bad_arguments_are_refused(build):
    with pytest.raises(OptionError, match="got"):
        build()


def test_samples_on_a_circle_have_length_one():
    with seeded(0):
        direction = torch.nn.functional.normalize(torch.randn(2000, 2), dim=-1)
        z = distributions.PowerSpherical(direction, torch.ones(2000)).rsample((500,))
    assert (torch.linalg.vector_norm(z, dim=-1) - 1).abs().max() < 1e-6


def test_the_code_of_a_distribution_lies_where_it_has_mass():
    direction = torch.eye(3)[:2]
    q = distributions.PowerSpherical(direction, torch.ones(2))
    assert torch.equal(distributions.code_of(q), direction)
    coins = torch.distributions.Bernoulli(torch.tensor([0.2, 0.7]))
    assert torch.equal(distributions.code_of(coins), coins.mean)
    posterior = Conditional(nets.mlp(6, 4), families.PowerSpherical(3))
    vae = VAE(priors.UniformSphere(3), Conditional(nets.mlp(3, 6), families.Normal(6)), posterior)
    z = vae.embed(torch.randn(5, 6))
    assert posterior(torch.zeros(5, 6)).support.check(z).all()


def test_an_impossible_one_hot_code_leaves_the_others_as_they_are():
    logits = torch.tensor([0.0, math.log(3), -math.inf], requires_grad=True)
    q = distributions.OneHotCategorical(logits)
    masses = q.log_prob(torch.eye(3))
    torch.testing.assert_close(masses.detach().exp(), torch.tensor([0.25, 0.75, 0.0]))
    kl = closed_form_kl(q, distributions.OneHotCategorical(torch.zeros(3)))
    expected = 0.25 * math.log(0.75) + 0.75 * math.log(2.25)
    assert float(kl.detach()) == pytest.approx(expected, abs=1e-6)
    assert closed_form_kl(distributions.OneHotCategorical(torch.zeros(3)), q).isposinf()
    assert closed_form_kl(q, q) == 0
    (slope,) = torch.autograd.grad(kl + masses[:2].sum(), logits)
    assert slope.isfinite().all()
