"""The contract that every objective keeps; a new objective is one more row of OBJECTIVES."""

import math

import pytest
import torch
from torch import nn

from jensen import VAE, Conditional, JensenError, families, nets, objectives, priors, schedules
from jensen.errors import CompositionError, OptionError
from jensen.model import Autoencoder
from jensen.noise import seeded
from jensen.objectives.aggregate import squared_mmd

OBJECTIVES = {
    "elbo": lambda: objectives.ELBO(),
    "elbo-sampled": lambda: objectives.ELBO(closed_form_kl=False),
    "elbo-k": lambda: objectives.ELBO(k=5),
    "elbo-beta": lambda: objectives.ELBO(beta=4.0),
    "elbo-warmup": lambda: objectives.ELBO(beta=schedules.Linear(0.0, 1.0, steps=10)),
    "elbo-free-bits": lambda: objectives.ELBO(free_bits=0.05),
    "elbo-group-free-bits": lambda: objectives.ELBO(free_bits_per_group=0.05),
    "elbo-sticking": lambda: objectives.ELBO(k=2, estimator=objectives.StickingTheLanding()),
    "elbo-doubly": lambda: objectives.ELBO(k=2, beta=0.5, estimator=objectives.DoublyReparameterised()),
    "elbo-leave-one-out": lambda: objectives.ELBO(k=3, estimator=objectives.LeaveOneOut()),
    "iwae": lambda: objectives.IWAE(k=4),
    "iwae-warmup": lambda: objectives.IWAE(k=4, beta=schedules.Linear(0.0, 1.0, steps=10)),
    "iwae-sticking": lambda: objectives.IWAE(k=4, estimator=objectives.StickingTheLanding()),
    "iwae-doubly": lambda: objectives.IWAE(k=4, estimator=objectives.DoublyReparameterised()),
    "iwae-leave-one-out": lambda: objectives.IWAE(k=4, estimator=objectives.LeaveOneOut()),
    "miwae": lambda: objectives.MIWAE(groups=2, k=3),
    "piwae": lambda: objectives.PIWAE(groups=2, k=3),
    "piwae-doubly": lambda: objectives.PIWAE(groups=2, k=3, estimator=objectives.DoublyReparameterised()),
    "ciwae": lambda: objectives.CIWAE(k=4, share=0.3),
    "renyi": lambda: objectives.Renyi(k=4, alpha=0.5),
    "renyi-doubly": lambda: objectives.Renyi(k=4, alpha=2.0, estimator=objectives.DoublyReparameterised()),
    "renyi-negative": lambda: objectives.Renyi(k=4, alpha=-1.0),
    "beta-tcvae": lambda: objectives.BetaTCVAE(rows=20, beta=4.0),
    "dip-samples": lambda: objectives.DIP(2.0, 3.0),
    "dip-means": lambda: objectives.DIP(2.0, 3.0, of_samples=False),
    "mmd": lambda: objectives.MMD(5.0),
    "mmd-infovae": lambda: objectives.MMD(5.0, kl=0.5, kernel=objectives.SquaredExponential()),
    "wake-sleep": lambda: objectives.ReweightedWakeSleep(k=3, sleep=0.5),
    "wake-wake": lambda: objectives.ReweightedWakeSleep(k=3),
    "elbo-all": lambda: objectives.ELBO(k=2, beta=schedules.Linear(0.0, 2.0, steps=10), free_bits=0.01),
}
PRIORS = {"standard": priors.StandardNormal}
LIKELIHOODS = {
    "normal-shared": lambda: families.Normal(6),
    "normal-fixed": lambda: families.Normal(6, scale=families.FixedScale(0.5)),
    "normal-per-dimension": lambda: families.Normal(6, scale=families.PerDimensionScale(6)),
    "normal-predicted": lambda: families.Normal(6, scale=families.PredictedScale()),
    "normal-full": lambda: families.FullNormal(6),
    "bernoulli": lambda: families.Bernoulli(6),
    "categorical": lambda: families.Categorical(6, levels=3),
    "logistic": lambda: families.DiscretizedLogistic(6, levels=3),
}
POSTERIORS = {
    "diagonal": lambda: families.Normal(3, scale=families.PredictedScale()),
    "shared": lambda: families.Normal(3, scale=families.SharedScale()),
    "per-dimension": lambda: families.Normal(3, scale=families.PerDimensionScale(3)),
    "full": lambda: families.FullNormal(3),
}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def conditional(inputs, family):
    return Conditional(nets.mlp(inputs, sum(torch.Size(s).numel() for s in family.parameter_shapes), (8,)), family)


