"""Named priors against scipy, quadrature and the densities of torch."""

import math

import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import distributions as D
from torch import nn

import jensen
from jensen import VAE, Conditional, families, nets, noise, objectives, posteriors, priors, spec, testing
from jensen.errors import OptionError, ShapeError, SupportError

SCALARS = {
    "beta": (D.Beta(2.0, 3.0), scipy.stats.beta(2, 3)),
    "cauchy": (D.Cauchy(0.5, 2.0), scipy.stats.cauchy(0.5, 2)),
    "chi2": (D.Chi2(3.0), scipy.stats.chi2(3)),
    "exponential": (D.Exponential(2.0), scipy.stats.expon(scale=0.5)),
    "gamma": (D.Gamma(2.0, 3.0), scipy.stats.gamma(2, scale=1 / 3)),
    "gumbel": (D.Gumbel(1.0, 2.0), scipy.stats.gumbel_r(1, 2)),
    "half-cauchy": (D.HalfCauchy(2.0), scipy.stats.halfcauchy(scale=2)),
    "half-normal": (D.HalfNormal(2.0), scipy.stats.halfnorm(scale=2)),
    "inverse-gamma": (D.InverseGamma(3.0, 2.0), scipy.stats.invgamma(3, scale=2)),
    "kumaraswamy": (D.Kumaraswamy(1.0, 3.0), scipy.stats.beta(1, 3)),
    "laplace": (D.Laplace(1.0, 2.0), scipy.stats.laplace(1, 2)),
    "log-normal": (D.LogNormal(0.5, 0.7), scipy.stats.lognorm(0.7, scale=math.exp(0.5))),
    "normal": (D.Normal(1.0, 2.0), scipy.stats.norm(1, 2)),
    "pareto": (D.Pareto(2.0, 3.0), scipy.stats.pareto(3, scale=2)),
    "student": (D.StudentT(4.0, 1.0, 2.0), scipy.stats.t(4, 1, 2)),
    "uniform": (D.Uniform(100.0, 101.0), scipy.stats.uniform(100, 1)),
    "weibull": (D.Weibull(2.0, 1.5), scipy.stats.weibull_min(1.5, scale=2)),
}
every_scalar = pytest.mark.parametrize("name", SCALARS)


def integral(prior, width=40.0, points=20001):
    grid = torch.linspace(-width, width, points, dtype=torch.float64)
    return float(prior().log_prob(grid[:, None]).exp().sum() * (grid[1] - grid[0]))


@every_scalar
def test_density_of_z_integrates_to_one(name):
    wide = name in ("cauchy", "student", "gumbel", "laplace")
    prior = priors.Named(v=SCALARS[name][0]).double()
    tail = 2 * 2 / math.pi / 4000 if name == "cauchy" else 0.0
    assert abs(integral(prior, 4000.0 if wide else 40.0, 400_001) + tail - 1) < 1e-5


@every_scalar
def test_samples_follow_the_distribution(name):
    prior = priors.Named(v=SCALARS[name][0]).double()
    with noise.seeded(1):
        z = prior().sample(torch.Size((4000,)))
    values = prior.unpack(z)["v"].numpy()
    assert scipy.stats.kstest(values, SCALARS[name][1].cdf).pvalue > 1e-4


@every_scalar
def test_density_of_z_is_that_of_the_value_times_the_jacobian(name):
    distribution, known = SCALARS[name]
    prior = priors.Named(v=distribution).double()
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None].requires_grad_()
    value = prior.unpack(z)["v"]
    (slope,) = torch.autograd.grad(value.sum(), z)
    expected = torch.as_tensor(known.logpdf(value.detach().numpy())) + slope[:, 0].log()
    assert torch.allclose(prior().log_prob(z), expected, atol=1e-10, rtol=1e-7)  # float32 arguments


def test_dirichlet_marginals_and_jacobian():
    concentration = torch.tensor([0.7, 2.0, 1.5])
    prior = priors.Named(mix=D.Dirichlet(concentration)).double()
    with noise.seeded(2):
        mix = prior.unpack(prior().sample(torch.Size((4000,))))["mix"]
    assert torch.allclose(mix.sum(-1), torch.ones(4000, dtype=torch.float64), atol=1e-12)
    for i in range(3):
        a, b = float(concentration[i]), float(concentration.sum() - concentration[i])
        assert scipy.stats.kstest(mix[:, i].numpy(), scipy.stats.beta(a, b).cdf).pvalue > 1e-4
    axis = torch.linspace(-40, 40, 801, dtype=torch.float64)
    total = prior().log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(float(total) - 1) < 1e-6


