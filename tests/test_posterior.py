"""jensen.posterior: each method is reached where it should be, and its draws are those of the exact posterior."""

import math

import pytest
import torch
from torch import distributions as D
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import jensen
from jensen import VAE, Conditional, families, nets, posteriors, priors, testing
from jensen.distributions import CodeGrid
from jensen.errors import OptionError
from jensen.inference.exact_posterior import _resampled_ess, _systematic
from jensen.inference.hmc import Chains
from jensen.noise import seeded
from jensen.roles import Given

WEIGHT = torch.tensor([[1.0, 0.9], [0.8, 1.0], [0.1, -0.1]])


def oracle():
    return testing.LinearGaussian(WEIGHT, noise=0.5)


def rows(n=4):
    with seeded(0):
        return oracle().model.sample(n)


def assert_exact(found, x, draws=1000):
    """Means and standard deviations within five Monte Carlo errors of the closed form."""
    exact = oracle().model.posterior(x)
    ess = torch.tensor([row.ess for row in found.rows])[:, None]
    z = (found.z.mean(0) - exact.mean) / exact.stddev * ess.sqrt()
    assert z.abs().max() < 5
    assert ((found.z.std(0) / exact.stddev).log() * (2 * ess).sqrt()).abs().max() < 5


def poor(family, loc=0.5):
    encoder = Conditional(nets.mlp(3, sum(math.prod(s) for s in family.parameter_shapes), hidden=()), family).double()
    with torch.no_grad():
        encoder.net[-1].weight.mul_(0.1)
        encoder.net[-1].bias[:2] += loc
    return encoder


def with_posterior(posterior):
    known = oracle().model
    return VAE(known.prior, known.likelihood, posterior)


def test_an_exact_encoder_is_enough():
    x = rows()
    found = jensen.posterior(oracle().model, x)
    assert found.methods == ("encoder",) * 4 and found.passed.all()
    assert_exact(found, x)
    assert "encoder" in found.sentences[0] and "k-hat" in found.sentences[0]


def test_a_poor_encoder_is_refined():
    x = rows()
    found = jensen.posterior(with_posterior(poor(families.FullNormal(2))), x)
    assert set(found.methods) == {"refined"} and found.passed.all()
    exact = oracle().model.posterior(x)
    assert ((found.z.mean(0) - exact.mean) / exact.stddev).abs().max() < 0.25


def test_a_family_that_is_too_small_is_refined_in_a_larger_one():
    x = rows()
    found = jensen.posterior(with_posterior(poor(families.Normal(2, scale=families.PredictedScale()))), x)
    assert set(found.methods) == {"refined"} and found.passed.all()
    exact = oracle().model.posterior(x)
    assert ((found.z.std(0) / exact.stddev).log()).abs().max() < 0.2


class Skewed(nn.Module):
    """Counts with a rate exp(z): the posterior of z is close to normal, but skewed."""

    def forward(self, z, given=None):
        return D.Independent(D.Exponential((2 * z).exp()), 1)


def test_a_skewed_posterior_is_resampled():
    encoder = posteriors.Amortized(nets.mlp(1, 8, hidden=()), like=priors.StandardNormal(1))
    model = VAE(priors.StandardNormal(1), Skewed(), encoder).double()
    x = torch.tensor([[0.3], [5.0]], dtype=torch.float64)
    found = jensen.posterior(model, x, shift=0.01)
    assert "resampled" in found.methods and found.passed.all()
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None, None].expand(-1, 2, 1)
    with torch.no_grad():
        weight = model.log_joint(x, grid).softmax(0)[..., None]
    mean = (weight * grid).sum(0)
    sd = (weight * (grid - mean).square()).sum(0).sqrt()
    ess = torch.tensor([row.ess for row in found.rows])[:, None]
    assert ((found.z.mean(0) - mean) / sd * ess.sqrt()).abs().max() < 4.5
    assert ((found.z.std(0) / sd).log() * (2 * ess).sqrt()).abs().max() < 6


class Ring(nn.Module):
    """x is a noisy radius: the posterior is a thin ring, which no normal resembles."""

    def forward(self, z, given=None):
        return D.Independent(D.Normal(z.square().sum(-1, keepdim=True), 0.1, validate_args=False), 1)


def test_what_no_normal_resembles_is_left_to_hamiltonian_monte_carlo():
    encoder = posteriors.Amortized(nets.mlp(1, 8, hidden=()), like=priors.StandardNormal(2))
    model = VAE(priors.StandardNormal(2), Ring(), encoder).double()
    x = torch.tensor([[2.0]], dtype=torch.float64)
    found = jensen.posterior(model, x, draws=400, r_hat=1.1, ess=50, warmup=200)
    assert found.methods == ("hmc",)
    nothing = torch.empty(0)
    chains = Chains(found.z.reshape(4, 100, 1, 2).transpose(0, 1), nothing, nothing, nothing)
    ess = min(float(chains.ess_bulk.min()), float(chains.ess_tail.min()))
    assert found.rows[0].ess == pytest.approx(ess) and found.rows[0].r_hat == pytest.approx(float(chains.r_hat.max()))
    radius = found.z.square().sum(-1)[:, 0]
    # Of the radius squared the prior is exponential with rate 1/2, so its posterior is a normal moved by 0.1² / 2.
    assert abs(float(radius.mean()) - (2 - 0.005)) < 0.04
    assert abs(float(radius.std()) - 0.1) < 0.03
    assert "Hamiltonian" in found.sentences[0] and "R-hat" in found.sentences[0]


