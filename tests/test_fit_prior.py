"""A prior fitted to the codes of a trained model."""

from types import SimpleNamespace

import pytest
import torch

from jensen import VAE, Conditional, families, nets, objectives, priors, testing
from jensen.errors import JensenError, OptionError, ShapeError
from jensen.inference.fit_prior import fit_prior
from jensen.model import Autoencoder
from jensen.noise import seeded


def shifted():
    """An exact model, and rows from elsewhere, so that the aggregate posterior is far from the prior."""
    oracle = testing.LinearGaussian(2 * torch.eye(3)[:, :2], noise=0.5)
    with seeded(0):
        side = torch.bernoulli(torch.full((1500, 1), 0.5)).double()
        x = oracle.evidence.sample((1500,)) * 0.4 + (2 * side - 1) * torch.tensor([3.0, -2.0, 0.0]).double()
    return oracle.model, x


@pytest.mark.parametrize("make_prior", [lambda: priors.Mixture(2, 4), lambda: priors.Flow(2, 2, (16,), bins=6)])
def test_a_fitted_prior_gains_what_the_elbo_gains(make_prior):
    model, x = shifted()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with seeded(0):
        prior = make_prior()
    fitted, record = fit_prior(model, x[:1200], prior, held_out=x[1200:], steps=600)
    assert fitted.prior is prior
    assert fitted.likelihood is model.likelihood and fitted.posterior is model.posterior
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert record.gain.mean > 0.3 and record.gain.n == 300
    assert record.curve[record.best_step // 50] == max(record.curve)
    with torch.no_grad():
        risen = objectives.ELBO(k=200, closed_form_kl=False)(fitted, x[1200:]).bound
        old = objectives.ELBO(k=200, closed_form_kl=False)(model, x[1200:]).bound
    error = (record.gain.mc_se**2 + float((risen - old).var()) / 300 / 20) ** 0.5
    assert abs(float((risen - old).mean()) - record.gain.mean) < 4 * error
    with seeded(1):
        z = fitted.prior().sample((4000,))
        codes = fitted.posterior(x).sample()
    assert (z.mean(0) - codes.mean(0)).abs().max() < 0.3
    assert (z.std(0) - codes.std(0)).abs().max() < 0.3


def test_fitting_repeats_itself_and_stops_early():
    model, x = shifted()

    def run(steps):
        with seeded(5):
            prior = priors.Mixture(2, 2)
        return fit_prior(model, x[:60], prior, steps=steps, seed=3)

    (first, record), (second, same) = run(2000), run(2000)
    assert record == same
    assert 0 < record.best_step < record.steps < 2000
    assert torch.equal(first.prior.loc, second.prior.loc)
    # The prior that is kept is that of the best step.
    assert torch.equal(run(record.best_step)[0].prior.loc, first.prior.loc)


def test_a_vamp_prior_is_fitted_without_moving_the_posterior():
    with seeded(0):
        posterior = Conditional(nets.mlp(6, 4, (8,)), families.Normal(2, scale=families.PredictedScale()))
        likelihood = Conditional(nets.mlp(2, 6, (8,)), families.Bernoulli(6))
    model = VAE(priors.StandardNormal(2), likelihood, posterior)
    x = torch.bernoulli(torch.full((200, 6), 0.4), generator=torch.Generator().manual_seed(1))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fitted, _ = fit_prior(model, x, priors.VampPrior(model.posterior, 4, shape=[6]), steps=60)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in fitted.parameters())
    assert model.training


def test_priors_that_cannot_be_fitted_are_refused():
    model, x = shifted()
    with pytest.raises(OptionError, match="no parameters"):
        fit_prior(model, x, priors.StandardNormal(2))
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        fit_prior(model, x, priors.Mixture(3, 2))
    with pytest.raises(OptionError, match="got 5"):
        fit_prior(model, x[:5], priors.Mixture(2, 2))
    with pytest.raises(OptionError, match="no posterior"):
        fit_prior(SimpleNamespace(prior=model.prior, likelihood=model.likelihood), x, priors.Mixture(2, 2))
    with pytest.raises(OptionError, match="conditioned on labels"):
        fit_prior(SimpleNamespace(conditions=3), x, priors.Mixture(2, 2))


def test_a_prior_of_its_codes_makes_a_sampler_of_an_autoencoder():
    # Two values of a row, both far from zero: the codes are two clusters, which one normal does not fit.
    with seeded(0):
        x = torch.randn(400, 1).sign() * 3 + 0.1 * torch.randn(400, 1)
        encoder = nets.mlp(1, 1, hidden=())
        decoder = Conditional(nets.mlp(1, 1, hidden=()), families.Normal(1, scale=families.FixedScale(0.1)))
    torch.nn.init.ones_(encoder[-1].weight), torch.nn.init.zeros_(encoder[-1].bias)
    torch.nn.init.ones_(decoder.net[-1].weight), torch.nn.init.zeros_(decoder.net[-1].bias)
    model = Autoencoder(encoder, decoder, latents=1)
    with pytest.raises(JensenError, match="cannot be sampled"):
        model.sample(2)
    fitted, record = fit_prior(model, x, priors.Mixture(1, 2), steps=600, learning_rate=0.02)
    assert record.gain.mean > 1.0 and record.gain.mean > 4 * record.gain.se
    with seeded(1):
        drawn = fitted.sample(500)
    assert ((drawn.abs() - 3).abs() < 1).float().mean() > 0.95 and 0.3 < (drawn > 0).float().mean() < 0.7
    z = model.embed(x)[None]
    expected = fitted.decode(z).log_prob(x) + fitted.prior().log_prob(z)
    assert torch.equal(fitted.log_joint(x, z), expected) and fitted.evidence == "none"
