"""Gradient estimators against exact gradients: by enumeration where latents are discrete, with z-scores where not."""

import itertools
import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal

from jensen import VAE, families, objectives, priors, testing
from jensen.conditional import Conditional
from jensen.distributions import diagonal_normal
from jensen.errors import CompositionError
from jensen.noise import seeded
from jensen.objectives.elbo import shared_kl
from jensen.objectives.gradients import log_weights
from jensen.objectives.means import MixedMean, PowerMean
from jensen.roles import Draw, Group, Shared

TARGETS = {
    "elbo": PowerMean(1.0),
    "iwae": PowerMean(0.0),
    "renyi": PowerMean(0.5),
    "renyi-2": PowerMean(2.0),
    "miwae": PowerMean(0.0, groups=2),
    "ciwae": MixedMean(PowerMean(1.0), PowerMean(0.0), 0.3),
}
ESTIMATORS = {
    "reparameterised": objectives.Reparameterised(),
    "sticking": objectives.StickingTheLanding(),
    "doubly": objectives.DoublyReparameterised(),
    "leave-one-out": objectives.LeaveOneOut(),
}


@pytest.mark.parametrize("target", TARGETS)
def test_the_weights_are_the_derivatives_of_the_mean(target):
    mean = TARGETS[target]
    log_weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_weight.requires_grad_()
    (first,) = torch.autograd.grad(mean.value(log_weight).sum(), log_weight, create_graph=True)
    torch.testing.assert_close(mean.weights(log_weight), first, rtol=1e-12, atol=1e-12)
    second = torch.stack(
        [torch.autograd.grad(first[k].sum(), log_weight, retain_graph=True, allow_unused=True)[0] for k in range(4)]
        if first.requires_grad
        else [torch.zeros_like(log_weight) for k in range(4)]
    )
    diagonal = second[torch.arange(4), torch.arange(4)]
    torch.testing.assert_close(mean.path_weights(log_weight), first - diagonal, rtol=1e-10, atol=1e-12)


def test_a_power_mean_near_one_is_the_mean():
    log_weight = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(
        PowerMean(1 + 1e-7).value(log_weight), PowerMean(1.0).value(log_weight), rtol=0, atol=1e-6
    )


class Coins:
    """Two coins as latents, a logistic decoder: every expectation is a sum over four states."""

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        self.theta = torch.randn(3, generator=generator, dtype=torch.float64).requires_grad_()
        self.phi = torch.randn(2, generator=generator, dtype=torch.float64).requires_grad_()
        self.prior = Independent(Bernoulli(logits=torch.tensor([0.3, -0.8], dtype=torch.float64)), 1)

    def draw(self, z):
        posterior = Independent(Bernoulli(logits=self.phi[None]), 1)
        logit = z @ self.theta[:2] + self.theta[2]
        return Draw((Group(z, self.prior, posterior),), Bernoulli(logits=logit).log_prob(torch.ones_like(logit)))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_leave_one_out_is_exact_in_expectation(target, beta):
    coins, k = Coins(), 4 if target == "miwae" else 3
    mean = TARGETS[target]
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=torch.float64)
    expected = torch.zeros((), dtype=torch.float64)
    estimated = [torch.zeros(3, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)]
    for chosen in itertools.product(range(4), repeat=k):
        z = states[list(chosen)][:, None]
        draw = coins.draw(z)
        log_weight = log_weights(draw, [draw.groups[0].log_posterior], beta)
        probability = draw.groups[0].log_posterior.sum().exp()
        expected = expected + probability * mean.value(log_weight).sum()
        found = objectives.LeaveOneOut()(coins.draw(z), mean, mean, beta)
        torch.testing.assert_close(found, mean.value(log_weight).detach(), rtol=1e-12, atol=1e-12)
        gradients = torch.autograd.grad(found.sum(), [coins.theta, coins.phi])
        estimated = [e + probability.detach() * g for e, g in zip(estimated, gradients, strict=True)]
    exact = torch.autograd.grad(expected, [coins.theta, coins.phi])
    for name, a, b in zip(("theta", "phi"), estimated, exact, strict=True):
        assert (a - b).abs().max() < 1e-10, name


