"""A decoder whose weights are latents: its distributions, its bounds and what it predicts."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from jensen import Conditional, check, diagnose, evaluation, families, likelihoods, nets, objectives, posteriors, priors
from jensen.data.schema import infer
from jensen.diagnose.collapse import decoded_log_likelihood
from jensen.distributions import EqualMixture
from jensen.errors import JensenError, OptionError, ShapeError
from jensen.fitted import Fitted
from jensen.inference import ais, bdmc, importance
from jensen.model import SharedVAE
from jensen.noise import seeded, shared_noise
from jensen.roles import Given
from jensen.zoo.bayesian_decoder import _scales


def model_of(hidden=(5,), rows=40, scale=0.2):
    torch.manual_seed(0)
    net = nets.mlp(2, 6, hidden=hidden)
    sizes = [p.numel() for p in net.parameters()]
    return SharedVAE(
        priors.StandardNormal(2),
        likelihoods.SampledWeights(net, families.Bernoulli(6)),
        Conditional(nets.mlp(6, 4, hidden=(8,)), families.Normal(2, families.PredictedScale())),
        priors.Weights(sizes, [0.7] * len(sizes)),
        posteriors.Weights(net, [scale] * len(sizes)),
        rows,
    )


def test_weights_are_used_as_the_networks_own():
    torch.manual_seed(0)
    net = nets.mlp(2, 6, hidden=(5,))
    likelihood, z = likelihoods.SampledWeights(net, families.Bernoulli(6)), torch.randn(3, 20, 2)
    own = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    torch.testing.assert_close(likelihood(z, Given(shared=own)).mean, likelihood(z).mean)
    several = torch.stack([own, 2 * own, torch.zeros_like(own)])[:, None]
    decoded = likelihood(z, Given(shared=several)).mean
    torch.testing.assert_close(decoded[0], likelihood(z[0]).mean)
    torch.testing.assert_close(decoded[2], torch.full((20, 6), 0.5))
    torch.testing.assert_close(decoded[1], likelihood(z[1], Given(shared=2 * own)).mean)
    with pytest.raises(ShapeError, match="weights"):
        likelihood(z, Given(shared=own[1:]))
    with pytest.raises(ShapeError, match="samples"):
        likelihood(z, Given(shared=several[:2]))


def test_a_check_finds_no_fault_in_weights_that_each_draw_has_of_its_own():
    model = model_of(scale=0.5).eval()
    with torch.no_grad(), seeded(1):
        for parameter in model.shared_posterior.parameters():
            parameter.add_(torch.randn_like(parameter)) if parameter.ndim == 1 else None
    x = torch.bernoulli(torch.full((300, 6), 0.4), generator=torch.Generator().manual_seed(0))
    assert diagnose.weight_faults(model, x[:20]) == []
    draws = diagnose.draws_of(model, x, k=200)
    apart = (decoded_log_likelihood(model, x, draws.z) - draws.log_likelihood).mean()
    assert apart > 0.05  # an average over draws of the weights predicts better than one of them
    use = diagnose.latent_use(model, x, k=200)
    assert abs(use.other_rows.value) < 4 * use.other_rows.se + 0.01


def test_what_averages_over_a_few_weights_of_all_rows_is_no_bound():
    model, x = model_of().eval(), torch.ones(4, 6)
    for call in (lambda: importance(model, x, model.posterior), lambda: ais(model, x), lambda: bdmc(model, 3)):
        with pytest.raises(JensenError, match="all rows share"):
            call()
    page = check(model, x, rows=4, samples=10, parts=("annealed", "bracket"))
    assert all("all rows share" in page.skipped[part] for part in ("annealed", "bracket"))


def test_the_kl_of_the_weights_is_a_term_of_its_own():
    model = model_of().double()
    x = torch.eye(6, dtype=torch.float64)
    means = torch.cat([p.reshape(-1) for p in model.likelihood.net.parameters()])
    expected = kl_divergence(Normal(means, 0.2), Normal(torch.zeros_like(means), 0.7)).sum() / 40
    torch.manual_seed(1)
    whole = objectives.ELBO()(model, x)
    torch.testing.assert_close(whole.terms["global_kl"], expected.expand(6), rtol=1e-6, atol=0)
    torch.testing.assert_close(whole.bound.mean(), -whole.loss)
    torch.manual_seed(1)
    cold = objectives.ELBO(shared_beta=0.1)(model, x)
    torch.testing.assert_close(cold.bound, whole.bound)
    torch.testing.assert_close(cold.loss, whole.loss - 0.9 * expected)
    with pytest.raises(OptionError, match="shared_beta"):
        objectives.ELBO(shared_beta=0.0)


def test_with_certain_weights_it_is_the_point_estimate():
    model, x = model_of(scale=1.001e-4), torch.eye(6)
    z = model.eval().draw(x, k=3).groups[0].z
    torch.testing.assert_close(model.decode(z).mean, model.likelihood(z).mean, atol=1e-3, rtol=0)


def test_the_predictive_score_of_an_affine_decoder_is_that_of_quadrature():
    """x = w z + b with one latent and Gaussian w and b: given z, x is normal, and z is integrated on a grid."""
    torch.manual_seed(0)
    net = nets.mlp(1, 1, hidden=())
    model = SharedVAE(
        priors.StandardNormal(1),
        likelihoods.SampledWeights(net, families.Normal(1, families.FixedScale(0.5))),
        Conditional(nets.mlp(1, 2, hidden=()), families.Normal(1, families.PredictedScale())),
        priors.Weights([1, 1], [1.0, 1.0]),
        posteriors.Weights(net, [0.6, 0.3]),
        rows=10,
    ).double()
    torch.nn.init.zeros_(model.encoder.net[-1].weight)  # q is the prior
    torch.nn.init.zeros_(model.encoder.net[-1].bias)
    w, b = (float(p.detach()) for p in net.parameters())
    x = torch.tensor([[-1.0], [0.2], [1.5]], dtype=torch.float64)
    z = torch.linspace(-9, 9, 20_001, dtype=torch.float64)[:, None]
    variance = (0.6 * z).square() + 0.3**2 + 0.5**2
    log_joint = Normal(w * z + b, variance.sqrt()).log_prob(x[:, 0]) + Normal(0.0, 1.0).log_prob(z)
    exact = log_joint.logsumexp(0) + math.log(18 / 20_000)
    scores = evaluation.bounds(model, x, k=20_000)
    error = scores.log_likelihood_variance.sqrt()
    assert ((scores.log_likelihood - exact).abs() / error).max() < 4


def test_bounds_do_not_depend_on_batching_to_the_bit():
    model = model_of()
    x = torch.bernoulli(torch.full((100, 6), 0.5), generator=torch.Generator().manual_seed(1))
    whole = evaluation.bounds(model, x, k=35)
    assert torch.equal(whole.log_likelihood[70:72], evaluation.bounds(model, x[70:72], k=35).log_likelihood)
    number = evaluation.log_likelihood(model, x, k=35)
    assert number.kind == "predictive"
    # Rows share the draws of the weights, so errors are not taken to cancel.
    assert number.mc_se == pytest.approx(float(whole.log_likelihood_variance.sqrt().mean()))


def test_predictions_are_averaged_and_say_how_uncertain_they_are():
    model, x = model_of(scale=0.5).eval(), torch.eye(6)
    decoded = model.decode(model.embed(x))
    assert isinstance(decoded, EqualMixture) and torch.equal(decoded.mean, model.decode(model.embed(x)).mean)
    one = model.likelihood(model.embed(x))
    assert (decoded.mean - one.mean).abs().max() > 0.01
    assert model.sample(70).shape == (70, 6) and model.sample(3, mean=True).shape == (3, 6)
    parts = torch.stack([part.mean for part in decoded.parts])
    torch.testing.assert_close(decoded.variance, (parts * (1 - parts)).mean(0) + parts.var(0, correction=0))


def test_a_layer_of_weights_from_the_prior_keeps_the_size_of_its_input():
    """Convolutions that widen a map make each output of a quarter of their patches; gains are about one."""
    layer = nn.ConvTranspose2d(32, 8, 3, stride=2, padding=1)
    net = nn.Sequential(nn.Linear(50, 20), nn.LayerNorm(20), layer)
    wide, bias, gain, shift, maps, _ = _scales(net, 1.0)
    assert wide == bias == 50**-0.5 and gain == shift == 1.0
    with torch.no_grad(), seeded(0):
        layer.weight.normal_(0, maps)
        layer.bias.zero_()
        y = layer(torch.randn(4, 32, 30, 30))[..., 5:-5, 5:-5]
    assert y.square().mean() == pytest.approx(1.0, abs=0.1)


def test_scales_are_learned_or_kept():
    learned, kept = priors.Weights([3, 2], [0.5, 1.0]), priors.Weights([3, 2], [0.5, 1.0], learned=False)
    assert len(list(learned.parameters())) == 1 and not list(kept.parameters())
    expected = Independent(Normal(torch.zeros(5), torch.tensor([0.5] * 3 + [1.0] * 2)), 1)
    torch.testing.assert_close(kept().log_prob(torch.ones(5)), expected.log_prob(torch.ones(5)))
    objectives.ELBO()(model_of(), torch.eye(6)).loss.backward()
    for wrong in (lambda: priors.Weights([3], [0.5, 1.0]), lambda: posteriors.Weights(nets.mlp(2, 3), [0.1])):
        with pytest.raises(OptionError, match=r"each|scales"):
            wrong()


def test_a_reconstruction_says_how_uncertain_it_is(tmp_path):
    torch.manual_seed(0)
    net = nets.mlp(2, 6, hidden=(5,))
    sizes = [p.numel() for p in net.parameters()]
    model = SharedVAE(
        priors.StandardNormal(2),
        likelihoods.SampledWeights(net, families.Normal(6, families.FixedScale(0.1))),
        Conditional(nets.mlp(6, 4, hidden=(8,)), families.Normal(2, families.PredictedScale())),
        priors.Weights(sizes, [0.7] * len(sizes)),
        posteriors.Weights(net, [0.5] * len(sizes)),
        40,
    )
    x = 100.0 + 3.0 * torch.randn(30, 6).double().numpy()
    schema = infer(x, x, name="far", binarisation="none", seed=0)
    found = Fitted(model, schema).reconstruct(x, deviation=True)
    z = model.eval().embed(schema.model_values(x))
    with seeded("predictions"), shared_noise():
        weights = model.shared_posterior().sample((16,))
    means = torch.stack([model.likelihood(z, Given(shared=w)).mean for w in weights])
    within = 0.1**2 + means.var(0, correction=0)
    scale = x.std(0)
    assert found.dtype == x.dtype
    assert abs(found - within.sqrt().detach().numpy() * scale).max() < 1e-4 * scale.max()


def test_the_uncertainty_of_a_reconstruction_is_written_and_refused_of_sentences(tmp_path):
    import numpy as np

    import jensen

    rows = np.random.default_rng(0).random((40, 3)) * 50
    run = jensen.fit(rows, model="bayesian-decoder", out=tmp_path / "run", steps=5, samples=2, hidden=[4])
    found = run.model.reconstruct(rows, deviation=True)
    assert found.shape == rows.shape and (found > 0).all()
    levels = jensen.fit("digits", model="bayesian-decoder", out=tmp_path / "digits", steps=5, samples=2, hidden=[4])
    found = levels.model.reconstruct(np.full((3, 8, 8), 4.0), deviation=True)  # of values from 0 to 16
    assert found.shape == (3, 8, 8) and (found > 0).all() and (found < 8.5).all() and found.max() > 1
    (tmp_path / "a.txt").write_text("".join("far " * number + "away.\n" for number in range(20)))
    text = jensen.fit(tmp_path / "a.txt", out=tmp_path / "text", steps=2, samples=2)
    with pytest.raises(OptionError, match="no standard deviations"):
        text.model.reconstruct(["one two."], deviation=True)
