"""Importance sampling with any proposal."""

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

from jensen import VAE, Conditional, JensenError, families, nets, priors, testing
from jensen.inference import efficiency, importance


def oracle(latents=2, noise=0.5, size=5):
    weight = torch.randn(size, latents, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return testing.LinearGaussian(weight, noise)


def rows(source, n=20):
    torch.manual_seed(1)
    return source.evidence.sample((n,))


def standard_normal(latents):
    return Independent(Normal(torch.zeros(latents).double(), torch.ones(latents).double()), 1)


@pytest.mark.parametrize("latents", [1, 3, 10])
def test_the_evidence_is_the_joint_over_the_posterior_at_any_z(latents):
    source = oracle(latents, size=12)
    x = rows(source)
    for z in (torch.zeros(1, 20, latents), 3 * torch.randn(4, 20, latents, generator=torch.Generator().manual_seed(2))):
        log_ratio = source.model.log_joint(x, z.double()) - source.model.posterior(x).log_prob(z.double())
        assert (log_ratio - source.log_evidence(x)).abs().max() < 1e-10


def test_the_exact_posterior_gives_the_evidence_with_every_draw():
    source = oracle()
    x = rows(source)
    found = importance(source.model, x, source.model.posterior, k=40)
    assert found.log_weight.shape == (40, 20)
    assert (found.log_weight - source.log_evidence(x)).abs().max() < 1e-10
    assert (found.ess - 40).abs().max() < 1e-8
    assert found.variance.max() < 1e-12
    number = found.number("valid")
    assert (number.kind, number.k, number.n, number.split, number.measure) == ("lower", 40, 20, "valid", "density")
    assert abs(number.mean - float(source.log_evidence(x).mean())) < 1e-10


@pytest.mark.parametrize("wide", [1.0, 2.0])
def test_weights_have_the_evidence_as_their_mean(wide):
    """With the prior, and with a wider normal as proposal."""
    source = oracle()
    x = rows(source)
    proposal = source.model.prior() if wide == 1 else Independent(Normal(torch.zeros(2).double(), wide), 1)
    found = importance(source.model, x, proposal, k=20_000)
    ratio = (found.log_weight - source.log_evidence(x)).exp()
    z_score = (ratio.mean(0) - 1) / (ratio.std(0) / math.sqrt(20_000))
    assert z_score.abs().max() < 4
    error = (found.log_likelihood - source.log_evidence(x)) / found.variance.sqrt()
    assert 0.4 < error.square().mean() < 2.2


def test_a_posterior_proposal_beats_the_prior_by_the_factor_that_theory_gives():
    """For normals the effective share of the draws from a proposal has a closed form."""
    source = oracle(latents=2, noise=0.7)
    x = rows(source)
    posterior = source.model.posterior(x)
    precision, eye = posterior.precision_matrix, torch.eye(2, dtype=torch.float64)
    # E w^2 / (E w)^2 = E_p(z|x) [p(z|x) / p(z)]; p(z|x)^2 / p(z) is a normal with precision 2 P - I, not normalised.
    shift = (2 * precision @ posterior.mean[..., None])[..., 0]
    together = 2 * precision - eye
    square = -0.5 * (posterior.mean * shift).sum(-1) + 0.5 * (shift * torch.linalg.solve(together, shift)).sum(-1)
    log_second = square + torch.logdet(precision) - 0.5 * torch.logdet(together)
    prior = importance(source.model, x, source.model.prior(), k=20_000)
    share = prior.ess / 20_000
    assert ((share.log() + log_second).abs() < 0.3).all()
    factor = efficiency(importance(source.model, x, source.model.posterior, k=20_000), prior)
    assert abs(math.log(factor.ess) - float(log_second.mean())) < 0.1
    assert factor.ess > 3 and factor.variance > 100
    assert "effective samples" in str(factor)


def test_equal_k_and_equal_rows_are_needed_to_compare():
    source = oracle()
    x = rows(source)
    found = importance(source.model, x, source.model.prior(), k=10)
    with pytest.raises(JensenError, match="equal K"):
        efficiency(found, importance(source.model, x, source.model.prior(), k=11))
    with pytest.raises(JensenError, match="other rows"):
        efficiency(found, importance(source.model, x + 1, source.model.prior(), k=10))
    assert abs(efficiency(found, found).ess - 1) < 1e-12


def test_a_row_does_not_depend_on_the_rows_around_it():
    torch.manual_seed(0)
    likelihood = Conditional(nets.mlp(3, 6), families.Bernoulli(6))
    posterior = Conditional(nets.mlp(6, 6), families.Normal(3, families.PredictedScale()))
    model = VAE(priors.StandardNormal(3), likelihood, posterior)
    x = torch.rand(70, 6).round()
    order = torch.tensor([66, 3])
    for proposal in (model.posterior, model.prior()):
        together, alone = (importance(model, part, proposal, k=40) for part in (x, x[order]))
        assert torch.equal(together.log_weight[:, order], alone.log_weight)
        assert not torch.equal(importance(model, x[order], proposal, k=40, seed=1).log_weight, alone.log_weight)
    assert importance(model, x, model.prior(), k=2).number().measure == "mass"


def test_bad_proposals_are_refused():
    source = oracle()
    x = rows(source)
    for proposal, reason in (
        ("prior", "got str"),
        (MultivariateNormal(torch.zeros(20, 2), torch.eye(2)), "batch shape"),
        (lambda rows: rows, "gave a Tensor"),
    ):
        with pytest.raises(JensenError, match=reason):
            importance(source.model, x, proposal, k=2)
    with pytest.raises(JensenError, match="k=0"):
        importance(source.model, x, source.model.prior(), k=0)


def test_weights_that_are_not_numbers_are_refused():
    source = oracle()
    x = rows(source)
    with torch.no_grad():
        source.model.likelihood.net[-1].bias[0] = math.nan
    with pytest.raises(JensenError, match="not finite"):
        importance(source.model, x, source.model.prior(), k=2)