class Toy:
    """One example, R replicates: prior N(theta, 1), x|z ~ N(z, 1), q = N(phi, s^2); a parameter for each replicate."""

    def __init__(self, replicates, phi=0.9, scale=0.8):
        ones = torch.ones(replicates, 1, dtype=torch.float64)
        self.theta = (0.3 * ones).requires_grad_()
        self.phi = (phi * ones).requires_grad_()
        self.raw = (math.log(scale) * ones).requires_grad_()

    def gradients(self, estimator, target, k, *, seed, encoder_target=None, beta=1.0):
        with seeded(seed):
            posterior = diagonal_normal(self.phi, self.raw.exp(), 1)
            z = posterior.rsample((k,))
        prior = diagonal_normal(self.theta, torch.ones_like(self.theta), 1)
        draw = Draw(
            (Group(z, prior, posterior),), diagonal_normal(z, torch.ones_like(z), 1).log_prob(torch.tensor(1.7))
        )
        value = estimator(draw, target, encoder_target or target, beta)
        return torch.stack(torch.autograd.grad(value.sum(), [self.theta, self.phi, self.raw]))[..., 0]


def z_scores(a, b):
    difference = a.mean(1) - b.mean(1)
    return difference / (a.var(1) / a.shape[1] + b.var(1) / b.shape[1]).sqrt()


@pytest.mark.parametrize("estimator", ["doubly", "leave-one-out"])
@pytest.mark.parametrize(("target", "beta"), [*((target, 1.0) for target in TARGETS), ("renyi", 0.3)])
def test_estimators_agree_with_the_plain_gradient_in_mean(estimator, target, beta):
    toy, mean, k = Toy(400_000), TARGETS[target], 4
    plain = toy.gradients(ESTIMATORS["reparameterised"], mean, k, seed=1, beta=beta)
    other = toy.gradients(ESTIMATORS[estimator], mean, k, seed=2, beta=beta)
    assert z_scores(plain, other).abs().max() < 4


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_latents_of_the_whole_data_set_get_the_gradient_of_their_kl(estimator):
    raw = torch.full((200_000,), -0.5, dtype=torch.float64).requires_grad_()
    with seeded(0):
        g = Normal(0.0, raw.exp()).rsample()
    shared = Shared(g, Normal(torch.zeros_like(raw), 1.0), Normal(torch.zeros_like(raw), raw.exp()), 1)
    draw = Draw((), torch.zeros(1, len(raw), dtype=torch.float64), shared=(shared,))
    kl, _ = shared_kl(draw, ESTIMATORS[estimator], closed_form=False)
    (found,) = torch.autograd.grad(kl.sum(), raw)
    z = (found.mean() - (math.exp(-1) - 1)) / (found.std() / len(found) ** 0.5)
    assert abs(float(z)) < 4


def test_sticking_the_landing_is_unbiased_for_the_elbo_and_biased_for_the_weighted_bound():
    toy, sticking, plain = Toy(400_000, phi=0.4), ESTIMATORS["sticking"], ESTIMATORS["reparameterised"]
    for k in (1, 4):
        scores = z_scores(
            toy.gradients(plain, PowerMean(1.0), k, seed=1), toy.gradients(sticking, PowerMean(1.0), k, seed=2)
        )
        assert scores.abs().max() < 4
    biased = z_scores(
        toy.gradients(plain, PowerMean(0.0), 4, seed=1), toy.gradients(sticking, PowerMean(0.0), 4, seed=2)
    )
    assert biased[1:].abs().max() > 8
    assert abs(float(biased[0])) < 4  # the prior has no part in it


@pytest.mark.parametrize("estimator", ["reparameterised", "doubly", "leave-one-out"])
def test_an_encoder_with_a_target_of_its_own_gets_its_gradient_and_the_decoder_the_other(estimator):
    toy, wide, narrow = Toy(400_000), PowerMean(0.0), PowerMean(0.0, groups=2)
    both = toy.gradients(ESTIMATORS[estimator], wide, 4, seed=1, encoder_target=narrow)
    plain = ESTIMATORS["reparameterised"]
    whole, grouped = toy.gradients(plain, wide, 4, seed=2), toy.gradients(plain, narrow, 4, seed=3)
    assert z_scores(both, whole)[0].abs() < 4
    assert z_scores(both, grouped)[1:].abs().max() < 4
    assert z_scores(whole, grouped)[1:].abs().max() > 8


