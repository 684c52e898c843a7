"""Models with several groups of latents against two-layer linear-Gaussian truths."""

import json
import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, MultivariateNormal

import jensen
from jensen import VAE, Conditional, diagnose, evaluation, families, inference, nets, objectives, priors
from jensen.distributions import closed_form_kl, diagonal_normal
from jensen.errors import CompositionError, JensenError, OptionError, ShapeError
from jensen.model import Explicit, Rung, TopDown
from jensen.noise import seeded
from jensen.roles import Given

A = torch.tensor([[0.8, -0.3], [0.2, 0.6]], dtype=torch.float64)
W1 = torch.tensor([[1.0, 0.5], [-0.4, 0.3], [0.2, 0.9]], dtype=torch.float64)
W2 = torch.tensor([[0.7, -0.2], [0.1, 1.1], [0.5, 0.4]], dtype=torch.float64)
SPREAD, NOISE = 0.6, 0.5
B = W1 + W2 @ A
COVARIANCE = B @ B.T + SPREAD**2 * W2 @ W2.T + NOISE**2 * torch.eye(3, dtype=torch.float64)
EVIDENCE = MultivariateNormal(torch.zeros(3, dtype=torch.float64), COVARIANCE)


class Affine(nn.Module):
    """A normal whose mean is linear in its inputs."""

    def __init__(self, weight, covariance, wide=1.0, shift=0.0):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.factor = nn.Buffer(torch.linalg.cholesky(covariance) * wide)
        self.shift = nn.Parameter(torch.tensor(shift, dtype=torch.float64))
        self.event_shape = (len(weight),)

    def forward(self, inputs, given=None):
        loc = inputs @ self.weight.T + self.shift
        if torch.equal(self.factor, self.factor.diagonal().diag()):
            return diagonal_normal(loc, self.factor.diagonal().expand_as(loc), 1)
        return MultivariateNormal(loc, scale_tril=self.factor, validate_args=False)


class Mixed(nn.Module):
    """The state W1 z1 + W2 z2 that the data are seen through."""

    def forward(self, state, z):
        return state @ W1.T + z @ W2.T


def square(size, value):
    return value**2 * torch.eye(size, dtype=torch.float64)


def conditioned(gain, prior, noise):
    """Mean and covariance of u given y, for u ~ N(0, prior) and y = gain u + noise."""
    covariance = torch.linalg.inv(torch.linalg.inv(prior) + gain.T @ torch.linalg.inv(noise) @ gain)
    return covariance @ gain.T @ torch.linalg.inv(noise), covariance


def linear(wide=1.0, shift=0.0):
    """z1 ~ N(0, I), z2|z1 ~ N(A z1, s²), x|z ~ N(W1 z1 + W2 z2, σ²), and its posteriors, exact or not."""
    marginal = SPREAD**2 * W2 @ W2.T + square(3, NOISE)
    first, first_covariance = conditioned(B, square(2, 1.0), marginal)
    gain, second_covariance = conditioned(W2, square(2, SPREAD), square(3, NOISE))
    # E[z2|z1, x] = A z1 + gain (x - B z1), from z1 and x side by side.
    second = torch.cat([A - gain @ B, gain], 1)
    top = Rung(priors.StandardNormal(2).double(), Affine(first, first_covariance, wide, shift), nn.Identity())
    below = Rung(Affine(A, square(2, SPREAD)), Affine(second, second_covariance, wide, shift), Mixed())
    return TopDown(nn.Identity(), [top, below], Affine(torch.eye(3, dtype=torch.float64), square(3, NOISE)))


def rows(n=40):
    with seeded(5):
        return EVIDENCE.sample((n,))


def test_with_exact_posteriors_every_log_weight_is_the_evidence():
    x = rows()
    draw = linear().draw(x, k=7)
    assert [group.z.shape for group in draw.groups] == [(7, 40, 2)] * 2
    assert (draw.log_weight - EVIDENCE.log_prob(x)).abs().max() < 1e-10


def test_other_posteriors_give_bounds_that_rise_with_k_to_the_evidence():
    x, model = rows(200), linear(wide=1.4, shift=0.3)
    exact = EVIDENCE.log_prob(x)
    scores = {k: evaluation.bounds(model, x, k=k) for k in (1, 10, 2000)}
    means = [float((scores[k].log_likelihood - exact).mean()) for k in scores]
    assert means[0] < means[1] < means[2] < 0.01
    assert float(scores[2000].elbo.mean()) < float(exact.mean()) - 0.3
    error = (scores[2000].log_likelihood - exact) / scores[2000].log_likelihood_variance.sqrt()
    assert error.abs().max() < 5 and abs(float(error.mean())) < 5 / math.sqrt(200)