class Square(nn.Module):
    """x is a noisy square: the posterior has two modes, of which the encoder below knows one."""

    def forward(self, z, given=None):
        return D.Independent(D.Normal(z.square(), 0.5, validate_args=False), 1)


def test_a_mode_that_the_encoder_misses_is_no_secret():
    encoder = Conditional(nets.mlp(1, 2, hidden=()), families.Normal(1, families.PredictedScale()))
    with torch.no_grad():
        encoder.net[-1].weight.zero_()
        encoder.net[-1].bias.copy_(torch.tensor([2.0, -2.0]))
    model = VAE(priors.StandardNormal(1), Square(), encoder).double()
    found = jensen.posterior(model, torch.tensor([[4.0]], dtype=torch.float64), draws=100, warmup=60)
    assert not found.passed[0] or abs(float((found.z < 0).double().mean()) - 0.5) < 0.1


class RingOrNothing(Ring):
    """The same, but no z gives a row that is zero."""

    def forward(self, z, given=None):
        ring = super().forward(z)
        plain = ring.log_prob
        ring.log_prob = lambda x: torch.where(x[..., 0] == 0, -math.inf, plain(x))
        return ring


def test_a_row_without_a_posterior_keeps_no_other_from_its_chains():
    torch.manual_seed(0)
    encoder = posteriors.Amortized(nets.mlp(1, 8, hidden=()), like=priors.StandardNormal(2))
    model = VAE(priors.StandardNormal(2), RingOrNothing(), encoder).double()
    x = torch.tensor([[2.0], [0.0]], dtype=torch.float64)
    found = jensen.posterior(model, x, draws=40, warmup=20)
    assert found.methods[0] == "hmc" and found.methods[1] != "hmc" and not found.passed[1]


def test_the_effective_size_of_resampled_draws_counts_the_resampling():
    means, sizes = [], []
    for seed in range(800):
        generator = torch.Generator().manual_seed(seed)
        z, log_weight = torch.randn((2, 2000), generator=generator, dtype=torch.float64)
        weight = (1.2 * log_weight).softmax(0)
        means.append(float(z[_systematic(weight, 500, generator)].mean()))
        sizes.append(_resampled_ess(weight, 500))
    # The variance over 800 repetitions is known to 5 %.
    assert sum(sizes) / 800 * float(torch.tensor(means).var()) == pytest.approx(1, abs=0.2)


def test_latents_may_be_a_matrix():
    torch.manual_seed(0)
    prior, family = priors.StandardNormal((2, 2)), families.Normal((2, 2), families.PredictedScale())
    decoder = Conditional(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), families.Normal(3), event_dims=2)
    model = VAE(prior, decoder, Conditional(nets.mlp(3, 8), family)).double()
    found = jensen.posterior(model, torch.ones(2, 3, dtype=torch.float64), draws=40, shift=0.05, warmup=60)
    assert found.z.shape == (40, 2, 2, 2) and set(found.methods) != {"encoder"}


def test_a_prior_that_knows_the_label_is_given_it():
    torch.manual_seed(0)
    prior = priors.ConditionedNormal(2, conditions=3)
    decoder = Conditional(nets.mlp(2, 4), families.Normal(4))
    encoder = Conditional(nets.mlp(4, 4), families.Normal(2, families.PredictedScale()))
    x, given = torch.ones(2, 4), Given(condition=torch.eye(3)[:2])
    assert jensen.posterior(VAE(prior, decoder, encoder), x, draws=40, warmup=60, given=given).z.shape == (40, 2, 2)


class Decay(nn.Module):
    def forward(self, values, given=None):
        times = torch.tensor([0.5, 1.0, 2.0]).to(values["rate"])
        mean = values["share"][..., :1] * torch.exp(-values["rate"][..., None] * times)
        return D.Independent(D.Normal(mean, 0.05), 1)


def named_model():
    prior = priors.Named(rate=D.LogNormal(0.0, 0.5), share=D.Dirichlet(torch.tensor([4.0, 2.0])))
    return VAE(prior, Decay(), posteriors.Amortized(nets.mlp(3, 8, hidden=()), like=prior)).double()