def test_density_of_a_dirichlet_is_that_of_its_values_times_the_jacobian():
    distribution = D.Dirichlet(torch.tensor([[0.7, 2.0, 1.5, 3.0], [1.0, 1.0, 5.0, 0.3]], dtype=torch.float64))
    z = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    onto = D.biject_to(D.constraints.simplex)
    expected = distribution.log_prob(onto(z)) + onto.log_abs_det_jacobian(z, onto(z))
    prior = priors.Named(mix=distribution)
    assert torch.allclose(prior().log_prob(z.flatten(1)), expected.sum(-1), atol=1e-10)


VAGUE = {
    "beta": D.Beta(0.1, 0.1),
    "beta-near-one": D.Beta(1.0, 0.05),
    "chi2": D.Chi2(0.02),
    "dirichlet": D.Dirichlet(torch.tensor([0.05, 0.02])),
    "gamma": D.Gamma(0.01, 0.01),
    "inverse-gamma": D.InverseGamma(0.01, 0.01),
    "weibull": D.Weibull(1.0, 0.02),
}


@pytest.mark.parametrize("name", VAGUE)
def test_vague_densities_integrate_to_one_in_single_precision(name):
    prior = priors.Named(v=VAGUE[name])
    grid = torch.arange(-3000.0, 3000.0, 0.02)
    density = prior().log_prob(grid[:, None]).double().exp() * 0.02
    assert abs(float(density.sum()) - 1) < 1e-3
    with noise.seeded(3):
        z = prior().sample(torch.Size((4000,)))[:, 0]
    below = density.cumsum(0)[((z + 3000) / 0.02).long()]
    assert scipy.stats.kstest(below.numpy(), "uniform").pvalue > 1e-4
    assert prior.unpack(z[:, None])["v"].isfinite().all()


@pytest.mark.parametrize("vague", [D.Pareto(1.0, 0.01), D.Kumaraswamy(0.01, 1.0)])
def test_a_prior_whose_draws_floats_cannot_hold_is_refused(vague):
    with pytest.raises(OptionError, match=r"v has a .* float32"):
        priors.Named(v=vague)


def test_multivariate_normal_and_independent_are_one_value():
    factor = torch.tensor([[1.0, 0.0], [0.8, 0.3]])
    inner = D.MultivariateNormal(torch.ones(2), scale_tril=factor)
    prior = priors.Named(pair=inner, trio=D.Independent(D.Normal(torch.zeros(3), 1.0), 1), other=D.Normal(0.0, 1.0))
    z = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    expected = inner.log_prob(z[..., :2]) + D.Normal(0.0, 1.0).log_prob(z[..., 2:]).sum(-1)
    assert torch.allclose(prior().log_prob(z), expected, atol=1e-5)
    assert prior.shapes == {"pair": (2,), "trio": (3,), "other": ()}
    assert prior.unpack(z)["other"].shape == (4, 5)


def test_pack_undoes_unpack():
    prior = priors.Named(a=D.LogNormal(0.0, 1.0), b=D.Dirichlet(torch.ones(4)), c=D.Uniform(-3.0, 5.0)).double()
    z = torch.randn(3, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(prior.pack(prior.unpack(z)), z, atol=1e-10)


@pytest.mark.parametrize("far", [-1e3, -90.0, 90.0, 1e3])
def test_far_values_never_give_a_density_that_is_no_number(far):
    prior = priors.Named(**{name.replace("-", "_"): pair[0] for name, pair in SCALARS.items()})
    z = torch.full((1, sum(prior.sizes.values())), far)
    assert (prior().log_prob(z) < 0).all()
    for name, value in prior.unpack(z).items():
        assert value.isfinite().all(), name


@pytest.mark.parametrize("name", ["log_normal", "gamma", "half_cauchy", "inverse_gamma", "weibull", "pareto"])
@pytest.mark.parametrize("far", [-200.0, 200.0])
def test_far_codes_have_a_finite_bound_whose_gradient_leads_back(name, far):
    prior = priors.Named(v=SCALARS[name.replace("_", "-")][0])
    z = torch.full((1,), far, requires_grad=True)
    value = prior.unpack(z)["v"]
    joint = prior().log_prob(z) + D.Normal(value, 0.1 * value, validate_args=False).log_prob(torch.tensor(3.0))
    joint = joint - (value - 3.0).square().sum() / 0.02
    (gradient,) = torch.autograd.grad(joint, z)
    assert math.isfinite(float(joint.detach())) and float(gradient) * far < 0


def test_an_encoder_that_starts_far_from_the_prior_learns():
    # Spectra of wide range are large numbers, for which an encoder's first codes lie hundreds of units off.
    prior = priors.Named(rate=D.LogNormal(6.0, 1.0))
    with noise.seeded(0):
        posterior = posteriors.Amortized(nets.mlp(8, 16, hidden=(16,)), like=prior)
        model = VAE(prior, Counts(), posterior)
        x = 20 * model.sample(64)
    assert float(posterior(x).mean.detach().abs().max()) > 200
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for step in range(100):
        with noise.seeded(step):
            loss = objectives.ELBO()(model, x).loss
        optimiser.zero_grad()
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters()), step
        optimiser.step()
        losses.append(float(loss.detach()))
    assert max(losses) < math.inf and losses[-1] < 0.01 * losses[0]


