"""Models whose log-likelihood is known."""

import math

import pytest
import torch

from jensen import VAE, Conditional, JensenError, families, nets, objectives, priors, testing
from jensen.model import Autoencoder
from jensen.noise import seeded


def weights(size, latents, seed=0):
    return torch.randn(size, latents, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(oracle, n=5, seed=1):
    torch.manual_seed(seed)
    return oracle.evidence.sample((n,))


@pytest.mark.parametrize("k", [1, 7])
@pytest.mark.parametrize("noise", [0.1, 1.0, 3.0])
@pytest.mark.parametrize(("size", "latents"), [(2, 1), (5, 2), (5, 5), (16, 3), (64, 10)])
def test_with_the_exact_posterior_every_log_weight_is_the_evidence(size, latents, noise, k):
    oracle = testing.LinearGaussian(weights(size, latents), noise, mean=torch.linspace(-1, 1, size))
    x = rows(oracle)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        log_weight = oracle.model.draw(x, k=k).log_weight
    assert log_weight.shape == (k, len(x))
    assert log_weight.dtype == torch.float64
    tolerance = 1e-12 * (1 + 1 / noise**2)
    error = (log_weight - oracle.log_evidence(x)).abs()
    assert error.max() < tolerance


@pytest.mark.parametrize("latents", [1, 2])
@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_quadrature_agrees_with_the_evidence(latents, noise):
    oracle = testing.LinearGaussian(weights(4, latents), noise)
    x = rows(oracle)
    assert (testing.quadrature(oracle.model, x) - oracle.log_evidence(x)).abs().max() < 1e-9


def test_quadrature_refuses_three_latents():
    oracle = testing.LinearGaussian(weights(4, 3), 1.0)
    with pytest.raises(JensenError, match="the model has 3"):
        testing.quadrature(oracle.model, rows(oracle))


@pytest.mark.parametrize("middle", [0.515, 0.52, 0.54])  # near a point, on one, and midway between two
def test_quadrature_refuses_a_grid_that_does_not_resolve_the_posterior(middle):
    narrow = testing.LinearGaussian(torch.tensor([[1.0], [2.0]]), noise=0.02)
    x = torch.tensor([[middle, 2 * middle]], dtype=torch.float64)
    with pytest.raises(JensenError, match="too coarse"):
        testing.quadrature(narrow.model, x)
    fine = testing.quadrature(narrow.model, x, points=4001)
    assert (fine - narrow.log_evidence(x)).abs().max() < 1e-9
    with pytest.raises(JensenError, match="too narrow"):
        testing.quadrature(narrow.model, x, width=0.525, points=401)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("closed_form_kl", [True, False])
def test_the_elbo_is_below_the_evidence_of_another_posterior(seed, closed_form_kl):
    oracle = testing.LinearGaussian(weights(4, 2, seed), 0.5)
    torch.manual_seed(seed)
    x = rows(oracle, n=3, seed=seed)
    net = nets.mlp(4, 4, hidden=(8,)).double()
    posterior = Conditional(net, families.Normal(2, scale=families.PredictedScale()))
    model = VAE(oracle.model.prior, oracle.model.likelihood, posterior)
    draws = 4000
    bound = objectives.ELBO(k=draws, closed_form_kl=closed_form_kl)(model, x).bound
    error = model.draw(x, k=draws).log_weight.std(0) / draws**0.5
    assert (bound - 4 * error < oracle.log_evidence(x)).all()
    # The gap is KL(q || p(z|x)), far from zero for an untrained network.
    exact = torch.distributions.kl_divergence(
        torch.distributions.MultivariateNormal(posterior(x).mean, torch.diag_embed(posterior(x).variance)),
        oracle.model.posterior(x),
    )
    assert ((bound + exact - oracle.log_evidence(x)).abs() < 5 * error).all()


def test_quadrature_agrees_with_importance_sampling_for_bernoulli():
    torch.manual_seed(0)
    likelihood = Conditional(nets.mlp(1, 6, hidden=(8,)), families.Bernoulli(6))
    posterior = Conditional(nets.mlp(6, 2, hidden=(8,)), families.Normal(1, scale=families.PredictedScale()))
    model = VAE(priors.StandardNormal(1), likelihood, posterior).double()
    x = torch.bernoulli(torch.full((4, 6), 0.5, dtype=torch.float64))
    k = 20_000
    log_weight = model.draw(x, k=k).log_weight.detach()
    estimate = log_weight.logsumexp(0) - torch.tensor(k).log()
    error = (log_weight - estimate).exp().std(0) / k**0.5
    assert ((estimate - testing.quadrature(model, x)).abs() < 4 * error + 1e-9).all()


def test_ppca_log_likelihood_is_that_of_the_maximum_likelihood_model():
    torch.manual_seed(0)
    x = (torch.randn(500, 2) @ torch.randn(2, 5) + 0.3 * torch.randn(500, 5)).double()
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    noise = values[:3].mean()
    weight = vectors[:, 3:] * (values[3:] - noise).sqrt()
    oracle = testing.LinearGaussian(weight, float(noise.sqrt()), mean=x.mean(0))
    assert abs(float(oracle.log_evidence(x).mean()) - testing.ppca_log_likelihood(x, 2)) < 1e-10


def test_a_likelihood_whose_values_are_not_one_event_is_refused_by_name():
    class Loose(torch.nn.Module):
        def forward(self, z, given=None):
            return torch.distributions.Normal(z, 1.0)

    posterior = Conditional(nets.mlp(2, 4), families.Normal(2, scale=families.PredictedScale()))
    with pytest.raises(JensenError, match=r"Independent\(distribution, 1\)"):
        VAE(priors.StandardNormal(2), Loose(), posterior).draw(torch.zeros(5, 2), k=3)


def principal_angles(a, b):
    """The angles between the spans of the columns of two matrices, radians, by their sines, which are exact near 0."""
    first, second = torch.linalg.qr(a)[0], torch.linalg.qr(b)[0]
    return torch.linalg.svdvals(second - first @ (first.T @ second)).clamp(max=1).asin()


def test_a_linear_autoencoder_learns_the_principal_components():
    size, latents, n, noise = 6, 2, 50, 0.5
    generator = torch.Generator().manual_seed(3)
    spread = torch.tensor([3.0, 2.0, 0.8, 0.6, 0.4, 0.2])
    codes = spread * torch.randn(n, size, generator=generator, dtype=torch.float64)
    x = codes @ torch.linalg.qr(weights(size, size))[0] + torch.linspace(-2, 3, size)
    _, values, directions = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    error = float(values[latents:].square().sum()) / n  # the least mean squared distance to a plane
    components = directions[:latents].T

    with seeded(0):
        decoder = Conditional(nets.mlp(latents, size, hidden=()), families.Normal(size, families.FixedScale(noise)))
        model = Autoencoder(nets.mlp(size, latents, hidden=()), decoder, latents).double()
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = objectives.Reconstruction()(model, x).loss
        loss.backward()
        return loss

    constant = size / 2 * math.log(2 * math.pi * noise**2)
    begin = 2 * noise**2 * (closure().item() - constant)
    optimiser.step(closure)
    found = 2 * noise**2 * (closure().item() - constant)
    assert begin > 5 * error
    assert error * (1 - 1e-9) <= found < error * (1 + 1e-3)
    with torch.no_grad():
        again = model.decode(model.embed(x)[None]).mean[0]
    assert float((again - x).square().sum(1).mean()) == pytest.approx(found, rel=1e-9)
    assert principal_angles(decoder.net[-1].weight.detach(), components).max() < 1e-2
    assert principal_angles(model.encoder[-1].weight.detach().T, components).max() < 1e-2
    projected = x.mean(0) + (x - x.mean(0)) @ components @ components.T
    assert (again - projected).abs().max() < 0.02
