"""Posteriors of single rows, climbed from a start: closed forms of the linear-Gaussian model are the truth."""

import math

import pytest
import torch
from torch import distributions as D
from torch import nn

import jensen
from jensen import (
    VAE,
    Conditional,
    Conditioned,
    distributions,
    families,
    inference,
    nets,
    objectives,
    posteriors,
    priors,
    testing,
    train,
)
from jensen.conditional import distribution_at
from jensen.errors import CompositionError, DataError, OptionError, ShapeError
from jensen.evaluation import bounds
from jensen.noise import RowNoise, seeded
from jensen.posteriors.search import Target
from jensen.posteriors.start import raw_of
from jensen.roles import Given

WEIGHT = torch.tensor([[1.0, 0.9], [0.8, 1.0], [0.1, -0.1], [1.2, 1.1]])


def oracle():
    return testing.LinearGaussian(WEIGHT, noise=0.5)


def rows(n=12, seed=0):
    with seeded(seed):
        return oracle().model.sample(n)


def exact_elbo(known, x, q):
    """E_q[log p(x, z)] + entropy in closed form, for a normal q with mean and covariance."""
    mean, covariance = q.mean, getattr(q, "covariance_matrix", None)
    covariance = torch.diag_embed(q.variance) if covariance is None else covariance
    weight = WEIGHT.double()
    misfit = (x - mean @ weight.T).square().sum(-1) + torch.einsum("ij,bjk,ik->b", weight, covariance, weight)
    fit = -0.5 * misfit / 0.25 - 2 * math.log(2 * math.pi * 0.25)
    prior = -0.5 * (mean.square().sum(-1) + covariance.diagonal(dim1=-2, dim2=-1).sum(-1)) - math.log(2 * math.pi)
    return fit + prior + 0.5 * torch.logdet(covariance) + 1 + math.log(2 * math.pi)


def model_with(posterior):
    known = oracle().model
    return VAE(known.prior, known.likelihood, posterior)


def poor_encoder(family=None):
    family = families.Normal(2, scale=families.PredictedScale()) if family is None else family
    encoder = posteriors.Amortized(nets.mlp(4, 8, hidden=()), like=priors.StandardNormal(2), family=family)
    return encoder.double()


def mean_field_gap():
    """By how much the best factorised posterior misses log p(x), the same for every row."""
    precision = torch.eye(2, dtype=torch.float64) + WEIGHT.double().T @ WEIGHT.double() / 0.25
    return float(0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)))


def test_the_best_of_a_family_is_the_closed_form():
    x, model = rows(), model_with(poor_encoder())
    best = inference.best_in_family(model, x)
    elbo = exact_elbo(oracle(), x, best.posterior)
    expected = oracle().log_evidence(x) - mean_field_gap()
    assert (elbo <= expected + 1e-9).all()
    assert (expected - elbo).max() < 0.03 and (expected - elbo).mean() < 0.01
    assert (best.elbo - elbo).div(best.variance.sqrt()).abs().max() < 5
    assert (best.elbo > best.start).all()


def test_full_covariance_from_a_warm_start_is_never_below_mean_field():
    x, model = rows(), model_with(poor_encoder())
    diagonal = inference.best_in_family(model, x)
    full = inference.best_in_family(model, x, families.FullNormal(2), start=diagonal.posterior)
    a, b = (exact_elbo(oracle(), x, found.posterior) for found in (diagonal, full))
    assert (b >= a).all()
    assert (b - a > 0.9 * mean_field_gap()).all()
    assert (oracle().log_evidence(x) - b).max() < 0.01


def test_an_exact_start_stays():
    x, known = rows(), oracle()
    best = inference.best_in_family(known.model, x, families.FullNormal(2))
    assert torch.allclose(best.elbo, known.log_evidence(x), atol=1e-3)


def test_a_row_does_not_depend_on_its_neighbours():
    x, model = rows(), model_with(poor_encoder())
    everything = inference.best_in_family(model, x, steps=40)
    some = inference.best_in_family(model, x[[7, 2]], steps=40)
    assert torch.allclose(everything.elbo[[7, 2]], some.elbo, atol=1e-9)


class Spike(nn.Module):
    """A narrow, strongly correlated posterior, as in scientific models."""

    def forward(self, z, given=None):
        both = torch.stack([z[..., 0] + z[..., 1], z[..., 0] - 0.99 * z[..., 1]], -1)
        return D.Independent(
            D.Normal(both, torch.tensor([0.01, 1.0]).to(z), validate_args=False), 1, validate_args=False
        )