def test_the_gap_of_the_bound_is_the_kl_of_the_joint_posteriors():
    x, model = rows(400), linear(shift=0.3)
    exact, gap = linear(), 0.0
    for ours, true in zip(model.rungs, exact.rungs, strict=True):
        inputs = torch.zeros(1, ours.posterior.weight.shape[1], dtype=torch.float64)
        gap = gap + closed_form_kl(ours.posterior(inputs), true.posterior(inputs))
    found = evaluation.elbo(model, x, k=50)
    z = (found.mean + gap.item() - float(EVIDENCE.log_prob(x).mean())) / found.mc_se
    assert abs(z) < 4


def test_ancestral_samples_have_the_covariance_of_the_model():
    n = 20_000
    with seeded(1):
        x = linear().sample(n)
    error = torch.cov(x.T) - COVARIANCE
    se = ((COVARIANCE.diagonal()[:, None] * COVARIANCE.diagonal() + COVARIANCE**2) / n).sqrt()
    assert (error / se).abs().max() < 4.5


def test_each_sample_of_a_prior_with_a_condition_has_its_own():
    model, n = linear(), 4000
    model.rungs[0].prior = priors.ConditionedNormal(2, conditions=2).double()
    with torch.no_grad():
        model.rungs[0].prior.mean.copy_(torch.tensor([[3.0, 0.0], [0.0, -3.0]]))
    labels = torch.arange(n) % 2
    with seeded(0):
        x = model.sample(n, Given(condition=torch.eye(2, dtype=torch.float64)[labels]))
    assert x.shape == (n, 3)
    for label, mean in enumerate(model.rungs[0].prior.mean.detach() @ B.T):
        seen = x[labels == label]
        assert ((seen.mean(0) - mean) / (seen.std(0) / len(seen) ** 0.5)).abs().max() < 4


def networks(groups=3, latents=2, width=8, size=6):
    def normal(inputs):
        return Conditional(nets.mlp(inputs, 2 * latents, hidden=(12,)), families.Normal(latents, PREDICTED))

    rungs = [Rung(priors.StandardNormal(latents), normal(width), nets.ResidualUpdate(latents, width))]
    for _ in range(groups - 1):
        rungs.append(Rung(normal(width), normal(2 * width), nets.ResidualUpdate(latents, width)))
    likelihood = Conditional(nets.mlp(width, size, hidden=()), families.Bernoulli(size))
    return TopDown(nets.residual_features(size, width), rungs, likelihood)


PREDICTED = families.PredictedScale()


def binary(n=30, size=6):
    return torch.bernoulli(torch.full((n, size), 0.4), generator=torch.Generator().manual_seed(0))


def test_one_group_is_a_vae():
    posterior = Conditional(nets.mlp(6, 4), families.Normal(2, PREDICTED))
    likelihood, prior = Conditional(nets.mlp(2, 6), families.Bernoulli(6)), priors.StandardNormal(2)
    one, vae = (
        TopDown(nn.Identity(), [Rung(prior, posterior, nn.Identity())], likelihood),
        VAE(prior, likelihood, posterior),
    )
    x = binary()
    a, b = (evaluation.bounds(model, x, k=20) for model in (one, vae))
    assert torch.equal(a.elbo, b.elbo) and torch.equal(a.log_likelihood, b.log_likelihood)
    assert torch.equal(one.embed(x), vae.embed(x)) and one.latent_size == vae.latent_size
    a, b = evaluation.latents(one, x), evaluation.latents(vae, x)
    assert a.kl == pytest.approx(b.kl, abs=1e-12) and torch.equal(a.mean_variance, b.mean_variance)
    for model in (one, vae):
        torch.manual_seed(0)
        model.estimate = objectives.ELBO(2, free_bits=0.01)(model, x)
    assert torch.equal(one.estimate.loss, vae.estimate.loss) and torch.equal(one.estimate.bound, vae.estimate.bound)


def test_log_joint_takes_groups_or_all_in_one():
    model, x = networks(), binary()
    draw = model.draw(x, k=4)
    groups = [group.z for group in draw.groups]
    total = draw.log_likelihood + sum(group.log_prior for group in draw.groups)
    assert torch.allclose(model.log_joint(x, groups), total, atol=1e-5)
    assert torch.allclose(model.log_joint(x, torch.cat(groups, -1)), total, atol=1e-5)
    assert torch.allclose(model.decode(groups).log_prob(x), draw.log_likelihood, atol=1e-5)
    assert model.embed(x).shape == (30, 6) and model.decode(model.embed(x)).mean.shape == (30, 6)
    assert model.sample(5).shape == model.sample(5, mean=True).shape == (5, 6)


