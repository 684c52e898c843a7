"""The gap of the bound, split, on models whose gaps are known."""

import math

import pytest
import torch

from jensen import VAE, Conditional, families, nets, testing
from jensen.diagnose import inference_gaps, split_gap
from jensen.errors import DataError, OptionError
from jensen.noise import seeded

WEIGHT = torch.tensor([[1.0, 0.6], [0.2, 1.0], [0.5, -0.4]], dtype=torch.float64)


def amortised(family, parameters):
    """A linear-Gaussian model with an encoder that gives every row the same posterior."""
    oracle = testing.LinearGaussian(WEIGHT, noise=0.5)
    net = nets.mlp(3, len(parameters), ()).double()
    with torch.no_grad():
        net[-1].weight.zero_()
        net[-1].bias.copy_(torch.tensor(parameters))
    return oracle, VAE(oracle.model.prior, oracle.model.likelihood, Conditional(net, family).double())


def rows(oracle, n=40, seed=0):
    with seeded(seed):
        return oracle.evidence.sample((n,))


def test_each_gap_of_a_diagonal_family_has_a_closed_form():
    family = families.Normal(2, scale=families.PredictedScale())
    oracle, model = amortised(family, [0.0, 0.0, 0.0, 0.0])
    x, train = rows(oracle), rows(oracle, seed=1)
    found = inference_gaps(model, x, train, samples=2000)
    precision = torch.eye(2, dtype=torch.float64) + WEIGHT.T @ WEIGHT / 0.25
    # The best diagonal normal has the precisions of the diagonal, and the true mean.
    approximation = 0.5 * float(precision.diagonal().log().sum() - torch.logdet(precision))
    assert approximation > 0.05
    for split, part in ((x, found.held_out), (train, found.train)):
        exact = oracle.log_evidence(split)
        assert abs(part.log_p.value - float(exact.mean())) < 0.02
        assert abs(part.approximation.value - approximation) < 0.02
        q, p = model.posterior(split), oracle.model.posterior(split)
        diagonal = torch.distributions.MultivariateNormal(q.mean, torch.diag_embed(q.variance))
        whole = torch.distributions.kl_divergence(diagonal, p).detach()
        assert abs(part.amortisation.value - float(whole.mean()) + approximation) < 0.1
    difference = found.train.encoder.value - found.held_out.encoder.value
    assert found.generalisation.value == pytest.approx(difference)
    assert found.generalisation.se > found.held_out.amortisation.se / 10


def test_a_full_covariance_has_no_approximation_gap_here():
    oracle, model = amortised(families.FullNormal(2), [0.0, 0.0, 0.0, 0.0, 0.0])
    found = inference_gaps(model, rows(oracle), samples=500).held_out
    assert abs(found.approximation.value) < 0.01 and found.amortisation.value > 0.5


def test_annealing_lifts_a_loose_bound_and_units_shift_densities_alone():
    family = families.Normal(2, scale=families.PredictedScale())
    oracle, model = amortised(family, [1.0, 1.0, -0.5, -0.5])
    x = rows(oracle, 12)
    loose = inference_gaps(model, x, samples=5, steps=1).held_out
    tight = inference_gaps(model, x, samples=5, steps=1, temperatures=60, chains=8).held_out
    exact = float(oracle.log_evidence(x).mean())
    assert loose.log_p.value < exact - 0.3 and abs(tight.log_p.value - exact) < 0.3
    moved = tight.shifted(10.0)
    assert moved.log_p.value == tight.log_p.value + 10 and moved.approximation == tight.approximation


def test_the_split_adds_up_and_refuses_other_rows():
    with seeded(0):
        log_p, best, encoder = torch.randn(3, 50, dtype=torch.float64)
    found = split_gap(log_p, best, encoder)
    assert found.approximation.value + found.amortisation.value == pytest.approx(float((log_p - encoder).mean()))
    assert found.approximation.se == pytest.approx(float((log_p - best).std()) / math.sqrt(50))
    with pytest.raises(DataError, match="same rows"):
        split_gap(log_p, best[:3], encoder)


def test_an_unknown_family_is_refused():
    oracle = testing.LinearGaussian(WEIGHT, noise=0.5)
    with pytest.raises(OptionError, match="family"):
        inference_gaps(oracle.model, rows(oracle, 3))
