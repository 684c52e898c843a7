"""Latents of a whole data set and the Indian buffet process, against closed forms, enumeration and samples."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Bernoulli, Independent, Normal

import jensen
from jensen import Conditional, evaluation, families, nets, objectives, posteriors, priors, testing
from jensen.diagnose import draws_of
from jensen.diagnose.features import dictionary, expected_frequencies, feature_frequencies, features_in_use
from jensen.distributions import (
    EqualMixture,
    Joint,
    Logistic,
    SpikeAndSlab,
    closed_form_kl,
    code_of,
    detached,
    kl_per_latent,
    relaxed_coins,
    same_space,
)
from jensen.errors import CompositionError, JensenError, OptionError
from jensen.model import SharedVAE
from jensen.noise import RowNoise, shared_noise
from jensen.roles import Given


def model_of(features=3, *, structured=True, loadings=True, relaxed=False, alpha=2.0, rows=50):
    torch.manual_seed(0)
    family = families.FeatureLoadings(features, loadings=loadings, relaxed=relaxed)
    outputs = sum(math.prod(shape) for shape in family.parameter_shapes)
    encoder = (posteriors.OnSticks if structured else Conditional)(nets.mlp(6, outputs, hidden=(8,)), family)
    return SharedVAE(
        priors.IndianBuffet(features, alpha, loadings=loadings, temperature=0.25 if relaxed else None),
        Conditional(nets.mlp(features, 6, hidden=(8,)), families.Bernoulli(6)),
        encoder,
        priors.Sticks(features, alpha),
        posteriors.Sticks(features, alpha),
        rows,
    )


every_posterior = pytest.mark.parametrize("structured", [True, False])


def test_shared_noise_is_the_same_for_all_rows_and_leaves_theirs_alone():
    def drawn(seeds):
        with RowNoise(seeds, shared=7):
            first = torch.randn(4, len(seeds), 2)
            with shared_noise():
                common = [torch.rand(3), torch.bernoulli(torch.full((5,), 0.5)), torch.zeros(2).normal_()]
            return first, common, torch.randn(4, len(seeds), 2)

    first, common, second = drawn([1, 2, 3])
    again, others, third = drawn([3])
    assert all(torch.equal(a, b) for a, b in zip(common, others, strict=True))
    assert torch.equal(first[:, 2:], again) and torch.equal(second[:, 2:], third)


@every_posterior
def test_bounds_do_not_depend_on_batching_to_the_bit(structured):
    model = model_of(structured=structured)
    x = torch.bernoulli(torch.full((150, 6), 0.5), generator=torch.Generator().manual_seed(1))
    whole = evaluation.bounds(model, x, k=40)
    part = evaluation.bounds(model, x[100:103], k=40)
    assert torch.equal(whole.log_likelihood[100:103], part.log_likelihood)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(2))
    assert torch.equal(whole.elbo[order], evaluation.bounds(model, x[order], k=40).elbo)


def test_each_sample_of_an_evaluation_has_sticks_of_its_own():
    model = model_of().eval()
    draw = model.draw(torch.ones(4, 6), k=5)
    logits = draw.groups[0].prior.features.base_dist.logits
    assert logits.shape == (5, 1, 3) and len(logits[:, 0, 0].unique()) == 5
    assert draw.shared == () and draw.log_weight.shape == (5, 4)
    training = model.train().draw(torch.ones(4, 6), k=5)
    assert training.shared[0].z.shape == (3,) and training.shared[0].rows == 50


def likelihood_given(model, z, x):
    """p(x|z), the strengths integrated out on a grid of Gauss and Hermite."""
    if not model.row_prior.loadings:
        return model.decode(z.expand(1, len(x), 2)).log_prob(x).exp()
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    pairs = torch.from_numpy(np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 1, 2)).expand(-1, len(x), -1)
    shares = torch.from_numpy(np.outer(weights, weights).reshape(-1, 1) / weights.sum() ** 2)
    both = torch.cat([z.expand_as(pairs), pairs], -1)
    return (shares * model.decode(both).log_prob(x).exp()).sum(0)


@pytest.mark.parametrize("loadings", [False, True])
def test_the_predictive_score_is_the_sum_over_states_and_sticks(loadings):
    model = model_of(2, loadings=loadings).double().eval()
    x = torch.tensor([[1.0, 0, 1, 0, 1, 1], [0.0, 0, 0, 1, 0, 1]], dtype=torch.float64)
    torch.manual_seed(3)
    with torch.no_grad():
        sticks = model.shared_posterior().sample((4000,))
        total = torch.zeros(4000, 2, dtype=torch.float64)
        for state in itertools.product([0.0, 1.0], repeat=2):
            z = torch.tensor(state, dtype=torch.float64)
            pi = sticks.cumprod(-1)
            mass = torch.where(z == 1, pi, 1 - pi).prod(-1)
            total += mass[:, None] * likelihood_given(model, z, x)
    exact, noise = total.mean(0).log(), total.std(0) / total.mean(0) / 4000**0.5
    found = evaluation.bounds(model, x, k=1000)
    spread = (found.log_likelihood_variance + noise.square()).sqrt()
    assert ((found.log_likelihood - exact) / spread).abs().max() < 4
    assert (found.elbo < exact).all()


@every_posterior
def test_the_training_bound_takes_the_shared_kl_once_and_outside_the_mean_over_samples(structured):
    model, x = model_of(structured=structured), torch.ones(4, 6)
    with torch.no_grad():
        for module in (model.shared_posterior.raw_a, model.shared_posterior.raw_b):
            module.add_(0.7)
    shared_kl = closed_form_kl(model.shared_posterior(), model.shared_prior()).detach() / 50
    assert float(shared_kl) > 0.01
    torch.manual_seed(1)
    estimate = objectives.IWAE(k=6)(model, x)
    torch.manual_seed(1)
    draw = model.draw(x, k=6)
    expected = draw.log_weight.logsumexp(0) - math.log(6) - shared_kl
    torch.testing.assert_close(estimate.bound, expected.detach())
    torch.testing.assert_close(estimate.terms["global_kl"], shared_kl.expand(4))
    torch.manual_seed(1)
    parts = objectives.ELBO(6)(model, x)
    torch.testing.assert_close(parts.loss, torch.stack([term.mean() for term in parts.terms.values()]).sum())
    torch.testing.assert_close(parts.bound.mean(), -parts.loss)


@pytest.mark.parametrize("make", [lambda: objectives.ELBO(closed_form_kl=False), lambda: objectives.ELBO()])
def test_the_training_bound_is_that_of_the_whole_data_set(make):
    """Averaged over draws it is below log p of all rows together, which is a sum over states and sticks."""
    model = model_of(2, loadings=False, rows=3).double()
    x = torch.tensor([[1.0, 0, 1, 0, 1, 1], [0.0, 0, 0, 1, 0, 1], [1.0, 1, 1, 1, 0, 0]], dtype=torch.float64)
    torch.manual_seed(4)
    with torch.no_grad():
        sticks = model.shared_prior().sample((8000,))
        each = torch.zeros(8000, 3, dtype=torch.float64)
        for state in itertools.product([0.0, 1.0], repeat=2):
            z = torch.tensor(state, dtype=torch.float64)
            mass = torch.where(z == 1, sticks.cumprod(-1), 1 - sticks.cumprod(-1)).prod(-1)
            each += mass[:, None] * model.decode(z.expand(1, 3, 2)).log_prob(x).exp()
        evidence = float(each.prod(-1).mean().log()) / 3
        bounds = torch.stack([make()(model, x).bound.mean() for _ in range(300)])
    error = float(bounds.std() / 300**0.5)
    assert float(bounds.mean()) < evidence + 4 * error
    assert float(bounds.mean()) > evidence - 1.5


@every_posterior
def test_every_parameter_learns(structured):
    model = model_of(structured=structured)
    objectives.ELBO(2)(model, torch.eye(6)).loss.backward()
    assert all(p.grad is not None and p.grad.count_nonzero() for p in model.parameters())


def test_relaxed_features_train_and_hard_ones_are_scored():
    model = model_of(relaxed=True)
    odds = model.draw(torch.eye(6), k=3).groups[0].z
    assert odds.min() < 0 and odds.max() > 1
    strengths = torch.ones_like(odds)
    torch.testing.assert_close(model.row_prior.unpack(torch.cat([odds, strengths], -1)), odds.sigmoid())
    objectives.ELBO()(model, torch.eye(6)).loss.backward()
    hard = model.eval().draw(torch.eye(6), k=3).groups[0].z[..., :3]
    assert ((hard == 0) | (hard == 1)).all()


def test_a_logistic_distribution_is_that_of_scipy_far_out_too():
    y = torch.tensor([-900.0, -30.0, -12.85, -1.0, 0.0, 2.0, 15.85, 40.0, 900.0])
    for dtype in (torch.float32, torch.float64):
        found = Logistic(torch.tensor(1.5, dtype=dtype), torch.tensor(0.7, dtype=dtype)).log_prob(y.to(dtype))
        expected = torch.from_numpy(stats.logistic(1.5, 0.7).logpdf(y.double().numpy())).to(dtype)
        torch.testing.assert_close(found, expected, rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=0)
    torch.manual_seed(0)
    with_moments = Logistic(torch.tensor(-2.0), torch.tensor(3.0))
    drawn = with_moments.sample((20_000,))
    assert stats.kstest(drawn.numpy(), stats.logistic(-2.0, 3.0).cdf).pvalue > 1e-3
    assert float(with_moments.mean) == -2.0
    assert float(with_moments.variance) == pytest.approx(stats.logistic(-2.0, 3.0).var())


@pytest.mark.parametrize("logit", [-60.0, -9.0, 0.0, 9.0, 60.0])
def test_the_kl_of_relaxed_coins_is_the_integral_whatever_the_logit(logit):
    """That of coins squashed to [0, 1] in single precision is below zero for logits from 10 on."""
    q, p = relaxed_coins(torch.tensor([logit]), 0.3), relaxed_coins(torch.tensor([-1.0]), 0.25)
    loc, scale = logit / 0.3, 1 / 0.3
    y = np.linspace(loc - 60 * scale, loc + 60 * scale, 400_001)
    density, other = stats.logistic(loc, scale).logpdf(y), stats.logistic(-4.0, 4.0).logpdf(y)
    exact = float(np.trapezoid(np.exp(density) * (density - other), y))
    torch.manual_seed(0)
    z = q.rsample((40_000,))
    ratio = q.log_prob(z) - p.log_prob(z)
    assert ratio.isfinite().all() and exact > 0
    assert abs(float(ratio.mean()) - exact) < 4 * float(ratio.std()) / 200 + 1e-4 * exact


def test_relaxed_features_on_one_side_only_are_refused():
    for relaxed, temperature in ((True, None), (False, 0.25)):
        with pytest.raises(CompositionError, match="zeros and ones, then strengths"):
            SharedVAE(
                priors.IndianBuffet(3, temperature=temperature),
                Conditional(nets.mlp(3, 6), families.Bernoulli(6)),
                posteriors.OnSticks(nets.mlp(6, 9), families.FeatureLoadings(3, relaxed=relaxed)),
                priors.Sticks(3, 2.0),
                posteriors.Sticks(3, 2.0),
                50,
            )


def test_the_prior_has_falling_probabilities():
    prior = priors.IndianBuffet(4, alpha=2.0)
    torch.testing.assert_close(prior().mean[:4], torch.tensor([2 / 3, 4 / 9, 8 / 27, 16 / 81]))
    sticks = torch.tensor([0.9, 0.5, 0.5, 0.1])
    z = torch.tensor([[1.0, 0, 1, 0, 0.3, 0.1, -2, 0]])
    pi = sticks.cumprod(0)
    expected = Bernoulli(pi).log_prob(z[0, :4]).sum() + Normal(0.0, 1.0).log_prob(z[0, 4:])[[0, 2]].sum()
    torch.testing.assert_close(prior(Given(shared=sticks)).log_prob(z)[0], expected)
    torch.testing.assert_close(prior.unpack(z), torch.tensor([[0.3, 0, -2, 0]]))


def test_a_structured_posterior_is_the_prior_where_the_encoder_says_nothing():
    model = model_of()
    torch.nn.init.zeros_(model.encoder.net[-1].weight)
    torch.nn.init.zeros_(model.encoder.net[-1].bias)
    for draw in (model.draw(torch.ones(2, 6), k=3), model.eval().draw(torch.ones(2, 6), k=3)):
        for group in draw.groups:
            torch.testing.assert_close(group.log_posterior, group.log_prior)


def test_a_joint_distribution_is_its_parts():
    first = Independent(Bernoulli(logits=torch.randn(5, 3)), 1)
    second = Independent(Normal(torch.randn(5, 2), 1.0), 1)
    joint = Joint([first, second])
    z = joint.sample((4,))
    torch.testing.assert_close(joint.log_prob(z), first.log_prob(z[..., :3]) + second.log_prob(z[..., 3:]))
    assert joint.support.check(z).all() and not joint.support.check(z + 0.5).all()
    other = Joint([Independent(Bernoulli(logits=torch.zeros(3)), 1), Independent(Normal(torch.zeros(2), 2.0), 1)])
    whole = closed_form_kl(joint, other)
    parts = [closed_form_kl(q, p) for q, p in zip(joint.parts, other.parts, strict=True)]
    torch.testing.assert_close(whole, sum(parts))


def spike_and_slab(seed):
    generator = torch.Generator().manual_seed(seed)
    logits, loc, raw = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    normal = Independent(Normal(loc, raw.exp()), 1)
    return SpikeAndSlab(Independent(Bernoulli(logits=logits), 1), normal)


def test_the_strength_of_a_feature_that_is_off_does_not_count():
    q = spike_and_slab(0)
    z = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    value = torch.cat([z, torch.tensor([0.4, -7.0, 1.3], dtype=torch.float64)]).expand(5, 6)
    each = q.strengths.base_dist.log_prob(value[:, 3:])
    torch.testing.assert_close(q.log_prob(value), q.features.log_prob(z) + each[:, 0] + each[:, 2])
    other = value.clone()
    other[:, 4] = 50.0
    assert torch.equal(q.log_prob(value), q.log_prob(other))
    assert q.support.check(q.sample((4,))).all() and not q.support.check(value + 0.5).any()
    assert q.expand((2, 5)).sample().shape == (2, 5, 6)
    leaf = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    grown = SpikeAndSlab(Independent(Bernoulli(logits=leaf), 1), Independent(Normal(leaf, 1.0), 1))
    for part in (grown, Joint([grown.features, grown.strengths])):
        assert part.log_prob(value).requires_grad and not detached(part).log_prob(value).requires_grad


def test_the_kl_of_features_and_strengths_is_the_mean_of_sampled_ones():
    q, p = spike_and_slab(0), spike_and_slab(1)
    torch.manual_seed(2)
    value = q.sample((40_000,))
    ratio = q.log_prob(value) - p.log_prob(value)
    exact = closed_form_kl(q, p)
    assert ((ratio.mean(0) - exact) / (ratio.std(0) / 200)).abs().max() < 4
    torch.testing.assert_close(kl_per_latent(q, p).sum(-1), exact)
    assert kl_per_latent(q, p).shape == (5, 6)


def test_the_moments_of_features_and_strengths_are_those_of_samples():
    q = spike_and_slab(3)
    torch.manual_seed(4)
    drawn = q.sample((40_000,))
    assert (drawn[..., 3:][drawn[..., :3] == 0] == 0).all()
    assert ((drawn.mean(0) - q.mean) / (drawn.std(0) / 200)).abs().max() < 4
    error = (drawn - q.mean).square().std(0) / 200
    assert ((drawn.var(0) - q.variance) / error).abs().max() < 4
    on = q.features.mean > 0.5
    torch.testing.assert_close(code_of(q)[:, 3:], torch.where(on, q.strengths.mean, 0.0))


def test_features_that_are_off_learn_what_they_would_add():
    logits = torch.full((1, 3), -3.0, requires_grad=True)
    q = families.FeatureLoadings(3)(logits, torch.tensor([[2.0, -2.0, 0.0]]), torch.full((1, 3), -20.0))
    torch.manual_seed(0)
    value = q.rsample((2000,))
    off = (value[..., :3] == 0).all(-1)
    added = priors.IndianBuffet(3).unpack(value)[off]
    assert off.float().mean() > 0.8 and (added == 0).all()
    (slope,) = torch.autograd.grad(added.mean(0).sum(), logits)
    assert slope[0, 0] > 0.01 and slope[0, 1] < -0.01 and slope[0, 2].abs() < 0.01


def test_strengths_that_count_on_one_side_only_are_refused():
    prior = Joint([Independent(Bernoulli(torch.full((3,), 0.5)), 1), Independent(Normal(torch.zeros(3), 1.0), 1)])
    assert not same_space(prior.support, spike_and_slab(0).support)
    assert not same_space(prior.support, families.FeatureLoadings(3).support)
    assert same_space(priors.IndianBuffet(3)().support, families.FeatureLoadings(3).support)


def test_an_equal_mixture_is_the_mean_of_its_parts():
    parts = [Independent(Normal(torch.full((3, 2), float(m)), s), 1) for m, s in ((0, 1.0), (2, 0.5), (-1, 2.0))]
    mixture, x = EqualMixture(parts), torch.randn(3, 2)
    expected = torch.stack([part.log_prob(x).exp() for part in parts]).mean(0).log()
    torch.testing.assert_close(mixture.log_prob(x), expected)
    torch.manual_seed(0)
    drawn = mixture.sample((40_000,))
    assert ((drawn.mean(0) - mixture.mean) / (mixture.stddev / 200)).abs().max() < 4
    torch.testing.assert_close(drawn.var(0), mixture.variance, rtol=0.05, atol=0)


def test_a_draw_of_an_equal_mixture_belongs_to_its_row():
    mixture = EqualMixture([Independent(Normal(torch.full((5, 3, 2), float(m)), 0.1), 1) for m in range(4)])
    with RowNoise([1, 2, 3]):
        first = mixture.sample()
    with RowNoise([3, 2, 1]):
        assert torch.equal(mixture.sample(), first.flip(1))


def test_what_does_not_go_together_is_refused():
    with pytest.raises(OptionError, match="need them"):
        posteriors.OnSticks(nets.mlp(6, 9), families.FeatureLoadings(3))(torch.ones(2, 6))
    model = model_of(loadings=False)
    with pytest.raises(CompositionError, match="whole data set"):
        objectives.DIP()(model, torch.eye(6))
    for objective in (objectives.ReweightedWakeSleep(3), objectives.ReweightedWakeSleep(1, wake=0.0, sleep=1.0)):
        with pytest.raises(CompositionError, match="one weight for all rows together"):
            objective(model, torch.eye(6))
    with pytest.raises(OptionError, match="at least 1"):
        model_of(rows=0)


def test_a_check_takes_latents_of_the_whole_data_set():
    model, x = model_of(loadings=False).eval(), torch.bernoulli(torch.full((60, 6), 0.4))
    page = jensen.check(model, x, rows=20, samples=20, parts=("gradients", "use"), objective=objectives.ELBO())
    # In evaluation mode the sticks, or the weights of a decoder, have no gradient, which would be taken for no noise.
    assert page.gradients is None and "without a gradient" in page.skipped["gradients"]
    assert "LeaveOneOut" in page.skipped["identities"] and page.use is not None
    assert [finding.found for finding in page.findings if finding.topic in ("weights", "objective")] == []


def test_a_check_draws_new_sticks_in_every_block_and_names_the_bound_predictive(monkeypatch):
    model, x = model_of().eval(), torch.bernoulli(torch.full((5, 6), 0.4))
    seen = []
    plain = model.row_prior.forward
    monkeypatch.setattr(model.row_prior, "forward", lambda given=None: seen.append(given.shared) or plain(given))
    monkeypatch.setattr("jensen.diagnose.draws._BLOCK_VALUES", 64 * 6 * 3)
    draws_of(model, x, k=6)
    blocks = [shared for shared in seen if shared.shape[0] == 3]
    assert len(blocks) == 2 and not torch.equal(*blocks)
    page = jensen.check(model, x, rows=5, samples=20, parts=("weights",))
    assert {number.kind for number in page.weights.bounds.values()} == {"predictive"}


def test_expected_frequencies_are_those_of_the_process():
    mean, low, high = expected_frequencies(2.0, rows=100_000, features=5, draws=20_000)
    exact = torch.tensor([(2 / 3) ** t for t in range(1, 6)], dtype=torch.float64)
    assert ((mean - exact).abs() < 4 * 0.25 / 20_000**0.5 + 2e-3).all()
    # The first stick is Beta(2, 1), whose quantiles are square roots.
    assert float(low[0]) == pytest.approx(0.025**0.5, abs=0.01)
    assert float(high[0]) == pytest.approx(0.975**0.5, abs=0.01)


def test_a_dictionary_is_the_matrix_of_an_affine_decoder_and_features_in_use_tell_rows_apart():
    model = model_of(loadings=False)
    model.likelihood = Conditional(nets.mlp(3, 6, hidden=()), families.Normal(6))
    torch.testing.assert_close(dictionary(model), model.likelihood.net[-1].weight.T.detach(), atol=1e-6, rtol=1e-5)
    last = model.encoder.net[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([30.0, -30.0, 0.0]))
        model.encoder.net[1].weight.zero_()
        model.encoder.net[1].weight[0, 0] = 5.0
        last.weight[2, 0] = 30.0
        last.bias[2] = -30.0
    assert features_in_use(model, torch.eye(6)).tolist() == [2]
    found = feature_frequencies(model, torch.eye(6))
    assert found.found[0] > 0.99 and found.found[2] < 0.01 and 0 <= found.inside <= 1
    # The first is on in all rows and tells nothing; the third is on in one of six.
    torch.testing.assert_close(found.in_use, torch.tensor([1 / 6, 0, 0], dtype=torch.float64), atol=1e-3, rtol=0)


def test_a_feature_that_is_always_on_is_in_use_where_its_strength_tells_rows_apart():
    model = model_of()
    first, last = model.encoder.net[1], model.encoder.net[-1]
    with torch.no_grad():
        first.weight.zero_()
        first.weight[0, 0] = 5.0
        last.weight.zero_()
        last.bias.zero_()
        last.bias[:3] = torch.tensor([30.0, -30.0, 30.0])
        last.weight[3:5, 0] = 1.0  # the strengths of the first two; the second is never on
    assert features_in_use(model, torch.eye(6)).tolist() == [0]


def test_a_check_counts_features():
    model, x = model_of(loadings=False).eval(), torch.bernoulli(torch.full((60, 6), 0.4))
    with torch.no_grad():
        model.encoder.net[-1].weight *= 30.0
    page = jensen.check(model, x, parts=("features",))
    used, found = len(features_in_use(model, x)), feature_frequencies(model, x)
    assert torch.equal(page.features.found, found.found) and page.features.used == used > 0
    document = page.to_json()["features"]
    assert (document["used"], document["inside"], document["high"]) == (used, found.inside, found.high.tolist())
    (note,) = [finding for finding in page.findings if finding.topic == "features"]
    assert f"{used} of 3 features" in note.found and f"{found.inside:.0%}" in note.found


def test_concentrations_may_be_whole_numbers():
    whole, floats = priors.Sticks(3, alpha=4, beta=1)(), priors.Sticks(3, alpha=4.0)()
    assert whole.sample().shape == (3,)
    q = posteriors.Sticks(3, 2.0)()
    assert torch.equal(kl_per_latent(q, whole), kl_per_latent(q, floats))


def test_a_model_without_features_is_told_so():
    with pytest.raises(JensenError, match="no features"):
        features_in_use(testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5).model, torch.zeros(2, 3).double())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_known_features_are_found(seed):
    from benchmarks.ibp import LEAST_CORRELATION, synthetic

    found = synthetic(seed)
    assert found["features"] == 5
    assert min(found["correlations"]) > LEAST_CORRELATION