def test_bounds_of_a_row_do_not_depend_on_the_rows_around_it():
    model, x = networks(), binary(80)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    a, b = (evaluation.bounds(model, rows, k=9).log_likelihood for rows in (x, x[order]))
    assert torch.equal(a[order], b)
    assert torch.equal(evaluation.bounds(model, x[:3], k=9).elbo, evaluation.bounds(model, x, k=9).elbo[:3])


def test_the_kl_by_formula_is_the_one_from_samples():
    model, x = networks().double(), binary().double()
    torch.manual_seed(0)
    formula = objectives.ELBO(4000)(model, x)
    torch.manual_seed(0)
    sampled = objectives.ELBO(4000, closed_form_kl=False)(model, x)
    draw = model.draw(x, k=4000)
    spread = sum(g.log_posterior - g.log_prior for g in draw.groups).std(0) / math.sqrt(4000)
    assert ((formula.bound - sampled.bound) / spread).abs().max() < 5


def test_free_bits_are_counted_for_each_latent_and_each_group():
    model, x = networks(), binary()
    kl = objectives.ELBO(free_bits=3.0)(model, x).terms["kl"]
    assert torch.allclose(kl, torch.full((30,), 3.0 * 6))
    kl = objectives.ELBO(free_bits_per_group=3.0)(model, x).terms["kl"]
    assert torch.allclose(kl, torch.full((30,), 3.0 * 3))
    torch.manual_seed(0)
    free = objectives.ELBO(free_bits=1e-9)(model, x)
    torch.manual_seed(0)
    assert torch.allclose(free.terms["kl"], objectives.ELBO()(model, x).terms["kl"], atol=1e-5)


def test_a_group_that_copies_its_prior_is_inactive():
    model = linear()
    model.rungs[1].posterior = Affine(torch.cat([A, torch.zeros(2, 3)], 1).double(), square(2, SPREAD))
    found = evaluation.latents(model, rows(200))
    assert found.active == 2 and found.mean_variance[2:].abs().max() < 1e-20
    assert found.kl > 0.1 and found.kl_per_latent is None  # the top posterior has a full covariance


def test_score_function_gradients_agree_with_reparameterised_ones():
    x, gradients = rows(3), {}
    for name, estimator in (("path", objectives.Reparameterised()), ("score", objectives.LeaveOneOut())):
        found = []
        for seed in range(40):
            model = linear(wide=1.3, shift=0.2)
            with seeded(seed):
                objectives.ELBO(200, estimator=estimator, closed_form_kl=False)(model, x).loss.backward()
            found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        gradients[name] = torch.stack(found)
    difference = gradients["path"].mean(0) - gradients["score"].mean(0)
    se = ((gradients["path"].var(0) + gradients["score"].var(0)) / 40).sqrt()
    assert (difference / se.clamp(min=1e-12)).abs().max() < 4.5


@pytest.mark.parametrize("objective", [objectives.IWAE(4), objectives.MIWAE(2, 3)], ids=["iwae", "miwae"])
def test_other_objectives_take_several_groups(objective):
    model = networks()
    estimate = objective(model, binary())
    estimate.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_what_does_not_compose_is_refused():
    with pytest.raises(CompositionError, match="one group"):
        objectives.IWAE(4, estimator=objectives.DoublyReparameterised())(networks(), binary())
    with pytest.raises(OptionError, match="at least one Rung"):
        TopDown(nn.Identity(), [], Conditional(nets.mlp(2, 6), families.Bernoulli(6)))
    with pytest.raises(OptionError, match="event_shape"):
        Rung(priors.StandardNormal(2), nn.Identity(), nn.Identity())
    normal = Conditional(nets.mlp(6, 4), families.Normal(2, PREDICTED))
    likelihood = Conditional(nets.mlp(2, 6), families.Bernoulli(6))
    for prior, error, reason in (
        (priors.Bernoulli(2), CompositionError, "zeros and ones"),
        (priors.StandardNormal(3), ShapeError, "same number of latents"),
        (priors.ConditionedNormal(1, conditions=3), ShapeError, "same number of latents"),
    ):
        with pytest.raises(error, match=reason):
            TopDown(nn.Identity(), [Rung(prior, normal, nn.Identity())], likelihood)
    with pytest.raises(CompositionError, match="zeros and ones"):
        Rung(Conditional(nets.mlp(6, 2), families.Bernoulli(2)), normal, nn.Identity())
    with pytest.raises(ShapeError, match="z of 3 groups"):
        networks().decode([torch.zeros(1, 2)])
    with pytest.raises(ShapeError, match="6 values"):
        networks().decode(torch.zeros(1, 5))


