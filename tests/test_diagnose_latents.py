"""Use, calibration and scale of the latents, against models whose answers are known."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from jensen import VAE, Conditional, families, nets, priors, testing
from jensen.diagnose import latent_use, posterior_scale, prior_gap, simulation_calibration
from jensen.diagnose.collapse import decoded_log_likelihood
from jensen.errors import DataError, JensenError, OptionError
from jensen.noise import seeded


class Changed(nn.Module):
    """A normal posterior, wider by a factor and moved by some of its own deviations."""

    def __init__(self, posterior, factor=1.0, shift=0.0):
        super().__init__()
        self.posterior, self.factor, self.shift = posterior, factor, shift

    def forward(self, x, given=None):
        q = self.posterior(x)
        loc = q.loc + self.shift * q.stddev
        return MultivariateNormal(loc, scale_tril=self.factor * q.scale_tril, validate_args=False)


def oracle(noise=0.5, latents=2, seed=0):
    weight = torch.randn(4, latents, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return testing.LinearGaussian(weight, noise)


def changed(model, **how):
    return VAE(model.prior, model.likelihood, Changed(model.posterior, **how))


def rows(source, n=200, seed=1):
    with seeded(seed):
        return source.evidence.sample((n,))


# -- use -------------------------------------------------------------------------------------------------------------


def test_the_decoded_log_likelihood_is_that_of_the_draw():
    model, x = oracle().model, rows(oracle(), 130)
    draw = model.draw(x, k=3)
    assert (decoded_log_likelihood(model, x, draw.groups[0].z) - draw.log_likelihood).abs().max() < 1e-10


def test_what_the_decoder_loses_has_a_closed_form_for_two_rows():
    source, noise, k = oracle(), 0.5, 20_000
    x, model = rows(source, 2), source.model
    found = latent_use(model, x, k=k)
    weight = model.likelihood.net[-1].weight.detach()
    q = model.posterior(x)
    own, other = ((x - mean @ weight.T).square().sum(1) for mean in (q.mean, q.mean.flip(0)))
    exact = (other - own) / (2 * noise**2)
    assert found.other_rows.value == pytest.approx(float(exact.mean()), rel=0.02)
    trace = torch.trace(weight @ weight.T - weight @ q.covariance_matrix[0] @ weight.T)
    prior = (x.square().sum(1) - own + trace) / (2 * noise**2)
    assert found.from_prior.value == pytest.approx(float(prior.mean()), rel=0.05)


def test_the_kl_and_the_active_latents_are_counted():
    # The second column is zero: the exact posterior of the second latent is its prior.
    weight = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.5, 0.0]])
    source = testing.LinearGaussian(weight, noise=0.5)
    found = latent_use(source.model, rows(source))
    assert (found.active, found.active_interval, found.verdict) == (1, (1, 1), "spare latents")
    exact = torch.distributions.kl_divergence(source.model.posterior(rows(source)), MultivariateNormal(
        torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)))  # fmt: skip
    assert found.kl.value == pytest.approx(float(exact.mean()), abs=1e-10)
    assert found.kl_per_latent is None


def test_a_bootstrap_interval_shows_a_latent_at_the_border():
    # The means of the second latent have a variance of just 0.01.
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.1005]])
    source = testing.LinearGaussian(weight, noise=1.0)
    found = latent_use(source.model, rows(source, 100))
    assert found.active_interval == (1, 2)


def bernoulli(silent_decoder=False, silent_encoder=False):
    with seeded(0):
        posterior = Conditional(nets.mlp(5, 4, ()), families.Normal(2, scale=families.PredictedScale()))
        likelihood = Conditional(nets.mlp(2, 5, ()), families.Bernoulli(5))
    with torch.no_grad():
        if silent_decoder:
            likelihood.net[-1].weight.zero_()
        if silent_encoder:
            posterior.net[-1].weight.zero_()
            posterior.net[-1].bias.zero_()
        else:
            posterior.net[-1].weight.mul_(3)
    return VAE(priors.StandardNormal(2), likelihood, posterior), torch.bernoulli(
        torch.full((60, 5), 0.5), generator=torch.Generator().manual_seed(1)
    )


def test_total_collapse_is_told_from_a_decoder_that_ignores_z():
    assert latent_use(*bernoulli(silent_decoder=True, silent_encoder=True)).verdict == "total collapse"
    found = latent_use(*bernoulli(silent_decoder=True))
    assert found.verdict == "decoder ignores z" and found.other_rows.value == 0
    assert found.kl_per_latent.sum() == pytest.approx(found.kl.value)


def test_codes_that_tell_nothing_are_a_collapse_even_where_the_decoder_would_listen():
    class Prior(nn.Module):
        def forward(self, x, given=None):
            return MultivariateNormal(x.new_zeros(len(x), 2), torch.eye(2).to(x), validate_args=False)

    source = oracle()
    found = latent_use(VAE(source.model.prior, source.model.likelihood, Prior()), rows(source))
    assert found.other_rows.se > 0.1  # which draws of the prior make uncertain, however little they tell
    assert found.verdict == "total collapse"


@pytest.mark.parametrize("n", [30, 50])
def test_a_decoder_that_uses_z_is_never_said_to_ignore_it_for_want_of_rows(n):
    source = testing.LinearGaussian(torch.ones(1, 1), noise=1.0)
    for seed in range(25):
        assert latent_use(source.model, rows(source, n, seed), seed=seed).verdict == "none"


def test_codes_of_other_rows_are_told_by_what_the_prior_explains():
    class Rolled(Changed):
        def forward(self, x, given=None):
            return super().forward(x.roll(1, 0))

    source = oracle()
    model = VAE(source.model.prior, source.model.likelihood, Rolled(source.model.posterior))
    assert all(latent_use(model, rows(source, 100, seed)).verdict == "decoder ignores z" for seed in range(5))


def test_one_row_is_refused():
    with pytest.raises(DataError, match="at least 2"):
        latent_use(oracle().model, rows(oracle(), 1))


# -- calibration -----------------------------------------------------------------------------------------------------


def test_an_exact_posterior_is_calibrated():
    found = simulation_calibration(oracle().model, rows=600)
    assert found.p_value > 0.01 and found.direction == "none"
    assert ((found.spread - 1).abs() < 0.12).all() and found.shift.abs().max() < 0.2
    assert sum(found.to_json()["rank_counts"][0]) == 600


@pytest.mark.parametrize(
    ("how", "direction"),
    [({"factor": 1.5}, "too wide"), ({"factor": 0.6}, "too narrow"), ({"shift": 0.7}, "shifted")],
)
def test_each_planted_error_is_found_with_its_direction(how, direction):
    found = simulation_calibration(changed(oracle().model, **how), rows=600)
    assert found.p_value < 1e-6 and found.direction == direction
    if "factor" in how:
        assert (found.spread * how["factor"] - 1).abs().max() < 0.15
    else:
        assert (found.shift + how["shift"]).abs().max() < 0.2


def test_a_posterior_that_is_the_prior_passes_for_z_and_fails_for_the_joint():
    class Prior(nn.Module):
        def forward(self, x, given=None):
            return MultivariateNormal(x.new_zeros(len(x), 2), torch.eye(2).to(x), validate_args=False)

    model = oracle().model
    found = simulation_calibration(VAE(model.prior, model.likelihood, Prior()), rows=400)
    assert found.p_values.min() > 0.005
    assert found.joint_p_value < 1e-6


def test_equal_rows_have_draws_of_their_own():
    """One column of coins that says nothing of z: the posterior is the prior, and q is exact."""
    decoder, encoder = nets.mlp(1, 1, hidden=()), nets.mlp(1, 1, hidden=())
    for parameter in (*decoder.parameters(), *encoder.parameters()):
        nn.init.zeros_(parameter)
    q = families.Normal(1, families.FixedScale(1.0))
    model = VAE(priors.StandardNormal(1), Conditional(decoder, families.Bernoulli(1)), Conditional(encoder, q))
    found = [simulation_calibration(model, rows=400, seed=seed).p_value for seed in range(20)]
    assert sum(p < 0.01 for p in found) <= 2


def test_an_exact_posterior_of_a_coin_is_calibrated_in_single_precision():
    class Coin(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Buffer(torch.zeros(1))

        def forward(self, given=None):
            return families.Bernoulli(1)(self.logits)

    class Exact(nn.Module):
        def __init__(self, likelihood):
            super().__init__()
            self.likelihood = likelihood

        def forward(self, x, given=None):
            both = torch.tensor([0.0, 1.0]).reshape(2, 1, 1).expand(2, len(x), 1)
            tails, heads = self.likelihood(both).log_prob(x)
            return families.Bernoulli(1)((heads - tails)[:, None])

    p_values = []
    for seed in range(5):
        with seeded(seed):
            likelihood = Conditional(nets.mlp(1, 64, hidden=(128,)), families.Bernoulli(64))
        found = simulation_calibration(VAE(Coin(), likelihood, Exact(likelihood)), rows=300, seed=seed)
        p_values.append(found.joint_p_value)
    assert min(p_values) > 0.01, p_values


def test_calibration_refuses_numbers_that_do_not_fit():
    for how in ({"rows": 10}, {"draws": 50}, {"draws": 0}):
        with pytest.raises(OptionError, match="calibration needs"):
            simulation_calibration(oracle().model, **how)


# -- scale -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.5])
def test_the_best_scale_undoes_the_one_that_was_planted(factor):
    source = oracle(latents=3)
    found = posterior_scale(changed(source.model, factor=factor), rows(source, 400), sets=32)
    # A grid of steps of 0.2 and a parabola are right to about 0.01.
    assert abs(math.log(found.best * factor)) < 4 * found.log_error + 0.02
    gain = 3 * (0.5 * (factor**2 - 1) - math.log(factor))
    assert abs(found.gain.value - gain) < 4 * found.gain.se + 0.03


def test_the_best_scale_is_that_of_the_bound_that_is_asked_for():
    source = oracle(latents=3)
    narrow = changed(source.model, factor=0.7)
    x = rows(source, 200)

    def log_mean(log_weight):
        return log_weight.logsumexp(0) - math.log(len(log_weight))

    plain = posterior_scale(narrow, x, sets=32).best
    several = posterior_scale(narrow, x, k=8, sets=8, mean=log_mean)
    weighted = posterior_scale(narrow, x, sets=32, beta=4.0)
    assert plain == pytest.approx(1 / 0.7, rel=0.05)
    # At the exact posterior all weights are equal, whatever their number; the KL times 4 wants twice the deviations
    # where the prior is flat, and the prior itself where the data say little.
    assert several.best == pytest.approx(1 / 0.7, rel=0.1)
    assert plain * 1.2 < weighted.best < 2.05 * plain


def test_discrete_latents_have_no_scale():
    class Coins(nn.Module):
        def forward(self, x=None, given=None):
            logits = torch.zeros(2) if x is None or not isinstance(x, torch.Tensor) else x.new_zeros(len(x), 2)
            return torch.distributions.Independent(torch.distributions.Bernoulli(logits=logits), 1)

    likelihood = Conditional(nets.mlp(2, 5, ()), families.Bernoulli(5))
    model = VAE(Coins(), likelihood, Coins())
    with pytest.raises(JensenError, match="stretched"):
        posterior_scale(model, torch.ones(3, 5))


# -- the prior -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_the_classifier_is_as_good_as_the_distance_allows(shift):
    # q(z|x) = N(x, small), x ~ N(shift, 1): the best accuracy is Phi(shift / 2).
    class Near(nn.Module):
        def forward(self, x, given=None):
            return MultivariateNormal(x, 1e-4 * torch.eye(1).to(x), validate_args=False)

    with seeded(0):
        x = torch.randn(3000, 1, dtype=torch.float64) + shift
    likelihood = Conditional(nets.mlp(1, 1, ()).double(), families.Normal(1))
    found = prior_gap(VAE(priors.StandardNormal(1).double(), likelihood, Near()), x, draws=1500)
    best = float(torch.special.ndtr(torch.tensor(shift / 2)))
    assert best - 0.06 < found.accuracy.value < best + 4 * found.accuracy.se
    assert float(found.mean) == pytest.approx(shift, abs=0.1) and float(found.deviation) == pytest.approx(1, abs=0.1)


def test_the_error_of_the_accuracy_is_right_where_rows_are_fewer_than_draws():
    source = testing.LinearGaussian(3 * torch.eye(3)[:, :2], noise=0.05)
    found = [prior_gap(source.model, rows(source, 30, seed), seed=seed).accuracy for seed in range(30)]
    square = sum(accuracy.beyond(0.5) ** 2 for accuracy in found) / len(found)
    assert 0.5 < square < 2.0, square  # 1 is right


def test_too_few_draws_are_refused():
    with pytest.raises(OptionError, match="at least 40"):
        prior_gap(oracle().model, rows(oracle()), draws=5)
