"""The contract that every objective keeps; a new objective is one more row of OBJECTIVES."""

import pytest
import torch

from jensen import VAE, Conditional, JensenError, families, nets, objectives, priors, schedules
from jensen.errors import OptionError
from jensen.noise import seeded

OBJECTIVES = {
    "elbo": lambda: objectives.ELBO(),
    "elbo-sampled": lambda: objectives.ELBO(closed_form_kl=False),
    "elbo-k": lambda: objectives.ELBO(k=5),
    "elbo-beta": lambda: objectives.ELBO(beta=4.0),
    "elbo-warmup": lambda: objectives.ELBO(beta=schedules.Linear(0.0, 1.0, steps=10)),
    "elbo-free-bits": lambda: objectives.ELBO(free_bits=0.05),
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
    for options in ({"beta": 7.0}, {"free_bits": 3.0}, {"beta": schedules.Linear(0.0, 1.0, steps=9)}):
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
    ],
)
def test_bad_arguments_are_refused(options):
    with pytest.raises(OptionError, match="got"):
        objectives.ELBO(**options)


@every_objective
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_every_parameter_gets_a_finite_gradient(name, prior, likelihood, posterior):
    objective, model = OBJECTIVES[name](), make(prior, likelihood, posterior)
    if getattr(objective, "free_bits", 0) and posterior == "full":
        pytest.skip("free bits need latents that factorise")
    estimate(objective, model, binary(), step=objective.period).loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert (parameter.grad != 0).any(), key


def test_the_schedule_of_beta_enters_the_loss_alone():
    objective = objectives.ELBO(beta=schedules.Linear(0.0, 2.0, steps=4))
    model, x = make(), binary()
    results = [estimate(objective, model, x, step) for step in (0, 2, 4, 9)]
    plain = estimate(objectives.ELBO(), model, x)
    for result, beta in zip(results, (0.0, 1.0, 2.0, 2.0), strict=True):
        torch.testing.assert_close(result.terms["kl"], beta * plain.terms["kl"], rtol=1e-6, atol=0)
        assert torch.equal(result.terms["reconstruction"], plain.terms["reconstruction"])
    assert objective.period == 5