def test_narrow_correlated_posteriors_are_found():
    model = VAE(priors.StandardNormal(2), Spike(), poor_encoder_of(2)).double()
    x = torch.tensor([[0.7, -0.2], [-1.0, 0.4]], dtype=torch.float64)
    best = inference.best_in_family(model, x, families.FullNormal(2), steps=1500, rounds=4)
    weight = torch.tensor([[1.0, 1.0], [1.0, -0.99]], dtype=torch.float64)
    covariance = weight @ weight.T + torch.tensor([1e-4, 1.0], dtype=torch.float64).diag()
    evidence = D.MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance).log_prob(x)
    assert (evidence - best.elbo).abs().max() < 0.05


def poor_encoder_of(size):
    return posteriors.Amortized(nets.mlp(size, 8, hidden=()), like=priors.StandardNormal(2))


@pytest.mark.parametrize("family", [families.Bernoulli(3), families.OneHotCategorical(1, 4)])
def test_discrete_posteriors_reach_the_enumerated_evidence(family):
    # One independent prior and a likelihood that factorises over z: the exact posterior is in the family.
    discrete = isinstance(family, families.OneHotCategorical)
    size = 4 if discrete else 3
    logits = torch.linspace(-1, 1, size)

    class Prior(nn.Module):
        def forward(self, given=None):
            return family(logits.reshape(family.parameter_shapes[0]))

    class Additive(nn.Module):
        def forward(self, z, given=None):
            return D.Independent(D.Normal(z.flatten(2) * 1.5, 1.0, validate_args=False), 1, validate_args=False)

    encoder = Conditional(nets.mlp(size, size, hidden=()), family)
    model = VAE(Prior(), Additive(), encoder)
    x = torch.randn(3, size, generator=torch.Generator().manual_seed(0))
    states = torch.eye(4) if discrete else torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    z = states.reshape(len(states), 1, *family.event_shape).expand(-1, 3, *family.event_shape)
    evidence = model.log_joint(x, z).logsumexp(0).detach()
    best = inference.best_in_family(model, x, steps=400, samples=16)
    assert (evidence - best.elbo).abs().max() < 0.02


def test_refined_is_better_than_its_encoder_and_deterministic():
    x, encoder = rows(), poor_encoder()
    refined = posteriors.Refined(encoder, steps=60, family=families.FullNormal(2))
    model = model_with(refined).eval()
    first = bounds(model, x, k=64, seed=3)
    again = bounds(model, x, k=64, seed=3)
    before = bounds(model_with(encoder), x, k=64, seed=3)
    assert torch.equal(first.elbo, again.elbo)
    assert (exact_elbo(oracle(), x, refined(x)) >= exact_elbo(oracle(), x, encoder(x))).all()
    assert (first.elbo > before.elbo).float().mean() > 0.9
    with seeded(5):
        q = refined(x)
    with seeded(6):
        assert torch.equal(q.mean, refined(x).mean)


def test_what_is_known_beside_the_rows_is_given_for_each():
    model, x = model_with(poor_encoder()), rows()
    for given in (Given(condition=torch.zeros(3, 1)), Given(condition=torch.zeros(1, 1)), Given(index=torch.zeros(2))):
        with pytest.raises(DataError, match="beside 12 rows"):
            inference.best_in_family(model, x, given=given, steps=2)
        with pytest.raises(DataError, match="beside 12 rows"):
            jensen.posterior(model, x, given=given)


def test_a_search_sees_latents_of_the_whole_data_set():
    seen, model = [], oracle().model

    def log_joint(x, z, given):
        seen.append(given.shared)
        return model.log_joint(x, z)

    x, shared = rows(3), torch.ones(2)
    target = Target(log_joint, x, Given(shared=shared)).rows(torch.tensor([0, 2]))
    target.elbo(model.posterior(target.x), 2, RowNoise([1, 2]))
    assert seen == [shared]


def test_refined_follows_the_condition():
    x, refined = rows(), posteriors.Refined(poor_encoder(), steps=30)
    likelihood = Conditioned(nets.mlp(2 + 1, 4, hidden=()), families.Normal(4), conditions=1).double()
    model = VAE(oracle().model.prior, likelihood, refined).eval()
    with torch.no_grad():
        likelihood.net[-1].weight[:, 2] = 5.0
    first, second = (Given(condition=torch.full((12, 1), value, dtype=torch.float64)) for value in (0.0, 1.0))
    one, other, again = (model.posterior(x, given).mean for given in (first, second, first))
    assert torch.equal(one, again) and (one - other).abs().max() > 0.1