def test_named_draws_are_constrained_and_agree_with_quadrature():
    model = named_model()
    with seeded(3):
        x = model.sample(2)
    found = jensen.posterior(model, x)
    assert found.passed.all() and "hmc" not in found.methods
    assert found.draws["share"].shape == (1000, 2, 2) and (found.draws["rate"] > 0).all()
    axis = torch.linspace(-6, 6, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)[:, None].expand(-1, 2, -1)
    with torch.no_grad():
        weight = model.log_joint(x, grid).softmax(0)
    rate = model.prior.unpack(grid)["rate"]
    mean = (weight * rate).sum(0)
    sd = (weight * (rate - mean).square()).sum(0).sqrt()
    summary = found.summary()["rate"]
    assert ((summary["mean"] - mean) / sd).abs().max() < 0.25
    assert (summary["sd"] / sd).log().abs().max() < 0.25
    assert (summary["q5"] < mean).all() and (mean < summary["q95"]).all()
    assert "rate, row 0" in str(found)


def test_draws_depend_on_row_and_seed_alone():
    x = rows()
    model = with_posterior(poor(families.FullNormal(2)))
    first, again, other = (jensen.posterior(model, x, seed=seed, draws=100) for seed in (0, 0, 1))
    assert torch.equal(first.z, again.z) and not torch.equal(first.z, other.z)
    assert torch.allclose(jensen.posterior(model, x[2:3], draws=100).z[:, 0], first.z[:, 2], atol=1e-8)


def test_arviz_gets_chains_draws_and_rows():
    pytest.importorskip("arviz_base")
    found = jensen.posterior(named_model(), torch.full((2, 3), 0.3, dtype=torch.float64), draws=200)
    tree = found.to_arviz()
    assert dict(tree["posterior"].sizes) == {"chain": 4, "draw": 50, "row": 2, "share_dim_0": 2}
    assert tree["constant_data"]["k_hat"].shape == (2,)


def test_discrete_latents_are_found_without_gradients():
    class Prior(nn.Module):
        def forward(self, given=None):
            return families.Bernoulli(2)(torch.zeros(2))

    class Additive(nn.Module):
        def forward(self, z, given=None):
            return D.Independent(D.Normal(6 * z, 1.0, validate_args=False), 1, validate_args=False)

    with seeded(0):
        encoder = Conditional(nets.mlp(2, 2, hidden=()), families.Bernoulli(2))
    found = jensen.posterior(VAE(Prior(), Additive(), encoder), torch.tensor([[6.0, 0.0]]), draws=100)
    assert found.z.shape == (100, 1, 2)
    assert found.methods[0] != "hmc"
    assert found.passed.all()
    torch.testing.assert_close(found.z.mean(0)[0], torch.tensor([1.0, 0.0]), atol=0.01, rtol=0)


class Largest(TorchDispatchMode):
    """The most bytes that a tensor which is computed inside the block takes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.untyped_storage().nbytes() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.bytes = max(self.bytes, *sizes, 0)
        return out


def test_no_component_of_a_mixture_is_beside_all_draws_at_once():
    with seeded(0):
        encoder = Conditional(nets.mlp(20, 16), families.Normal(8, families.PredictedScale()))
        decoder = Conditional(nets.mlp(8, 20), families.Bernoulli(20))
        model = VAE(priors.VampPrior(encoder, 100, shape=[20]), decoder, encoder).double()
        x = torch.rand(16, 20, dtype=torch.float64).round()
    for role in (encoder, decoder):  # then q is p(z) and the posterior
        nn.init.zeros_(role.net[-1].weight)
    with Largest() as largest:
        assert set(jensen.posterior(model, x).methods) == {"encoder"}
    # 16 rows, 1000 draws of the prior, 100 components, 8 latents and 8 bytes are 98 MiB.
    assert largest.bytes < 2**26


def test_copies_of_one_code_need_no_draws_of_the_prior_and_are_not_relied_on(monkeypatch):
    with seeded(0):
        codebook = nets.Codebook(4, 3)
        posterior = posteriors.Quantised(nets.mlp(6, 2 * 3), codebook, (1, 2))
        decoder = Conditional(nets.mlp(2 * 3, 6), families.Bernoulli(6), event_dims=3)
    model, x = VAE(priors.Codes(codebook, (1, 2)), decoder, posterior), torch.eye(6)
    monkeypatch.setattr(CodeGrid, "sample", None)
    found = jensen.posterior(model, x, draws=8)
    with torch.no_grad():
        assert torch.equal(found.z, model.embed(x).expand(8, -1, -1, -1, -1))
    assert not found.passed.any() and "do not rely" in found.sentences[0]


def test_options_are_checked():
    with pytest.raises(OptionError, match="at least 4 draws"):
        jensen.posterior(oracle().model, rows(), draws=2)


def test_the_example_runs():
    from examples import spectral_line

    vae = spectral_line.trained(steps=20)
    with seeded(1):
        x = vae.sample(2)
    assert vae.draw(x, k=3).log_weight.shape == (3, 2)
