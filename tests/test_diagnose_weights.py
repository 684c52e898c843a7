"""Bounds from log-weights, the jackknife, and the noise of gradients."""

import itertools
import math

import pytest
import torch

from jensen import VAE, Conditional, families, nets, objectives, priors, testing
from jensen.diagnose import Draws, Measured, draws_of, gradient_noise, jackknife, least_noisy, weigh
from jensen.diagnose.faults import _bound_faults
from jensen.diagnose.gradients import GradientNoise
from jensen.errors import JensenError, OptionError
from jensen.evaluation import bounds
from jensen.noise import row_keys, seeded
from jensen.roles import Estimate


def log_weights(k, n=7, scale=1.0, seed=0):
    return scale * torch.randn(k, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mean_log(rows):
    return rows.logsumexp(0) - math.log(len(rows))


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0, 300.0])
@pytest.mark.parametrize("k", [3, 6])
def test_the_jackknife_is_its_definition(k, scale):
    log_weight = log_weights(k, scale=scale)
    left = [
        torch.stack([mean_log(log_weight[list(kept)]) for kept in itertools.combinations(range(k), k - j)]).mean(0)
        for j in range(3)
    ]
    first = k * left[0] - (k - 1) * left[1]
    second = k**2 / 2 * left[0] - (k - 1) ** 2 * left[1] + (k - 2) ** 2 / 2 * left[2]
    size = log_weight.abs().max() * k**2
    assert (jackknife(log_weight, 1) - first).abs().max() < 1e-14 * size
    assert (jackknife(log_weight, 2) - second).abs().max() < 1e-14 * size


def test_each_order_of_the_jackknife_takes_bias_away():
    # log w is N(-s^2/2, s^2), so that log p = 0.
    s, k, n = 0.7, 8, 400_000
    log_weight = log_weights(k, n, scale=s) - s**2 / 2
    biases = [mean_log(log_weight), jackknife(log_weight, 1), jackknife(log_weight, 2)]
    means = [float(bias.mean()) for bias in biases]
    error = float(biases[2].std()) / math.sqrt(n)
    assert means[0] < means[1] - 4 * error < means[2] - 4 * error
    assert abs(means[2]) < abs(means[1]) < abs(means[0])


def test_bounds_rise_to_the_evidence_and_carry_their_errors():
    oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.7)

    class Wide(torch.nn.Module):
        def forward(self, x, given=None):
            q = oracle.model.posterior(x)
            return torch.distributions.MultivariateNormal(q.loc, scale_tril=1.3 * q.scale_tril, validate_args=False)

    model = VAE(oracle.model.prior, oracle.model.likelihood, Wide())
    with seeded(0):
        x = oracle.evidence.sample((64,))
    report = weigh(draws_of(model, x, k=1000).log_weight, keys=row_keys(x))
    means = [number.mean for number in report.bounds.values()]
    assert list(report.bounds) == [1, 10, 100, 1000]
    assert means == sorted(means) and means[0] == report.elbo.mean
    exact = float(oracle.log_evidence(x).mean())
    for number in report.jackknife.values():
        assert number.kind == "estimate" and number.k == 32
        assert abs(number.mean - exact) < 4 * number.mc_se
    assert abs(report.bounds[1000].mean - exact) < 4 * report.bounds[1000].mc_se + 1e-3
    # KL(q || p(z|x)) of a posterior 1.3 times too wide, in two dimensions.
    gap = 2 * (0.5 * (1.3**2 - 1) - math.log(1.3))
    assert abs(report.elbo.mean + gap - exact) < 4 * report.elbo.mc_se
    assert report.unreliable == 0.0 and report.threshold == pytest.approx(2 / 3)
    other = bounds(model, x, k=1000, seed=5)
    assert abs(report.elbo.mean - float(other.elbo.mean())) < 4 * math.sqrt(2) * report.elbo.mc_se


