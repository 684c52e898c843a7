"""The contract that every prior keeps; a new prior is one more row of PRIORS."""

import copy
import math

import pytest
import torch
from torch.distributions import Distribution, Normal

import jensen
from jensen import VAE, Conditional, families, nets, objectives, posteriors, priors, spec
from jensen.distributions import closed_form_kl, detached
from jensen.errors import OptionError, ShapeError
from jensen.noise import seeded


def encoder(size=2, inputs=6):
    return Conditional(nets.mlp(inputs, 2 * size, (8,)), families.Normal(size, scale=families.PredictedScale()))


PRIORS = {
    "standard": lambda size: priors.StandardNormal(size),
    "mixture": lambda size: priors.Mixture(size, components=4),
    "vamp": lambda size: priors.VampPrior(encoder(size), 5, shape=[6]),
    "vamp-rows": lambda size: priors.VampPrior(encoder(size), torch.eye(6)[:3], logits=torch.tensor([0.0, 1.0, -1.0])),
    "flow": lambda size: priors.Flow(size, transforms=2, hidden=(16,)),
    "flow-spline": lambda size: priors.Flow(size, transforms=2, hidden=(16,), bins=4),
    "sphere": lambda size: priors.UniformSphere(size + 1),
    "bernoulli": lambda size: priors.Bernoulli(size),
    "bernoulli-learned": lambda size: priors.Bernoulli(size, 0.3, learned=True),
    "categorical": lambda size: priors.Categorical(size, 3),
    "categorical-learned": lambda size: priors.Categorical(
        size, 3, torch.tensor([[0.2, 0.3, 0.5]]).expand(size, 3), learned=True
    ),
}
CONTINUOUS = [name for name in PRIORS if name not in ("sphere",) and "bernoulli" not in name and "cat" not in name]
WITHOUT_MEAN = ("flow", "flow-spline")
every_prior = pytest.mark.parametrize("name", PRIORS)


def make(name, size=2, seed=0):
    with seeded(seed):
        return PRIORS[name](size)


@every_prior
def test_shapes_samples_and_mean(name):
    p = make(name).double()
    if hasattr(p, "posterior"):
        p.posterior.double()
    with torch.no_grad():
        p = p()
    assert tuple(p.batch_shape) == ()
    with seeded(1):
        z = p.sample((20_000,))
    assert z.shape == (20_000, *p.event_shape)
    assert p.log_prob(z).shape == (20_000,)
    assert p.log_prob(z).isfinite().all()
    assert p.log_prob(z[:6].reshape(2, 3, *p.event_shape)).shape == (2, 3)
    if name not in WITHOUT_MEAN:
        assert ((z.mean(0) - p.mean).abs() < 4.5 * z.std(0) / len(z) ** 0.5).all()


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("size", [1, 2])
def test_the_density_integrates_to_one(name, size):
    prior = make(name, size).double()
    if hasattr(prior, "posterior"):
        prior.posterior.double()
    points = 20_001 if size == 1 else 401
    axis = torch.linspace(-9, 9, points, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * size).reshape(-1, size)
    with torch.no_grad():
        total = prior().log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** size
    # A spline has corners in its second derivative, a flow steep places: the rule is then not exact.
    assert float(total) == pytest.approx(1, abs=2e-3 if "flow" in name else 1e-9)


@pytest.mark.parametrize("name", ["bernoulli", "bernoulli-learned", "categorical", "categorical-learned"])
def test_the_mass_sums_to_one(name):
    p = make(name)()
    if "bernoulli" in name:
        codes = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 2)
    else:
        codes = torch.stack([torch.stack([a, b]) for a in torch.eye(3) for b in torch.eye(3)])
    assert float(p.log_prob(codes).exp().sum().detach()) == pytest.approx(1, abs=1e-6)


@every_prior
def test_learned_parameters_and_z_get_gradients(name):
    prior = make(name)
    p = prior()
    with seeded(2):
        z = p.sample((50,)).requires_grad_()
    if name == "sphere":  # it depends on nothing
        return
    p.log_prob(z).square().sum().backward()
    for key, parameter in prior.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert (parameter.grad != 0).any(), key
    assert z.grad.isfinite().all()
    cut = detached(prior()).log_prob(z)
    torch.testing.assert_close(cut, p.log_prob(z))
    if not ("bernoulli" in name or "categorical" in name):
        leaves = [z, *prior.parameters()]
        found = torch.autograd.grad(cut.sum(), leaves, allow_unused=True)
        assert found[0] is not None and all(g is None for g in found[1:])