def make(prior="standard", likelihood="bernoulli", posterior="diagonal", seed=0):
    with seeded(seed):
        return VAE(PRIORS[prior](3), conditional(3, LIKELIHOODS[likelihood]()), conditional(6, POSTERIORS[posterior]()))


def binary(n=20):
    return torch.bernoulli(torch.full((n, 6), 0.4), generator=torch.Generator().manual_seed(1))


def estimate(objective, model, x, step=0, seed=3):
    with seeded(seed):
        return objective(model, x, step=step)


@every_objective
@pytest.mark.parametrize("step", [0, 3, 50])
def test_the_loss_is_the_sum_of_the_means_of_its_terms(name, step):
    objective, x = OBJECTIVES[name](), binary()
    result = estimate(objective, make(), x, step)
    assert result.loss.shape == ()
    assert all(term.shape == (len(x),) for term in result.terms.values())
    torch.testing.assert_close(result.loss, sum(t.mean() for t in result.terms.values()), rtol=1e-6, atol=1e-6)
    assert objective.kind in ("lower", "estimate", "none")
    assert objective.k >= 1
    assert objective.period >= 1
    assert (result.bound is None) == (objective.kind == "none")
    if result.bound is not None:
        assert result.bound.shape == (len(x),)


@pytest.mark.parametrize("closed_form_kl", [True, False])
def test_the_bound_knows_neither_beta_nor_free_bits_nor_the_step(closed_form_kl):
    model, x = make(), binary()
    plain = estimate(objectives.ELBO(closed_form_kl=closed_form_kl), model, x).bound
    floor = {"free_bits": 3.0} if closed_form_kl else {"free_bits_per_group": 3.0}
    for options in ({"beta": 7.0}, floor, {"beta": schedules.Linear(0.0, 1.0, steps=9)}):
        for step in (0, 4, 99):
            other = estimate(objectives.ELBO(closed_form_kl=closed_form_kl, **options), model, x, step).bound
            assert torch.equal(plain, other)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_one_sample_makes_the_elbo_the_log_mean_exp_bound_bit_for_bit(posterior):
    model, x = make(posterior=posterior), binary()
    bound = estimate(objectives.ELBO(k=1, closed_form_kl=False), model, x).bound
    with seeded(3):
        log_weight = model.draw(x, k=1).log_weight
    assert torch.equal(bound, log_weight.logsumexp(0) - torch.tensor(1.0).log())


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_loss_is_minus_the_mean_bound_without_options(posterior):
    for closed in (True, False):
        result = estimate(objectives.ELBO(k=3, closed_form_kl=closed), make(posterior=posterior), binary())
        torch.testing.assert_close(result.loss, -result.bound.mean(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_closed_form_and_sampled_elbo_agree_in_expectation(posterior):
    model, x = make(posterior=posterior).double(), binary(4).double()
    k = 20_000
    with torch.no_grad(), seeded(5):
        draw = model.draw(x, k=k)
    group = draw.groups[0]
    difference = estimate(objectives.ELBO(k=k), model, x, seed=5).bound - draw.log_weight.mean(0)
    error = (group.log_prior - group.log_posterior).std(0) / k**0.5
    assert ((difference / error).abs() < 4).all()


def test_free_bits_charge_the_larger_of_floor_and_mean():
    model, x = make(), binary()
    q, p = model.posterior(x), model.prior()
    kl = torch.distributions.kl_divergence(q.base_dist, p.base_dist).mean(0).detach()
    floor = float(kl.sort().values[1]) + 1e-6  # two latents below, one above
    result = estimate(objectives.ELBO(free_bits=floor), model, x)
    torch.testing.assert_close(result.terms["kl"].mean(), kl.clamp(min=floor).sum(), rtol=1e-5, atol=1e-6)


def test_latents_below_the_floor_get_no_gradient():
    model, x = make(), binary()
    q, p = model.posterior(x), model.prior()
    kl = torch.distributions.kl_divergence(q.base_dist, p.base_dist).mean(0).detach()
    floor = float(kl.sort().values[1]) + 1e-6
    estimate(objectives.ELBO(free_bits=floor), model, x).terms["kl"].mean().backward()
    head = model.posterior.net[-1].weight.grad.reshape(2, 3, -1)  # location and scale of each latent
    below = kl < floor
    assert int(below.sum()) == 2
    assert (head[:, below] == 0).all()
    assert (head[:, ~below] != 0).any()


def test_free_bits_refuse_a_posterior_that_does_not_factorise():
    with pytest.raises(JensenError, match="factorise"):
        estimate(objectives.ELBO(free_bits=0.1), make(posterior="full"), binary())


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"k": -1},
        {"beta": 0.0},
        {"beta": -1.0},
        {"beta": float("nan")},
        {"beta": float("inf")},
        {"free_bits": -0.1},
        {"free_bits": float("inf")},
        {"free_bits": float("nan")},
        {"free_bits_per_group": -1.0},
    ],
)
def test_bad_arguments_are_refused(options):
    with pytest.raises(OptionError, match="got"):
        objectives.ELBO(**options)