class Counts(nn.Module):
    """Eight counts with one rate."""

    def forward(self, values, given=None):
        rate = values["rate"][..., None].expand(*values["rate"].shape, 8)
        return D.Independent(D.Poisson(rate, validate_args=False), 1, validate_args=False)


class Rates(nn.Module):
    """Counts with a named rate; torch's validation is on."""

    def forward(self, values, given=None):
        rate, mix = values["rate"], values["mix"]
        return D.Independent(D.Normal((rate[..., None] * mix).log(), 0.3, validate_args=True), 1, validate_args=True)


def small_model(family=None):
    prior = priors.Named(rate=D.LogNormal(0.3, 0.8), mix=D.Dirichlet(torch.tensor([2.0, 3.0])))
    family = family or families.FullNormal(2)
    size = sum(math.prod(shape) for shape in family.parameter_shapes)
    return VAE(prior, Rates(), Conditional(nets.mlp(2, size, hidden=()), family))


def test_evidence_agrees_with_scipy_on_the_constrained_scale():
    model = small_model().double()
    x = torch.tensor([[-0.3, 0.4]], dtype=torch.float64)
    ours = float(testing.quadrature(model, x, width=12.0, points=601)[0])

    def normal(value, mean, sd):
        return math.exp(-0.5 * ((value - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))

    def joint(share, rate):
        likelihood = normal(-0.3, math.log(rate * share), 0.3) * normal(0.4, math.log(rate * (1 - share)), 0.3)
        return likelihood * normal(math.log(rate), 0.3, 0.8) / rate * 12 * share * (1 - share) ** 2

    exact, _ = scipy.integrate.dblquad(joint, 1e-6, 30, 1e-9, 1 - 1e-9, epsabs=1e-7, epsrel=1e-6)
    assert abs(ours - math.log(exact)) < 1e-5


def test_a_model_with_named_latents_draws_scores_and_samples():
    model = small_model()
    x = model.sample(6)
    assert model.draw(x, k=3).log_weight.shape == (3, 6)
    assert float(jensen.elbo(model, x, k=4).mean) < 0
    assert model.decode(torch.zeros(3, 6, 2)).batch_shape == (3, 6)


def test_noise_of_a_row_is_its_own():
    prior = small_model().prior
    with noise.RowNoise([1, 2, 3]):
        three = prior().sample(torch.Size((5, 3)))
    with noise.RowNoise([3, 1]):
        two = prior().sample(torch.Size((5, 2)))
    assert torch.equal(three[:, [2, 0]], two)


def test_written_and_built_again():
    every = {name.replace("-", "_"): pair[0] for name, pair in SCALARS.items()}
    trio = D.Independent(D.Gamma(torch.tensor([1.0, 2.0]), 3.0), 1)
    prior = priors.Named(
        **every, trio=trio, mix=D.Dirichlet(torch.ones(3)), half=D.HalfNormal(torch.tensor(2.0).double())
    )
    described, tensors, _ = spec.describe(prior)
    again = spec.build(spec.parse(described.model_dump()), tensors, spec.own_names())
    z = prior().sample(torch.Size((4,)))
    assert torch.equal(again().log_prob(z), prior().log_prob(z))
    assert again.names == prior.names


def test_refusals():
    with pytest.raises(OptionError, match=r"Poisson.*LogNormal"):
        priors.Named(count=D.Poisson(1.0))
    with pytest.raises(OptionError, match="at least one"):
        priors.Named()
    prior = priors.Named(rate=D.LogNormal(0.0, 1.0), mix=D.Dirichlet(torch.ones(3)))
    with pytest.raises(ShapeError, match="expected z"):
        prior.unpack(torch.zeros(4))
    with pytest.raises(ShapeError, match="named"):
        prior.pack({"rate": torch.ones(2)})
    with pytest.raises(SupportError, match="rate must lie"):
        prior.pack({"rate": -torch.ones(1), "mix": torch.ones(1, 3) / 3})
    with pytest.raises(ShapeError, match="expected mix"):
        prior.pack({"rate": torch.ones(1), "mix": torch.ones(1, 2) / 2})