def posterior_for(name, prior):
    if hasattr(prior, "posterior"):
        return prior.posterior
    shape = tuple(prior().event_shape)
    family = {
        "sphere": lambda: families.PowerSpherical(*shape),
        "bernoulli": lambda: families.StraightThroughBernoulli(*shape),
        "categorical": lambda: families.StraightThroughCategorical(*shape),
    }.get(name.split("-")[0], lambda: families.Normal(*shape, scale=families.PredictedScale()))()
    return Conditional(nets.mlp(6, sum(math.prod(s) for s in family.parameter_shapes), (8,)), family)


def model_with(name, seed=0):
    with seeded(seed):
        prior = PRIORS[name](2)
        posterior = posterior_for(name, prior)
        event_dims = len(prior().event_shape)
        decoder = nets.mlp(math.prod(prior().event_shape), 6, (8,))
        if event_dims == 2:
            decoder = Flattened(2, 3, 6)
        return VAE(prior, Conditional(decoder, families.Bernoulli(6), event_dims=event_dims), posterior)


@spec.declared("tests.Flattened")
class Flattened(torch.nn.Sequential):
    def __init__(self, variables: int, categories: int, outputs: int) -> None:
        super().__init__(torch.nn.Flatten(1), torch.nn.Linear(variables * categories, outputs))


@every_prior
@pytest.mark.parametrize("closed_form_kl", [True, False])
def test_a_model_with_it_learns(name, closed_form_kl):
    model = model_with(name)
    x = torch.bernoulli(torch.full((20, 6), 0.4), generator=torch.Generator().manual_seed(1))
    with seeded(0):
        objectives.ELBO(closed_form_kl=closed_form_kl)(model, x).loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert (parameter.grad != 0).any(), key


@every_prior
def test_a_model_with_it_survives_its_description(name, tmp_path):
    model = model_with(name)
    document, tensors, names = spec.describe(model)
    rebuilt = spec.build(document, tensors, names)
    rebuilt.load_state_dict(model.state_dict())
    for a, b in ((model, rebuilt), (model.prior, rebuilt.prior)):
        assert [key for key, _ in a.named_parameters()] == [key for key, _ in b.named_parameters()]
    with seeded(3):
        wanted = model.eval().sample(4)
    with seeded(3):
        assert torch.equal(rebuilt.eval().sample(4), wanted)
    jensen.save(model, tmp_path / "model")
    loaded = jensen.load(tmp_path / "model", modules={"tests.Flattened": Flattened}).vae.eval()
    with seeded(3):
        assert torch.equal(loaded.sample(4), wanted)


def test_the_bounds_of_a_row_do_not_depend_on_its_neighbours():
    x = torch.bernoulli(torch.full((5, 6), 0.4), generator=torch.Generator().manual_seed(1))
    for name in PRIORS:
        model = model_with(name)
        whole = jensen.evaluation.bounds(model, x, k=8).elbo
        assert torch.equal(whole[[3, 1]], jensen.evaluation.bounds(model, x[[3, 1]], k=8).elbo), name


def test_a_vamp_prior_is_the_mixture_of_the_posterior_and_shares_its_parameters():
    model = model_with("vamp")
    prior = model.prior
    assert prior.posterior is model.posterior
    assert [key for key, _ in prior.named_parameters()] == ["raw"]
    assert sum(p.numel() for p in model.parameters()) == sum(t.numel() for t in model.state_dict().values()) - 5
    u = prior.pseudo_inputs
    assert u.shape == (5, 6) and ((u > 0) & (u < 1)).all()
    z = torch.randn(7, 2)
    q = model.posterior(u)
    direct = torch.logsumexp(q.log_prob(z[:, None]) - math.log(5), 1)
    torch.testing.assert_close(prior().log_prob(z), direct, rtol=1e-5, atol=1e-5)
    copied = copy.deepcopy(model)
    assert copied.prior.posterior is copied.posterior is not model.posterior
    rebuilt = spec.build(*spec.describe(model))
    assert rebuilt.prior.posterior is rebuilt.posterior