@pytest.mark.parametrize(
    "build",
    [
        lambda: objectives.IWAE(k=0),
        lambda: objectives.IWAE(beta=0.0),
        lambda: objectives.MIWAE(groups=0),
        lambda: objectives.PIWAE(k=0),
        lambda: objectives.CIWAE(share=1.5),
        lambda: objectives.Renyi(alpha=1.0),
        lambda: objectives.Renyi(alpha=float("nan")),
        lambda: objectives.BetaTCVAE(rows=0),
        lambda: objectives.BetaTCVAE(rows=5, beta=0.0),
        lambda: objectives.DIP(0.0),
        lambda: objectives.MMD(-1.0),
        lambda: objectives.MMD(kernel=objectives.InverseMultiquadratic(scales=())),
        lambda: objectives.SquaredExponential(scales=(0.0,)),
        lambda: objectives.ReweightedWakeSleep(k=0),
        lambda: objectives.Renyi(k=3, alpha=1 - 1e-9),
        lambda: objectives.ReweightedWakeSleep(k=3, wake=0.0),
    ],
)
def test_bad_arguments_of_the_others_are_refused(build):
    with pytest.raises(OptionError, match="got"):
        build()


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: objectives.ELBO(estimator=objectives.LeaveOneOut()), "there is no other"),
        (lambda: objectives.IWAE(k=1, estimator=objectives.LeaveOneOut()), "there is no other"),
        (lambda: objectives.ReweightedWakeSleep(k=1), "teaches it nothing"),
        (
            lambda: objectives.ELBO(closed_form_kl=True, estimator=objectives.StickingTheLanding()),
            "does not contain",
        ),
        (lambda: objectives.ELBO(free_bits=0.1, estimator=objectives.StickingTheLanding()), "knows nothing"),
        (
            lambda: objectives.ELBO(k=2, free_bits_per_group=0.1, estimator=objectives.LeaveOneOut()),
            "maximum of batch means",
        ),
        (lambda: objectives.ELBO(free_bits_per_group=0.1, free_bits=0.1), "not both"),
    ],
)
def test_what_does_not_compose_is_refused_with_its_reason(build, reason):
    with pytest.raises(OptionError, match=reason):
        build()


@every_objective
def test_a_model_without_a_distribution_over_codes_is_refused(name):
    model = Autoencoder(nets.mlp(6, 3), conditional(3, families.Bernoulli(6)), latents=3)
    with pytest.raises(CompositionError, match=r"one group of latents|no bound"):
        OBJECTIVES[name]()(model, binary())


