"""ELBO surgery against the linear-Gaussian model, quadrature and its own identity."""

import math

import pytest
import torch
from torch.distributions import Independent, StudentT

from jensen import VAE, Conditional, families, nets, priors, testing
from jensen.diagnose import Aggregate, elbo_surgery, quadrature_surgery
from jensen.errors import JensenError, OptionError
from jensen.noise import seeded
from jensen.objectives import BetaTCVAE


def oracle(latents=2, seed=0, noise=0.5):
    weight = torch.randn(4, latents, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return testing.LinearGaussian(weight, noise)


def rows(model, n, seed=1):
    with seeded(seed):
        return model.evidence.sample((n,))


def diagonal(latents=2, n=60, dtype=torch.float64):
    with seeded(3):
        vae = VAE(
            priors.StandardNormal(latents),
            Conditional(nets.mlp(latents, 5, (8,)), families.Bernoulli(5)),
            Conditional(nets.mlp(5, 2 * latents, (16,)), families.Normal(latents, scale=families.PredictedScale())),
        ).to(dtype)
        with torch.no_grad():
            for parameter in vae.posterior.parameters():
                parameter.mul_(2.0)
        return vae, torch.bernoulli(torch.full((n, 5), 0.5)).to(dtype)


@pytest.mark.parametrize("posterior", ["full", "diagonal"])
def test_the_density_of_the_aggregate_is_the_mean_over_all_rows(posterior):
    if posterior == "full":
        model = oracle()
        x, model = rows(model, 700), model.model
    else:
        model, x = diagonal(n=700)
    z = torch.randn(9, 2, dtype=torch.float64)
    q = model.posterior(x)
    expected = torch.stack([q.log_prob(one).logsumexp(0) for one in z]) - math.log(700)
    assert (Aggregate(model, x).log_prob(z) - expected).abs().max() < 1e-10


def test_for_many_rows_of_the_model_itself_the_aggregate_is_the_prior():
    # q(z|x) is exact and x comes from the model: the marginal KL vanishes, and the average KL is the information
    # that x carries about z, 0.5 log det(I + W'W / s^2).
    model = oracle(noise=1.0)
    x = rows(model, 20_000)
    found = elbo_surgery(model.model, x, draws=2000)
    weight = model.model.likelihood.net[-1].weight.detach()
    exact = 0.5 * float(torch.logdet(torch.eye(2, dtype=torch.float64) + weight.T @ weight))
    assert abs(found.mutual_information.beyond(exact)) < 4
    assert abs(found.marginal_kl.value) < 0.01
    assert abs(found.total_correlation.value) < 0.01
    assert found.ceiling == math.log(20_000)


@pytest.mark.parametrize("latents", [1, 2])
def test_quadrature_keeps_the_identity(latents):
    model, x = diagonal(latents)
    found = quadrature_surgery(model, x)
    assert abs(found.residual.value) < 1e-8
    parts = found.total_correlation.value + found.dimension_wise.value
    assert abs(found.marginal_kl.value - parts) < 1e-8
    assert 0 < found.mutual_information.value < found.ceiling
    assert found.total_correlation.value > -1e-9 and (found.each > -1e-9).all()


@pytest.mark.parametrize("latents", [1, 2])
def test_draws_agree_with_quadrature(latents):
    model, x = diagonal(latents)
    exact, found = quadrature_surgery(model, x), elbo_surgery(model, x, draws=4000)
    assert found.mean_kl == exact.mean_kl
    for name in ("mutual_information", "marginal_kl", "total_correlation", "dimension_wise"):
        number = getattr(found, name)
        if latents == 2 or name != "total_correlation":
            assert number.se > 0
            assert abs(number.beyond(getattr(exact, name).value)) < 4, name


def test_full_covariances_have_a_total_correlation_too():
    model = oracle(noise=0.3)
    x = rows(model, 80)
    exact, found = quadrature_surgery(model.model, x), elbo_surgery(model.model, x, draws=4000)
    assert abs(exact.residual.value) < 1e-8
    assert abs(found.total_correlation.beyond(exact.total_correlation.value)) < 4


@pytest.mark.parametrize("noise", [0.3, 0.05])
def test_the_grid_is_as_fine_as_the_narrowest_direction(noise):
    model = testing.LinearGaussian(torch.tensor([[1.0, 1.0]], dtype=torch.float64), noise=noise)
    x = rows(model, 9)
    exact, found = quadrature_surgery(model.model, x), elbo_surgery(model.model, x, draws=4000)
    assert abs(exact.residual.value) < 1e-8
    assert abs(found.mutual_information.beyond(exact.mutual_information.value)) < 4


@pytest.mark.parametrize(("weights", "rows"), [((1.0, 1.0, 1.0), 8), ((0.5, 4.0, 2.0), 60)])
def test_the_parts_of_beta_tcvae_are_those_of_its_batch_and_logarithms_of_the_number_of_rows(weights, rows):
    # Its estimate of q(z) is 1 / (N M) times a sum over the M rows of the batch: q(z) of the batch over N, and so for
    # each of the Z latents. In expectation the parts are those of the batch plus log N, (Z - 1) log N and -Z log N.
    latents, draws = 2, 1000
    model, x = diagonal(latents, n=8)
    alpha, beta, gamma = weights
    exact, shift = quadrature_surgery(model, x), math.log(rows)
    expected = {
        "mutual_information": alpha * (exact.mutual_information.value + shift),
        "total_correlation": beta * (exact.total_correlation.value + (latents - 1) * shift),
        "dimension_wise_kl": gamma * (exact.dimension_wise.value - latents * shift),
    }
    objective = BetaTCVAE(rows, beta, alpha=alpha, gamma=gamma)
    with seeded(4), torch.no_grad():
        results = [objective(model, x) for _ in range(draws)]
    found = {name: torch.stack([result.terms[name].mean() for result in results]) for name in expected}
    for name, value in expected.items():
        assert abs(float(found[name].mean()) - value) < 4 * float(found[name].std()) / draws**0.5, name
    with torch.no_grad():
        q = model.posterior(x)
    kl = 0.5 * float((q.mean.square() + q.variance - 1 - q.variance.log()).sum(1).mean())
    total = found["mutual_information"] / alpha + found["total_correlation"] / beta + found["dimension_wise_kl"] / gamma
    assert abs(float(total.mean()) - kl) < 4 * float(total.std()) / draws**0.5
    for result in results[:5]:
        assert float(-result.terms["reconstruction"].mean() - result.bound.mean()) == pytest.approx(kl, abs=1e-10)


@pytest.mark.parametrize("latents", [2, 6, 12])
def test_the_identity_holds_within_its_error(latents):
    model, x = diagonal(latents, n=400)
    residual = elbo_surgery(model, x, draws=3000).residual
    assert abs(residual.beyond(0)) < 4
    assert residual.se < 0.05 * elbo_surgery(model, x, draws=2).mean_kl.value


def test_information_saturates_at_the_logarithm_of_the_number_of_rows():
    with seeded(0):
        x = torch.randn(30, 3, dtype=torch.float64)
    model = testing.LinearGaussian(torch.eye(3, dtype=torch.float64), noise=1e-3).model
    found = elbo_surgery(model, x, draws=100)
    assert abs(found.mutual_information.value - math.log(30)) < 1e-6


def test_without_a_formula_for_the_kl_it_is_estimated_from_draws_of_its_own():
    model, x = diagonal()

    class Heavy(torch.nn.Module):
        def forward(self, given=None):
            return Independent(StudentT(torch.full((2,), 5.0).double()), 1)

    model.prior = Heavy()
    found = elbo_surgery(model, x, draws=4000)
    assert found.mean_kl.se > 0
    assert abs(found.residual.beyond(0)) < 4


def test_refusals():
    model, x = diagonal(3)
    with pytest.raises(OptionError, match="one or two latents"):
        quadrature_surgery(model, x)
    with pytest.raises(OptionError, match="at least 2 draws"):
        elbo_surgery(model, x, draws=1)
    with pytest.raises(JensenError):
        elbo_surgery(model, x[:0])
    narrow = testing.LinearGaussian(torch.eye(2, dtype=torch.float64), noise=1e-4).model
    with pytest.raises(OptionError, match="narrow"):
        quadrature_surgery(narrow, torch.randn(5, 2, dtype=torch.float64))
    pieces = VAE(
        priors.StandardNormal(1),
        Conditional(nets.mlp(1, 3), families.Normal(3)),
        Conditional(nets.mlp(3, 2), families.StudentT(1, scale=families.PredictedScale())),
    )
    with pytest.raises(OptionError, match="instead of 1"):
        quadrature_surgery(pieces, torch.ones(5, 3))