def test_a_vamp_prior_of_a_flow_posterior_is_a_mixture_of_flows():
    with seeded(0):
        posterior = posteriors.Flow(nets.mlp(6, 8, (8,)), 2, 8, hidden=(16,))
        prior = priors.VampPrior(posterior, 3, shape=[6])
    z = torch.randn(4, 5, 2)
    parts = torch.stack([posterior(u[None]).log_prob(z.reshape(20, 1, 2))[:, 0] for u in prior.pseudo_inputs])
    torch.testing.assert_close(prior().log_prob(z).flatten(), parts.logsumexp(0) - math.log(3), rtol=1e-4, atol=1e-4)
    assert prior().sample((7,)).shape == (7, 2)
    cut = detached(prior()).log_prob(z)
    assert torch.allclose(cut, prior().log_prob(z), atol=1e-5) and not cut.requires_grad


def test_how_much_one_hot_codes_are_used_is_counted_by_variable():
    found = jensen.evaluation.latents(model_with("categorical"), torch.eye(6))
    assert found.mean_variance.shape == (6,)
    assert found.kl_per_latent.shape == (2,)
    assert float(found.kl_per_latent.sum()) == pytest.approx(found.kl, rel=1e-5)


def test_pseudo_inputs_start_at_the_given_rows():
    rows = torch.tensor([[-3.0, 0.0, 3.0], [1.0, 2.0, 2.97]])
    prior = priors.VampPrior(encoder(2, 3), rows, low=-3.0, high=3.0)
    torch.testing.assert_close(prior.pseudo_inputs, rows.clamp(-2.94, 2.94), rtol=1e-5, atol=1e-5)
    free = priors.VampPrior(encoder(2, 3), rows, low=None, high=None)
    assert torch.equal(free.pseudo_inputs, rows)


def test_codes_give_the_flow_prior_its_location_and_scale():
    prior = priors.Flow(2)
    codes = torch.randn(500, 2) * torch.tensor([3.0, 0.1]) + torch.tensor([5.0, -5.0])
    prior.start_at(codes)
    torch.testing.assert_close(prior().scale.detach(), codes.std(0, correction=0), rtol=1e-4, atol=1e-5)
    with pytest.raises(ShapeError, match="codes"):
        prior.start_at(torch.zeros(3, 4))


def test_closed_forms_exist_where_they_should():
    pairs = {
        "sphere": True,
        "bernoulli": True,
        "categorical-learned": True,
        "standard": True,
        "mixture": False,
        "flow": False,
        "vamp": False,
    }
    for name, known in pairs.items():
        model = model_with(name)
        kl = closed_form_kl(model.posterior(torch.zeros(4, 6)), model.prior())
        assert (kl is not None) == known, name
        assert kl is None or kl.shape == (4,)


@pytest.mark.parametrize(
    "build",
    [
        lambda: priors.Mixture(0, 3),
        lambda: priors.Mixture(3, 0),
        lambda: priors.VampPrior(encoder(), 0, shape=[6]),
        lambda: priors.VampPrior(encoder(), 3),
        lambda: priors.VampPrior(encoder(), torch.zeros(6)),
        lambda: priors.VampPrior(encoder(), 3, shape=[6], low=1.0, high=0.0),
        lambda: priors.VampPrior(encoder(), 3, shape=[6], low=None),
        lambda: priors.VampPrior(encoder(), 3, shape=[6], logits=torch.zeros(2)),
        lambda: priors.VampPrior(lambda x: Normal(x, 1), 3, shape=[6]),
        lambda: priors.Flow(0),
        lambda: priors.Flow(2, transforms=0),
        lambda: priors.Flow(2, hidden=(0,)),
        lambda: priors.Flow(2, bins=1),
        lambda: priors.UniformSphere(1),
        lambda: priors.Bernoulli(0),
        lambda: priors.Bernoulli(3, 1.0),
        lambda: priors.Bernoulli(3, torch.tensor([0.5, 0.5])),
        lambda: priors.Categorical(0, 3),
        lambda: priors.Categorical(2, 1),
        lambda: priors.Categorical(2, 2, torch.ones(2, 2)),
    ],
)
def test_bad_arguments_are_refused(build):
    with pytest.raises(OptionError, match="got"):
        build()


def test_every_prior_is_a_distribution():
    assert all(isinstance(make(name)(), Distribution) for name in PRIORS)