def test_wake_sleep_weighs_samples_by_the_posterior_that_drew_them():
    with seeded(0):
        encoder = Conditional(
            nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 4)), families.Normal(2, scale=families.PredictedScale())
        )
        model = VAE(priors.StandardNormal(2), conditional(2, families.Bernoulli(6)), encoder)
    x, k = torch.ones(4000, 6), 5
    with torch.no_grad():
        wake = -estimate(objectives.ReweightedWakeSleep(k, wake=0.0, sleep=1.0), model, x, seed=1).terms["wake"]
        bound = estimate(objectives.IWAE(k), model, x, seed=2).bound
    z = (wake.mean() - bound.mean()) / ((wake.var() + bound.var()) / len(x)).sqrt()
    assert abs(float(z)) < 4


def test_with_all_weights_one_the_parts_of_the_total_correlation_are_the_sampled_elbo():
    model, x = make(), binary()
    parts = estimate(objectives.BetaTCVAE(rows=20, beta=1.0), model, x)
    whole = estimate(objectives.ELBO(closed_form_kl=False), model, x)
    torch.testing.assert_close(parts.loss, whole.loss, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("latents", "rows"), [(1, 8), (2, 1)])
def test_a_total_correlation_that_is_always_zero_is_refused(latents, rows):
    encoder = Conditional(nets.mlp(6, 2 * latents), families.Normal(latents, scale=families.PredictedScale()))
    decoder = Conditional(nets.mlp(latents, 6), families.Bernoulli(6))
    with pytest.raises(CompositionError, match="always zero"):
        objectives.BetaTCVAE(rows=20)(VAE(priors.StandardNormal(latents), decoder, encoder), binary()[:rows])


def test_the_discrepancy_is_the_closed_form_between_normals():
    # E k(a, b) of a squared-exponential kernel between N(m, I) and N(0, I) is (1 + 4/s)^(-Z/2) exp(-|m|^2 / (s + 4)).
    z, n, s = 2, 2000, 2.0
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor([0.7, -0.4], dtype=torch.float64)
    values = []
    for _ in range(20):
        a = mean + torch.randn(n, z, generator=generator, dtype=torch.float64)
        b = torch.randn(n, z, generator=generator, dtype=torch.float64)
        values.append(float(squared_mmd(a, b, objectives.SquaredExponential(scales=(s / z,)))))
    within = (1 + 4 / s) ** (-z / 2)
    exact = 2 * within - 2 * within * math.exp(-float(mean.square().sum()) / (s + 4))
    found = torch.tensor(values)
    assert abs(float(found.mean()) - exact) < 4 * float(found.std()) / 20**0.5
    assert abs(exact) > 8 * float(found.std()) / 20**0.5


@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_the_discrepancy_keeps_its_digits_far_from_the_origin(shift):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(64, 8, generator=generator) for _ in range(2))
    found = []
    for dtype in (torch.float32, torch.float64):
        codes = (a + 1000).to(dtype).requires_grad_()
        value = squared_mmd(codes, (b + shift).to(dtype), objectives.InverseMultiquadratic())
        found.append((value.detach().double(), torch.autograd.grad(value, codes)[0].double()))
    (value, gradient), (exact, direction) = found
    assert (value - exact).abs() < 1e-5
    assert (gradient - direction).norm() < 1e-4 * direction.norm()


def test_the_schedule_of_beta_enters_the_loss_alone():
    objective = objectives.ELBO(beta=schedules.Linear(0.0, 2.0, steps=4))
    model, x = make(), binary()
    results = [estimate(objective, model, x, step) for step in (0, 2, 4, 9)]
    plain = estimate(objectives.ELBO(), model, x)
    for result, beta in zip(results, (0.0, 1.0, 2.0, 2.0), strict=True):
        torch.testing.assert_close(result.terms["kl"], beta * plain.terms["kl"], rtol=1e-6, atol=0)
        assert torch.equal(result.terms["reconstruction"], plain.terms["reconstruction"])
    assert objective.period == 5