def test_a_ladder_is_saved_and_loaded(tmp_path):
    model, x = networks(), binary()
    jensen.save(model, tmp_path / "ladder")
    again = jensen.load(tmp_path / "ladder").vae
    assert torch.equal(evaluation.bounds(again, x, k=5).elbo, evaluation.bounds(model, x, k=5).elbo)


def test_networks_compute_in_lower_precision_while_training():
    model, x = networks(), binary(600)
    history = jensen.train.fit(model, objectives.ELBO(), x, steps=4, valid=x[:50], precision="bf16", validate_every=2)
    assert history.finished and model.dtype is None
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_the_check_measures_what_it_can_and_says_what_it_cannot():
    page = jensen.check(networks(), binary(60), rows=20, samples=20, objective=objectives.ELBO())
    assert page.weights is not None and not page.faults
    assert "one prior and one posterior" in page.skipped["annealed"] and "use" in page.skipped


class Coins(nn.Module):
    def forward(self, z, given=None):
        return Independent(Bernoulli(torch.full((6,), 0.5)), 1)


OF_ONE_Z = {
    "posterior": lambda model, x: jensen.posterior(model, x),
    "ais": lambda model, x: inference.ais(model, x, temperatures=2),
    "bdmc": lambda model, x: inference.bdmc(model, 2, temperatures=2),
    "posterior_chains": lambda model, x: inference.posterior_chains(model, x, draws=2, warmup=20),
    "best_in_family": lambda model, x: inference.best_in_family(model, x, steps=1),
    "inference_gaps": lambda model, x: diagnose.inference_gaps(model, x, steps=1, samples=2),
    "simulated": lambda model, x: diagnose.simulated(model, 2),
    "simulation_calibration": lambda model, x: diagnose.simulation_calibration(model, rows=100),
    "prior_gap": lambda model, x: diagnose.prior_gap(model, x),
    "posterior_scale": lambda model, x: diagnose.posterior_scale(model, x),
}


@pytest.mark.parametrize("name", OF_ONE_Z)
def test_what_needs_one_prior_and_one_posterior_says_so(name):
    for model in (networks(), Explicit(Coins())):
        reason = rf"needs a model with one .*; {type(model).__name__} has no p.*jensen\.log_likelihood"
        with pytest.raises(JensenError, match=reason):
            OF_ONE_Z[name](model, binary())


def test_convolutional_ladders_go_from_coarse_to_fine(tmp_path):
    schema = jensen.data.Schema(name="im", event_shape=(33, 40, 3), dtype="uint8", kind="binned", levels=256)
    model = jensen.zoo.build("ladder-vae", schema, rows=100, width=4, groups=(2, 2, 3)).model
    assert [rung.event_shape for rung in model.rungs] == [(2, 9, 10), (2, 17, 20), (3, 33, 40)]
    x = torch.rand(2, 33, 40, 3).mul(255).round() / 255
    draw = model.draw(x, k=3)
    assert draw.log_weight.shape == (3, 2) and draw.groups[2].z.shape == (3, 2, 3, 33, 40)
    z = torch.cat([group.z.flatten(2) for group in draw.groups], 2)
    total = draw.log_likelihood + sum(group.log_prior for group in draw.groups)
    assert torch.allclose(model.log_joint(x, z), total, rtol=1e-5)
    draw.log_weight.mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    jensen.save(model, tmp_path / "ladder")


def test_the_groups_are_chosen_on_the_command_line(cli, tmp_path):
    small = ("--width", "8", "--steps", "2", "--samples", "2", "--json")
    code, out, _ = cli(
        "fit", "digits", "--model", "ladder-vae", "--groups", "3,2", "--out", str(tmp_path / "a"), *small
    )
    assert code == 0 and len(json.loads(out)["kl_per_latent"]) == 5
    for wrong, text in (("3,x", "expected numbers"), ("0", "--groups cannot be")):
        code, _, error = cli("fit", "digits", "--model", "ladder-vae", "--groups", wrong, *small)
        assert code == 2 and text in error
    code, _, error = cli("fit", "digits", "--model", "ladder-vae", "--estimator", "sticking-the-landing", *small)
    assert code == 2 and "one group of latents" in error