def test_few_draws_have_no_pareto_shape_and_refusals_say_so():
    report = weigh(log_weights(20))
    assert report.k_hat is None and report.unreliable is None and list(report.bounds) == [1, 10, 20]
    assert report.to_json()["k_hat_median"] is None
    with pytest.raises(OptionError, match="as many"):
        weigh(log_weights(5), ks=[10])
    with pytest.raises(OptionError, match="shape"):
        weigh(log_weights(5)[0])
    with pytest.raises(OptionError, match="order 1 or 2"):
        jackknife(log_weights(5), 3)
    with pytest.raises(OptionError, match="more draws"):
        jackknife(log_weights(2), 2)


def test_heavy_weights_are_found_unreliable():
    report = weigh(log_weights(1000, n=20, scale=5.0))
    assert report.unreliable > 0.8


# -- gradients -------------------------------------------------------------------------------------------------------


def model(seed=0):
    with seeded(seed):
        posterior = Conditional(nets.mlp(5, 4, (8,)), families.Normal(2, scale=families.PredictedScale()))
        likelihood = Conditional(nets.mlp(2, 5, (8,)), families.Bernoulli(5))
        return VAE(priors.StandardNormal(2), likelihood, posterior), torch.bernoulli(torch.full((6, 5), 0.5))


class Noisy:
    """The gradient of each parameter is 3 plus standard normal noise times a scale."""

    kind, k, period = "lower", 1, 1

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, vae, x, given=None, step=0):
        loss = sum((p * (3 + self.scale * torch.randn_like(p))).sum() for p in vae.parameters())
        return Estimate(loss, None, {})


def test_variance_and_signal_to_noise_are_those_of_a_known_gradient():
    vae, x = model()
    found = gradient_noise(vae, x, {"a": Noisy(0.5)}, repeats=200)["a"]
    for part, module in (("encoder", vae.posterior), ("decoder", vae.likelihood)):
        size = sum(p.numel() for p in module.parameters())
        assert abs(found[part].variance.beyond(0.25 * size)) < 4
        assert found[part].snr == pytest.approx(6, rel=0.05)


def test_a_gradient_without_noise_has_none():
    vae, x = model()
    found = gradient_noise(vae, x, {"a": Noisy(0.0)}, repeats=3)["a"]["encoder"]
    assert found.variance.value < 1e-9 and found.snr > 1e6


def test_a_closed_form_kl_is_quieter_for_an_untrained_posterior_and_modes_are_put_back():
    vae, x = model()
    vae.train()
    options = {"closed form": objectives.ELBO(), "sampled": objectives.ELBO(closed_form_kl=False)}
    found = gradient_noise(vae, x, options, repeats=100)
    assert found["closed form"]["encoder"].variance.value < found["sampled"]["encoder"].variance.value
    assert least_noisy(found) == "closed form"
    assert vae.training and all(p.grad is None for p in vae.parameters())


def test_what_does_not_compose_is_left_out():
    class Refuses(Noisy):
        def __call__(self, vae, x, given=None, step=0):
            raise JensenError("no")

    vae, x = model()
    assert list(gradient_noise(vae, x, {"a": Refuses(1.0), "b": Noisy(1.0)}, repeats=2)) == ["b"]
    assert least_noisy({}) is None
    with pytest.raises(OptionError, match="2 repeats"):
        gradient_noise(vae, x, {}, repeats=1)


def test_of_those_that_cannot_be_told_apart_the_first_is_recommended():
    noise = {name: {"encoder": GradientNoise(Measured(v, 1.0), 1.0, 9)} for name, v in (("a", 5.5), ("b", 5.0))}
    assert least_noisy(noise) == "a"


def test_a_bound_that_is_too_low_is_named_where_there_is_no_kl_to_explain_it():
    zeros = torch.zeros(8, 3, dtype=torch.float64)
    draws = Draws(z=zeros[..., None], log_likelihood=zeros, log_prior=zeros, log_posterior=zeros, log_weight=zeros)
    (fault,) = _bound_faults(torch.full((4, 3), -10.0, dtype=torch.float64), draws, above_elbo=True)
    assert "below the ELBO" in fault.found