def test_refined_follows_the_model():
    x, refined = rows(), posteriors.Refined(poor_encoder(), steps=30)
    model = model_with(refined).eval()
    before = refined(x).mean.clone()
    with torch.no_grad():
        model.likelihood.net[-1].bias.add_(1.0)
    assert not torch.equal(refined(x).mean, before)


def test_refined_never_ends_below_its_encoder_even_with_a_wild_rate():
    x = rows()
    refined = posteriors.Refined(poor_encoder(), steps=10, rate=50.0, held_out=512)
    model_with(refined).eval()
    gain = exact_elbo(oracle(), x, refined(x)) - exact_elbo(oracle(), x, refined.amortized(x))
    assert (gain > -1e-6).all()


def test_a_full_family_starts_at_the_covariance_of_a_low_rank_one():
    q = distributions.LowRankNormal(torch.zeros(4, 3), torch.randn(4, 3, 1).double(), torch.full((4, 3), 0.1))
    family = families.FullNormal(3).double()
    start = distribution_at(family, raw_of(family, q))
    torch.testing.assert_close(start.covariance_matrix, q.covariance_matrix, rtol=1e-6, atol=1e-8)


def test_one_sample_of_latents_without_a_gradient_is_refused():
    encoder = Conditional(nets.mlp(6, 4), families.StraightThroughBernoulli(4))
    refined = posteriors.Refined(encoder, steps=2, samples=1)
    model = VAE(priors.Bernoulli(4), Conditional(nets.mlp(4, 6), families.Bernoulli(6)), refined).eval()
    with pytest.raises(OptionError, match="at least 2; got samples=1"):
        model.posterior(torch.ones(5, 6))


def test_an_encoder_learns_through_refinement():
    x = rows(200)
    model = VAE(
        priors.StandardNormal(2), oracle().model.likelihood.float(), posteriors.Refined(poor_encoder(), 3).float()
    )
    model.likelihood.requires_grad_(requires_grad=False)
    before = bounds(VAE(model.prior, model.likelihood, model.posterior.amortized), x[:64].float(), k=32).elbo.mean()
    train.fit(model, objectives.ELBO(), x.float(), steps=60, batch_size=50, learning_rate=1e-2)
    after = bounds(VAE(model.prior, model.likelihood, model.posterior.amortized), x[:64].float(), k=32).elbo.mean()
    assert after > before + 1


def test_refined_climbs_a_decoder_with_dropout_as_it_is_in_evaluation_mode():
    with seeded(0):
        net = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))
        refined = posteriors.Refined(poor_encoder().float(), steps=5)
    model, x = VAE(priors.StandardNormal(2), Conditional(net, families.Normal(4)), refined).train(), rows(6).float()
    net[0].eval()
    objectives.ELBO()(model, x).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.training and net[2].training and not net[0].training
    means = []
    for seed in (5, 6):
        with seeded(seed):
            means.append(refined(x).mean)
    assert torch.equal(*means)


def test_the_noise_of_a_row_is_for_its_draws_alone():
    model, x = oracle().model, rows(3)

    def log_joint(x, z, given):
        return nn.functional.dropout(model.log_joint(x, z), 0.5)

    assert Target(log_joint, x).elbo(model.posterior(x), 2, RowNoise([1, 2, 3]))[0].shape == (3,)


def test_fitting_inside_a_step_leaves_the_mode_of_every_module():
    x = rows()
    model = model_with(posteriors.Local(len(x), like=oracle().model.prior, learned=False).double()).train()
    model.likelihood.eval()
    index = Given(index=torch.arange(len(x)))
    inference.FitLocally(objectives.ELBO(), steps=2)(model, x, index)
    assert model.training and model.posterior.training and not model.likelihood.training


def test_refined_needs_a_model_and_sound_options():
    with pytest.raises(OptionError, match="build it into one"):
        posteriors.Refined(poor_encoder())(rows())
    with pytest.raises(OptionError, match="at least 1 step"):
        posteriors.Refined(poor_encoder(), steps=0)
    model = model_with(posteriors.Refined(poor_encoder(), steps=2))
    with pytest.raises(CompositionError, match="another model"):
        model_with(model.posterior)


def local_model(n, *, learned=True):
    local = posteriors.Local(n, families.FullNormal(2), learned=learned).double()
    return model_with(local), local


