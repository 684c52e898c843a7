"""Posteriors made by an autoregressive flow."""

import subprocess
import sys

import pytest
import torch

import jensen
from jensen import VAE, Conditional, distributions, families, nets, posteriors, priors
from jensen.distributions import detached
from jensen.errors import OptionError, ShapeError
from jensen.noise import RowNoise, seeded


def flow_posterior(bins=None, size=3, seed=0, transforms=2):
    with seeded(seed):
        return posteriors.Flow(nets.mlp(6, 8, (8,)), size, 8, transforms=transforms, hidden=(16,), bins=bins)


both_kinds = pytest.mark.parametrize("bins", [None, 5])


@both_kinds
@pytest.mark.parametrize("size", [1, 3])
def test_the_flow_knows_the_density_of_its_samples(bins, size):
    q = flow_posterior(bins, size).double()(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double())
    with seeded(1):
        z = q.rsample((50,))
    known = q.log_prob(z)
    torch.testing.assert_close(q.log_prob(z.clone()), known, rtol=1e-8, atol=1e-8)
    assert tuple(q.batch_shape) == (4,) and tuple(q.event_shape) == (size,)
    assert q.mean.shape == (4, size)


@both_kinds
def test_the_flow_density_integrates_to_one(bins):
    q = flow_posterior(bins, 2).double()(torch.randn(1, 6, generator=torch.Generator().manual_seed(0)).double())
    axis = torch.linspace(-12, 12, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)[:, None]
    with torch.no_grad():
        total = q.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert float(total) == pytest.approx(1, abs=2e-3)


def test_a_lookup_costs_no_pass_through_the_network():
    posterior = flow_posterior()
    q = posterior(torch.zeros(4, 6))
    calls = []
    posterior.flow.register_forward_hook(lambda *_: calls.append(1))
    z = q.rsample((2,))
    q.log_prob(z)
    assert len(calls) == 1
    q.log_prob(z.clone())
    assert len(calls) == 2


def test_the_density_of_a_plain_sample_has_a_gradient():
    posterior = flow_posterior()
    q = posterior(torch.zeros(4, 6))
    z = q.sample((2,))
    q.log_prob(z).sum().backward()
    assert (posterior.head.weight.grad.isfinite()).all() and posterior.head.bias.grad.abs().max() > 0


@both_kinds
def test_the_score_of_the_flow_has_mean_zero(bins):
    """E grad log q = 0, from inverted samples: the density and the samples are of one distribution."""
    posterior = flow_posterior(bins).double()
    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(3)).double()
    n = 4000
    wide = posterior(x.expand(n, 6))
    loc = wide.loc.detach().clone().requires_grad_()
    context = wide.context.detach().clone().requires_grad_()
    q = distributions.InverseFlow(wide.network, loc, wide.scale.detach(), context)
    with seeded(4):
        z = q.sample()
    for gradient in torch.autograd.grad(q.log_prob(z.clone()).sum(), [loc, context]):
        error = gradient.std(0) / n**0.5
        assert (gradient.mean(0).abs() < 4.5 * error + 1e-9).all()


@both_kinds
def test_the_detached_flow_has_a_gradient_in_z_alone(bins):
    posterior = flow_posterior(bins)
    q = posterior(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    with seeded(0):
        z = q.rsample((3,))
    cut = detached(q).log_prob(z)
    torch.testing.assert_close(cut, q.log_prob(z), rtol=1e-4, atol=1e-4)
    fixed = z.detach().requires_grad_()
    found = torch.autograd.grad(detached(q).log_prob(fixed).sum(), [fixed, *posterior.parameters()], allow_unused=True)
    assert found[0].isfinite().all() and found[0].abs().max() > 0
    assert all(g is None for g in found[1:])
    torch.testing.assert_close(found[0], torch.autograd.grad(q.log_prob(fixed).sum(), fixed)[0])


@both_kinds
@pytest.mark.parametrize("far", [1.0, 1e3, -1e3])
def test_bounds_stay_finite_on_far_out_inputs(bins, far):
    with seeded(0):
        likelihood = Conditional(nets.mlp(3, 6, (8,)), families.Normal(6, scale=families.SharedScale()))
    model = VAE(priors.StandardNormal(3), likelihood, flow_posterior(bins, transforms=4))
    x = far * torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    with seeded(0):
        draw = model.draw(x, k=4)
    assert draw.log_weight.isfinite().all()
    draw.log_weight.mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    bounds = jensen.evaluation.bounds(model, x, k=8)
    assert bounds.elbo.isfinite().all() and bounds.log_likelihood.isfinite().all()


@both_kinds
def test_a_flow_posterior_survives_saving_and_batching(bins, tmp_path):
    with seeded(0):
        likelihood = Conditional(nets.mlp(3, 6, (8,)), families.Bernoulli(6))
    model = VAE(priors.StandardNormal(3), likelihood, flow_posterior(bins))
    x = torch.bernoulli(torch.full((9, 6), 0.4), generator=torch.Generator().manual_seed(1))
    whole = jensen.evaluation.bounds(model, x, k=4).elbo
    assert torch.equal(whole[[7, 2]], jensen.evaluation.bounds(model, x[[7, 2]], k=4).elbo)
    jensen.save(model, tmp_path / "model")
    loaded = jensen.load(tmp_path / "model").vae
    assert torch.equal(jensen.evaluation.bounds(loaded, x, k=4).elbo, whole)
    assert torch.equal(loaded.embed(x), model.eval().embed(x))


def test_row_noise_reaches_the_flow():
    q, part = (flow_posterior()(torch.zeros(n, 6)) for n in (3, 1))
    with RowNoise([1, 2, 3]):
        whole = q.sample((4,))
    with RowNoise([2]):
        torch.testing.assert_close(part.sample((4,))[:, 0], whole[:, 1])


def test_zuko_changes_no_setting_of_torch():
    code = (
        "import sys, torch\nfrom torch.distributions import Distribution, Normal\n"
        "before = Distribution._validate_args, Distribution.__dict__['arg_constraints']\n"
        "import jensen.priors, jensen.posteriors, jensen.nets\nassert 'zuko' not in sys.modules\n"
        "jensen.priors.Flow(2)\nassert 'zuko' in sys.modules\n"
        "assert (Distribution._validate_args, Distribution.__dict__['arg_constraints']) == before\n"
        "try:\n    Normal(0.0, -1.0)\nexcept ValueError:\n    print('kept')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "kept"


def test_a_network_with_another_number_of_features_is_refused():
    with pytest.raises(ShapeError, match="features"):
        posteriors.Flow(nets.mlp(6, 7), 3, 8)(torch.zeros(2, 6))


def test_bad_arguments_are_refused():
    with pytest.raises(OptionError, match="got"):
        posteriors.Flow(nets.mlp(6, 8), 3, 8, transforms=0)