def half_impossible(estimator, encoder_target, log_weight, *, which):
    """Value and gradients where some of six samples have a given log-likelihood, whatever their z."""
    toy = Toy(20)
    with seeded(4):
        posterior = diagonal_normal(toy.phi, toy.raw.exp(), 1)
        z = posterior.rsample((6,))
    prior = diagonal_normal(toy.theta, torch.ones_like(toy.theta), 1)
    likelihood = diagonal_normal(z, torch.ones_like(z), 1).log_prob(torch.tensor(1.7))
    hit = torch.isin(torch.arange(6), torch.tensor(which))[:, None]
    draw = Draw((Group(z, prior, posterior),), torch.where(hit, log_weight, likelihood))
    value = ESTIMATORS[estimator](draw, PowerMean(0.0), encoder_target, 1.0)
    return value, torch.stack(torch.autograd.grad(value.sum(), [toy.theta, toy.phi, toy.raw]))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_sample_that_cannot_be_is_one_of_weight_zero(estimator, groups):
    encoder_target = PowerMean(0.0, groups)
    for which in ([1], [1, 5]):
        found = half_impossible(estimator, encoder_target, -math.inf, which=which)
        expected = half_impossible(estimator, encoder_target, -1e6, which=which)  # exp(-1e6) is 0
        for a, b in zip(found, expected, strict=True):
            assert a.isfinite().all()
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_where_no_other_sample_can_be_the_baseline_is_zero():
    value, gradient = half_impossible("leave-one-out", PowerMean(0.0), -math.inf, which=[1, 2, 3, 4, 5])
    assert value.isfinite().all() and gradient.isfinite().all()


def test_sticking_the_landing_has_no_variance_at_the_exact_posterior():
    oracle = testing.LinearGaussian(torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), noise=0.7)
    x = oracle.evidence.sample((6,))
    head = oracle.model.posterior
    parameters = [torch.nn.Parameter(head.gain), torch.nn.Parameter(head.factor)]
    head.gain, head.factor = None, None
    del head._buffers["gain"], head._buffers["factor"]
    head.gain, head.factor = parameters
    for k in (1, 8):
        loss = objectives.IWAE(k, estimator=objectives.StickingTheLanding())(oracle.model, x).loss
        gradients = torch.autograd.grad(loss, parameters)
        assert max(float(g.abs().max()) for g in gradients) < 1e-12 * (1 + 1 / 0.7**2) * 100
    loss = objectives.IWAE(1)(oracle.model, x).loss
    assert max(float(g.abs().max()) for g in torch.autograd.grad(loss, parameters)) > 1e-2


def discrete_model(family):
    return VAE(
        priors.Bernoulli(3),
        Conditional(torch.nn.Linear(3, 4), families.Bernoulli(4)),
        Conditional(torch.nn.Linear(4, 3), family),
    )


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        (objectives.ELBO(), "depend smoothly"),
        (objectives.IWAE(3), "depend smoothly"),
        (objectives.IWAE(3, estimator=objectives.StickingTheLanding()), "depend smoothly"),
        (objectives.IWAE(3, estimator=objectives.DoublyReparameterised()), "depend smoothly"),
        (objectives.MMD(), "depend smoothly"),
        (objectives.DIP(), "depend smoothly"),
        (objectives.BetaTCVAE(5), "depend smoothly"),
    ],
)
def test_samples_without_a_gradient_are_refused_with_the_reason(objective, reason):
    with pytest.raises(CompositionError, match=reason):
        objective(discrete_model(families.Bernoulli(3)), torch.ones(4, 4))


def test_discrete_latents_learn_by_leave_one_out():
    model = discrete_model(families.Bernoulli(3))
    objectives.ELBO(3, estimator=objectives.LeaveOneOut())(model, torch.ones(4, 4)).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.posterior.net.weight.grad.abs().max() > 0


def test_several_groups_are_refused_where_detaching_would_cut_a_path():
    q = Independent(Normal(torch.zeros(2, 1, requires_grad=True), 1.0), 1)
    z = q.rsample((3,))
    p = Independent(Normal(torch.zeros(1), 1.0), 1)
    draw = Draw((Group(z, p, q), Group(z, p, q)), z.sum(-1))
    for name in ("sticking", "doubly"):
        with pytest.raises(CompositionError, match="one group"):
            ESTIMATORS[name](draw, PowerMean(0.0), PowerMean(0.0), 1.0)
    assert ESTIMATORS["reparameterised"](draw, PowerMean(0.0), PowerMean(0.0), 1.0).shape == (2,)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_mean_that_has_no_share_may_be_infinite(share):
    log_weight = torch.tensor([[0.0], [-math.inf]])
    finite, infinite = PowerMean(0.0), PowerMean(1.0)
    parts = (infinite, finite) if share == 0 else (finite, infinite)
    assert MixedMean(*parts, share).value(log_weight).tolist() == finite.value(log_weight).tolist()