def test_local_fitted_reaches_the_evidence_of_every_row():
    x = rows(12)
    model, local = local_model(12, learned=False)
    inference.fit_local(model, x)
    inference.fit_local(model, x, seed=1)
    elbo = exact_elbo(oracle(), x, local.at(torch.arange(12)))
    assert (oracle().log_evidence(x) - elbo).max() < 0.01


def test_local_fits_only_the_rows_it_is_given():
    x = rows(12)
    model, local = local_model(12, learned=False)
    chosen = torch.tensor([3, 5])
    inference.fit_local(model, x[chosen], Given(index=chosen), steps=20)
    changed = (local.table != 0).any(1)
    assert changed.nonzero().flatten().tolist() == [3, 5]


def test_joint_and_alternating_training_agree():
    x = rows(60)

    def trained(posterior, objective, steps, rate):
        with seeded(0):
            decoder = Conditional(nets.mlp(2, 4, hidden=()), families.Normal(4, scale=families.FixedScale(0.5)))
        model = VAE(priors.StandardNormal(2), decoder, posterior)
        train.fit(model, objective, x.float(), steps=steps, batch_size=60, learning_rate=rate)
        posterior.table.requires_grad_(requires_grad=False)
        return float(inference.fit_local(model, x.float(), seed=9).mean())

    joint = trained(posteriors.Local(60, families.FullNormal(2)), objectives.ELBO(8), 600, 3e-2)
    local = posteriors.Local(60, families.FullNormal(2), learned=False)
    alternating = trained(local, inference.FitLocally(objectives.ELBO(8), steps=40), 60, 1e-1)
    best = testing.ppca_log_likelihood(x, 2)
    assert abs(joint - alternating) < 0.1
    assert joint < best + 0.1


def test_local_refuses_rows_it_does_not_know():
    model, _ = local_model(5)
    with pytest.raises(OptionError, match="Refined"):
        jensen.elbo(model, rows(3))
    for number in (5, -1):
        with pytest.raises(OptionError, match="has 5 rows"):
            model.draw(rows(1), Given(index=torch.tensor([number])))
    with pytest.raises(ShapeError, match="a number for each"):
        model.draw(rows(2), Given(index=torch.tensor([1])))
    with pytest.raises(OptionError, match=r"fits posteriors\.Local"):
        inference.fit_local(oracle().model, rows(2))


def test_local_starts_from_an_encoder_and_from_a_prior():
    x, encoder = rows(9), poor_encoder()
    local = posteriors.Local(9, families.FullNormal(2)).double()
    local.start_at(encoder, x)
    assert torch.allclose(local.at(torch.arange(9)).mean, encoder(x).mean)
    prior = priors.Named(rate=D.LogNormal(3.0, 0.1))
    start = posteriors.Local(4, like=prior).at(torch.arange(4))
    assert (start.mean - 3).abs().max() < 0.02 and (start.stddev - 0.1).abs().max() < 0.01


def test_saved_and_loaded(tmp_path):
    prior = priors.Named(rate=D.LogNormal(0.0, 1.0), shift=D.Normal(0.0, 2.0))
    decoder = Conditional(nets.mlp(2, 4), families.Normal(4))
    encoder = posteriors.Amortized(nets.mlp(4, 6), like=priors.StandardNormal(2))
    for name, posterior in {
        "amortized": encoder,
        "refined": posteriors.Refined(encoder, steps=3),
        "local": posteriors.Local(7, families.FullNormal(2)),
    }.items():
        vae = VAE(priors.StandardNormal(2), decoder, posterior).eval()
        jensen.save(vae, tmp_path / name)
        again = jensen.load(tmp_path / name).vae.eval()
        given = Given(index=torch.tensor([0, 3]))
        assert torch.equal(again.posterior(torch.ones(2, 4), given).mean, vae.posterior(torch.ones(2, 4), given).mean)
    assert posteriors.Amortized(nets.mlp(4, 6), like=prior).family.event_shape == (2,)


def test_amortized_suits_the_prior():
    assert isinstance(poor_encoder_of(3).family, families.FullNormal)
    with pytest.raises(OptionError, match="features="):
        posteriors.Amortized(nn.Flatten(), like=priors.StandardNormal(2))
    q = posteriors.Amortized(nn.Flatten(), like=priors.StandardNormal(2), features=6)
    assert q(torch.zeros(5, 2, 3)).batch_shape == (5,)
