"""What variational inference says must hold: envelope, directions of the KL, coordinate ascent against gradients."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from jensen import VAE, objectives, priors, testing
from jensen.conditional import Conditional
from jensen.distributions import bounded_scale, diagonal_normal, unbounded_scale
from jensen.families import FixedScale
from jensen.families import Normal as NormalFamily
from jensen.noise import seeded


class Free(nn.Module):
    """A diagonal normal q(z) with free parameters, the same for every row."""

    def __init__(self, loc, log_scale):
        super().__init__()
        self.loc, self.raw = nn.Parameter(loc.clone()), nn.Parameter(log_scale.clone())

    def forward(self, x, given=None):
        shape = (len(x), *self.loc.shape)
        return diagonal_normal(self.loc.expand(shape), bounded_scale(self.raw).expand(shape), 1)


def best_diagonal(weight, noise, x):
    """The best mean-field posterior of a linear-Gaussian model: the exact mean, and one over the diagonal precision."""
    precision = torch.eye(weight.shape[1], dtype=weight.dtype) + weight.T @ weight / noise**2
    return torch.linalg.solve(precision, weight.T @ x / noise**2), precision.diagonal().rsqrt()


def exact_elbo(weight, noise, x, loc, scale):
    residual = (x - weight @ loc).square().sum() + (weight.square() * scale.square()).sum()
    log_likelihood = -residual / (2 * noise**2) - len(x) / 2 * math.log(2 * math.pi * noise**2)
    kl = 0.5 * (loc.square() + scale.square() - 1 - 2 * scale.log()).sum()
    return log_likelihood - kl


def linear_model(weight, noise, posterior):
    net = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
    net.weight = nn.Parameter(weight.clone())
    scale = FixedScale(noise).double()
    scale.value.fill_(noise)
    likelihood = Conditional(net, NormalFamily(weight.shape[0], scale=scale))
    return VAE(priors.StandardNormal(weight.shape[1]).double(), likelihood, posterior)


WEIGHT = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
ROW = torch.randn(4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
NOISE = 0.8


def test_at_the_best_posterior_the_total_derivative_is_the_partial_one():
    weight = WEIGHT.clone().requires_grad_()
    loc, scale = best_diagonal(weight, NOISE, ROW)
    (total,) = torch.autograd.grad(exact_elbo(weight, NOISE, ROW, loc, scale), weight, retain_graph=True)
    (partial,) = torch.autograd.grad(exact_elbo(weight, NOISE, ROW, loc.detach(), scale.detach()), weight)
    assert (total - partial).abs().max() < 1e-12
    elsewhere = loc * 0.5
    (total,) = torch.autograd.grad(exact_elbo(weight, NOISE, ROW, elsewhere, scale), weight, retain_graph=True)
    (partial,) = torch.autograd.grad(exact_elbo(weight, NOISE, ROW, elsewhere.detach(), scale.detach()), weight)
    assert (total - partial).abs().max() > 1e-3


def test_the_gradient_of_the_decoder_is_that_partial_derivative():
    loc, scale = best_diagonal(WEIGHT, NOISE, ROW)
    model = linear_model(WEIGHT, NOISE, Free(loc, scale.log()))
    with torch.no_grad():
        model.posterior.raw.copy_(unbounded_scale(scale))
    weight = WEIGHT.clone().requires_grad_()
    (exact,) = torch.autograd.grad(exact_elbo(weight, NOISE, ROW, loc, scale), weight)
    found = []
    for seed in range(50):
        with seeded(seed):
            loss = objectives.ELBO(k=500)(model, ROW[None]).loss
        found.append(torch.autograd.grad(-loss, model.likelihood.net.weight)[0])
    found = torch.stack(found)
    assert ((found.mean(0) - exact) / (found.std(0) / 50**0.5)).abs().max() < 4


def climb(model, objective, x, steps, rate):
    """Adam with a rate that falls to zero."""
    optimiser = torch.optim.Adam(model.posterior.parameters(), rate)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        with seeded(step):
            loss = objective(model, x).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def test_coordinate_ascent_and_gradients_find_the_same_posterior():
    precision = torch.eye(3, dtype=torch.float64) + WEIGHT.T @ WEIGHT / NOISE**2
    shift = WEIGHT.T @ ROW / NOISE**2
    mean = torch.zeros(3, dtype=torch.float64)
    for _ in range(200):  # each factor in turn: q_j = N((h_j - sum_i Λ_ji m_i) / Λ_jj, 1 / Λ_jj)
        for j in range(3):
            others = precision[j] @ mean - precision[j, j] * mean[j]
            mean[j] = (shift[j] - others) / precision[j, j]
    zeros = torch.zeros(3, dtype=torch.float64)
    model = linear_model(WEIGHT, NOISE, Free(zeros, zeros))
    climb(model, objectives.ELBO(k=16, estimator=objectives.StickingTheLanding()), ROW[None], 3000, 0.03)
    with torch.no_grad():
        q = model.posterior(ROW[None])
    assert (q.mean[0] - mean).abs().max() < 5e-3
    assert (q.stddev[0] / precision.diagonal().rsqrt() - 1).abs().max() < 1e-2
    loc, scale = best_diagonal(WEIGHT, NOISE, ROW)
    assert (mean - loc).abs().max() < 1e-10
    found = exact_elbo(WEIGHT, NOISE, ROW, q.mean[0].detach(), q.stddev[0].detach())
    gap = exact_elbo(WEIGHT, NOISE, ROW, loc, scale) - found
    assert 0 <= float(gap) < 1e-3


class Square(nn.Module):
    """x given z is normal around z squared: both roots are as likely."""

    def forward(self, z, given=None):
        return Independent(Normal(z.square(), 0.7, validate_args=False), 1)


def bimodal(start):
    q = Free(torch.tensor([start], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    return VAE(priors.StandardNormal(1).double(), Square(), q), torch.tensor([[3.0]], dtype=torch.float64)


def grid_posterior(model, x):
    z = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    log_joint = model.log_joint(x, z[:, None, None])[:, 0]
    return z, (log_joint - log_joint.logsumexp(0) - (z[1] - z[0]).log()).detach()


def test_one_direction_of_the_kl_seeks_a_mode():
    model, x = bimodal(0.4)
    climb(model, objectives.ELBO(k=32, closed_form_kl=False), x, 1000, 0.05)
    loc, scale = abs(float(model.posterior.loc.detach())), float(bounded_scale(model.posterior.raw.detach()))
    z, log_p = grid_posterior(model, x)
    best = _best_normal(z, log_p)
    assert abs(loc - best[0]) < 0.06
    assert abs(scale - best[1]) < 0.02
    upper = log_p[z > 0].softmax(0)
    assert abs(loc - float(upper @ z[z > 0])) < 0.05  # the mean of one mode


def _best_normal(z, log_p):
    """The best normal of a grid of means and scales, by numerical integration of KL(q || p)."""
    means, scales = torch.linspace(0, 2, 81, dtype=torch.float64), torch.linspace(0.1, 1.5, 113, dtype=torch.float64)
    m, s = torch.meshgrid(means, scales, indexing="ij")
    log_q = Normal(m[..., None], s[..., None]).log_prob(z)
    kl = (log_q.exp() * (log_q - log_p)).sum(-1) * (z[1] - z[0])
    i, j = divmod(int(kl.argmin()), len(scales))
    return float(means[i]), float(scales[j])


def test_the_other_direction_covers_both():
    model, x = bimodal(0.4)
    climb(model, objectives.ReweightedWakeSleep(k=500), x, 1000, 0.05)
    z, log_p = grid_posterior(model, x)
    p = log_p.softmax(0)
    mean, sd = float(p @ z), float((p @ z.square() - (p @ z) ** 2).sqrt())
    assert abs(float(model.posterior.loc.detach()) - mean) < 0.1
    assert abs(float(bounded_scale(model.posterior.raw.detach())) / sd - 1) < 0.05
    assert sd > 1.2


def test_log_evidence_is_joint_minus_posterior_for_any_z():
    oracle = testing.LinearGaussian(WEIGHT, NOISE)
    x = oracle.evidence.sample((3,))
    z = 3 * torch.randn(50, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = oracle.model.log_joint(x, z) - oracle.model.posterior(x).log_prob(z)
    assert (found - oracle.log_evidence(x)).abs().max() < 1e-10


class SigmaPoints(MultivariateNormal):
    """A normal distribution whose 2 Z "samples" have its mean and covariance: means of quadratics are exact."""

    def rsample(self, sample_shape=torch.Size()):  # noqa: B008
        steps = self.event_shape[0] ** 0.5 * self.scale_tril.movedim(-1, 0)
        assert tuple(sample_shape) == (2 * len(steps),)
        return torch.cat([self.loc + steps, self.loc - steps])


class FreeFull(nn.Module):
    """q(z|x) with a free mean for each row and one free Cholesky factor."""

    def __init__(self, loc, tril):
        super().__init__()
        self.loc, self.tril = nn.Parameter(loc.clone()), nn.Parameter(tril.clone())

    def forward(self, x, given=None):
        tril = self.tril.tril().expand(len(x), *self.tril.shape)
        return SigmaPoints(self.loc, scale_tril=tril, validate_args=False)


@pytest.mark.parametrize("closed_form_kl", [True, False])
@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_the_best_posterior_at_a_weight_of_the_kl_is_that_of_a_tempered_likelihood(beta, closed_form_kl):
    # E_q[log p(x|z)] - b KL(q || p) = b log Z - b KL(q || p(x|z)^(1/b) p(z) / Z): a normal with precision
    # W'W / (b s^2) + I, and Z in terms of the evidence with noise b s^2.
    size, latents = WEIGHT.shape
    x = torch.stack([ROW, ROW.flip(0) - 1, 2 * ROW])
    covariance = torch.linalg.inv(torch.eye(latents).double() + WEIGHT.T @ WEIGHT / (beta * NOISE**2))
    loc, tril = x @ WEIGHT @ covariance / (beta * NOISE**2), torch.linalg.cholesky(covariance)
    variance = WEIGHT @ WEIGHT.T + beta * NOISE**2 * torch.eye(size).double()
    log_z = -0.5 * ((x @ torch.linalg.inv(variance) * x).sum(1) + torch.logdet(variance) + size * math.log(2 * math.pi))
    log_z += size / 2 * math.log(2 * math.pi * beta * NOISE**2) - size / (2 * beta) * math.log(2 * math.pi * NOISE**2)
    kl = 0.5 * (covariance.trace() + loc.square().sum(1) - latents - torch.logdet(covariance))

    objective = objectives.ELBO(2 * latents, beta=beta, closed_form_kl=closed_form_kl)
    model = linear_model(WEIGHT, NOISE, FreeFull(loc, tril))
    result = objective(model, x)
    assert abs((result.loss + beta * log_z.mean()).item()) < 1e-10
    assert (result.bound - (beta * log_z + (beta - 1) * kl)).abs().max() < 1e-10
    gradients = torch.autograd.grad(result.loss, list(model.posterior.parameters()))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-10

    other = FreeFull(loc + 0.3, 1.2 * tril + 0.1 * torch.ones(latents, latents).double().tril(-1))
    q, best = other(x), MultivariateNormal(loc, covariance)
    loss = objective(linear_model(WEIGHT, NOISE, other), x).loss
    gap = beta * torch.distributions.kl_divergence(MultivariateNormal(q.loc, scale_tril=q.scale_tril), best)
    assert abs((loss - result.loss - gap.mean()).item()) < 1e-10
    assert gap.mean().item() > 0.05


SLOPE, POINT = 1.5, 1.2  # z ~ N(0, 1), x|z ~ N(1.5 z, 0.8^2), of which x = 1.2 is seen


def log_ratio(z, loc, scale):
    """log p(x, z) - log q(z)."""
    log_joint = Normal(SLOPE * z, NOISE).log_prob(torch.tensor(POINT).double()) + Normal(0.0, 1.0).log_prob(z)
    return log_joint - Normal(loc, scale).log_prob(z)


def expected_log_mean(k, loc, scale):
    r"""E log of the mean of K weights, by :math:`E \log S = \int (e^{-t} - E e^{-t S}) dt / t` and quadrature."""
    e = torch.linspace(-9, 9, 1201, dtype=torch.float64)
    mass = Normal(0.0, 1.0).log_prob(e).exp() * (e[1] - e[0])
    log_weight = log_ratio(loc + scale * e, loc, scale)
    u = torch.arange(-50, 150, 0.1, dtype=torch.float64)
    each = torch.exp(-torch.exp(u[:, None] + log_weight)) @ mass
    return float((torch.exp(-u.exp()) - each**k).sum() * 0.1) - math.log(k)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize(("loc", "scale"), [(0.2, 0.6), (1.0, 0.3)])
def test_the_importance_weighted_bound_has_the_expectation_of_its_definition(loc, scale, k):
    exact = expected_log_mean(k, loc, scale)
    if k <= 2:
        nodes, masses = (torch.tensor(part) for part in np.polynomial.hermite.hermgauss(150))
        masses = masses / math.pi**0.5
        log_weight = log_ratio(loc + scale * 2**0.5 * nodes, loc, scale)
        one = float(masses @ log_weight)
        two = float(masses @ torch.logaddexp(log_weight[:, None], log_weight) @ masses) - math.log(2)
        assert exact == pytest.approx(one if k == 1 else two, abs=1e-6)
    evidence = float(Normal(0.0, (SLOPE**2 + NOISE**2) ** 0.5).log_prob(torch.tensor(POINT).double()))
    assert exact < evidence - 0.01

    parameters = torch.tensor([loc]).double(), unbounded_scale(torch.tensor([scale]).double())
    model, n = linear_model(torch.tensor([[SLOPE]]).double(), NOISE, Free(*parameters)), 100_000
    with seeded(6), torch.no_grad():
        result = objectives.IWAE(k=k)(model, torch.full((n, 1), POINT, dtype=torch.float64))
    error = float(result.bound.std()) / n**0.5
    assert error < 0.01
    assert abs(float(result.bound.mean()) - exact) < 4 * error
    assert float(result.loss) == pytest.approx(-float(result.bound.mean()), abs=1e-10)


@pytest.mark.parametrize("k", [1, 2, 5, 50])
def test_at_the_exact_posterior_the_importance_weighted_bound_is_the_evidence(k):
    oracle = testing.LinearGaussian(WEIGHT, NOISE)
    x = torch.stack([ROW, 3 * ROW, -ROW])
    result = objectives.IWAE(k=k)(oracle.model, x)
    assert (result.bound - oracle.log_evidence(x)).abs().max() < 1e-10
    assert abs((result.loss + oracle.log_evidence(x).mean()).item()) < 1e-10
