"""Networks over pixels: they see nothing but what comes before, and the probabilities of all images add up to one."""

import itertools
import math

import pytest
import torch

import jensen
from jensen import VAE, Conditional, families, likelihoods, nets, objectives, priors, spec, testing
from jensen.errors import CompositionError, OptionError, ShapeError, SupportError
from jensen.initialise import start_at_marginal
from jensen.model import Explicit
from jensen.noise import seeded
from jensen.precision import conditionals_of, networks_in
from jensen.roles import Given

CONTEXT = 2


def gated(shape, channels, outputs, context):
    return nets.GatedPixelCNN(channels, outputs, width=4, layers=3, context=context)


def dilated(shape, channels, outputs, context):
    return nets.GatedPixelCNN(channels, outputs, width=4, layers=3, context=context, dilations=(1, 2))


def recurrent(shape, channels, outputs, context):
    return nets.RowLSTM(channels, outputs, width=4, layers=2, context=context)


def transformer(shape, channels, outputs, context):
    return nets.CausalTransformer(shape, channels, outputs, width=4, layers=2, heads=2, context=context)


every_network = pytest.mark.parametrize("make", [gated, dilated, recurrent, transformer])


def moved(module):
    """All parameters at random: as it starts, a network's outputs depend on nothing."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.5)
    return module.double()


def likelihood(make, family, *, embedding=0, latents=0):
    shape = family.event_shape
    grid = (shape[0], shape[1] * (shape[2] if len(shape) == 3 else 1))
    outputs = sum(math.prod(each[len(shape) :]) for each in family.parameter_shapes)
    context = torch.nn.Linear(latents, CONTEXT * math.prod(grid)) if latents else None
    with seeded(0):
        net = make(grid, likelihoods.input_channels(shape, embedding), outputs, CONTEXT if latents else 0)
        return moved(likelihoods.Raster(net, family, embedding, context))


def images(count, levels=2):
    """All images of so many pixels, shape (levels^count, count)."""
    values = [level / (levels - 1) for level in range(levels)]
    return torch.tensor(list(itertools.product(values, repeat=count)), dtype=torch.float64)


@every_network
@pytest.mark.parametrize("latents", [0, 2])
@torch.no_grad()
def test_the_probabilities_of_all_images_add_up_to_one(make, latents):
    module = likelihood(make, families.Bernoulli((3, 3)), latents=latents)
    z = torch.randn(5, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) if latents else None
    log_p = module(z).log_prob(images(9).reshape(-1, 3, 3))
    assert (log_p.exp().sum(-1) - 1).abs().max() < 1e-12
    assert log_p.std(-1).min() > 0.1


@every_network
@pytest.mark.parametrize(
    ("family", "embedding"),
    [
        (families.Categorical((2, 2), levels=3), 0),
        (families.Categorical((2, 2), levels=3), 5),
        (families.DiscretizedLogisticMixture((2, 2), levels=3, components=2), 0),
        (families.Categorical((2, 1, 2), levels=3), 0),
    ],
    ids=["categorical", "embedded", "logistics", "colours"],
)
@torch.no_grad()
def test_the_probabilities_of_all_levels_add_up_to_one(make, family, embedding):
    module = likelihood(make, family, embedding=embedding)
    x = images(4, levels=3).reshape(-1, *family.event_shape)
    assert (module(None).log_prob(x).exp().sum() - 1).abs() < 1e-12


@every_network
@pytest.mark.parametrize("context", [0, 2])
def test_an_output_depends_on_the_pixels_before_it_and_on_all_of_them_within_reach(make, context):
    net = moved(make((4, 5), 1, 1, context))
    x = torch.randn(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    given = (torch.randn(1, context, 4, 5, dtype=torch.float64),) if context else ()
    outputs = net(x, *given).flatten()
    jacobian = torch.stack([torch.autograd.grad(o, x, retain_graph=True)[0].flatten() for o in outputs])
    assert jacobian.triu().count_nonzero() == 0
    seen = int(jacobian.tril(-1).count_nonzero())
    assert seen == 20 * 19 / 2 or (make is recurrent and seen > 150)  # no blind spot but outside of a triangle


def test_a_dilated_layer_sees_every_so_many_pixels():
    net = moved(nets.GatedPixelCNN(1, 1, width=4, layers=2, first_kernel=3, dilations=(1, 4)))
    for shape in ((8, 1), (1, 8)):
        x = torch.randn(1, 1, *shape, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(net(x).flatten()[-1], x)
        before = 7 - gradient.flatten().nonzero().flatten()
        # The first layer sees the one and the two before; the second sees what the first did there and four before.
        assert before.tolist() == [6, 5, 2, 1]


@every_network
@pytest.mark.parametrize("context", [0, 2])
@torch.no_grad()
def test_rows_one_by_one_give_what_all_rows_give_at_once(make, context):
    net = moved(make((4, 5), 2, 3, context))
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    given = (torch.randn(2, context, 4, 5, dtype=torch.float64),) if context else ()
    rows = [net.along(x[:, :, r : r + 1], net.above(x[:, :, :r], *given)) for r in range(4)]
    assert (torch.cat(rows, 2) - net(x, *given)).abs().max() < 1e-12


@every_network
def test_samples_have_the_probabilities_of_the_model(make):
    module = likelihood(make, families.Bernoulli((2, 2)), latents=2)
    z = torch.tensor([[0.5, -1.0], [1.0, 2.0]], dtype=torch.float64)
    n = 4000
    with torch.no_grad():
        module.context.weight.mul_(20)
    with seeded(1), torch.no_grad():
        drawn = module(z).sample((n,))
        p = module(z[:, None]).log_prob(images(4).reshape(-1, 2, 2)).exp()
    code = (drawn.flatten(2) * torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).sum(-1).long()
    found = torch.nn.functional.one_hot(code, 16).double().mean(0)
    score = (found - p) / (p * (1 - p) / n).sqrt().clamp(min=1e-9)
    assert score.abs().max() < 4.5
    assert not torch.allclose(p[0], p[1], atol=0.005)


@torch.no_grad()
def test_the_mean_is_that_of_each_pixel_after_those_nearest_to_theirs():
    module = likelihood(gated, families.Bernoulli((2, 2)))
    mean = module(None).mean
    greedy = mean.round()
    assert torch.equal(module.conditionals(greedy[None]).mean[0], mean)


@torch.no_grad()
def test_probabilities_in_chunks_are_those_of_each_image():
    module = likelihood(gated, families.Bernoulli((3, 3)), latents=2)
    z = torch.randn(3, 171, 2, dtype=torch.float64)
    x = images(9)[:171].reshape(-1, 3, 3)
    whole = module(z).log_prob(x)
    assert whole.shape == (3, 171)
    assert (module(z[2, 170]).log_prob(x[170]) - whole[2, 170]).abs() < 1e-12


@torch.no_grad()
def test_it_starts_at_the_marginal_of_all_pixels():
    share = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.9, 0.4], [0.0, 0.5, 0.0]])  # most are never on
    x = (torch.rand(200, 3, 3, generator=torch.Generator().manual_seed(0)) < share).float()
    net = nets.GatedPixelCNN(2, 1, width=4, layers=2)
    module = likelihoods.Raster(net, families.Bernoulli((3, 3)))
    assert start_at_marginal(module, x)
    p = module.conditionals(x).mean
    assert (p - x.mean()).abs().max() < 0.02


def test_the_network_computes_in_bf16_and_the_probabilities_do_not():
    module = likelihood(gated, families.Bernoulli((3, 3)), latents=2).float()
    x, z = torch.ones(5, 3, 3), torch.zeros(5, 2)
    exact = module(z).log_prob(x)
    with networks_in(conditionals_of(module), "bf16"):
        rounded = module(z).log_prob(x)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1


def test_every_parameter_gets_a_gradient_and_the_likelihood_is_exact():
    module = likelihood(gated, families.Bernoulli((4, 4)))
    model = Explicit(module)
    x = torch.ones(3, 4, 4, dtype=torch.float64)
    estimate = objectives.LogLikelihood()(model, x)
    estimate.loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert torch.equal(estimate.bound, model.draw(x).log_weight[0])


def test_a_decoder_of_pixels_bounds_its_own_evidence():
    """Quadrature over one latent: the ELBO lies below, K samples in between."""
    with seeded(3):
        module = likelihood(gated, families.Bernoulli((3, 3)), latents=1)
        encoder = Conditional(nets.mlp(9, 2, (8,)), families.Normal(1, families.PredictedScale()), event_dims=2)
        vae = VAE(priors.StandardNormal(1), module, encoder).double()
        x = images(9)[::37].reshape(-1, 3, 3)
        exact = testing.quadrature(vae, x, points=201)
        bound = torch.stack([objectives.ELBO()(vae, x).bound.detach() for _ in range(200)])
    gap = exact - bound.mean(0)
    assert (gap > -4 * bound.std(0) / 200**0.5).all() and gap.mean() > 0


def test_a_model_survives_being_written_and_read():
    for make in (gated, recurrent, transformer):
        module = Explicit(likelihood(make, families.Categorical((2, 2), levels=3), embedding=4).float())
        document, tensors, _ = spec.describe(module)
        copy = spec.build(document, tensors, spec.own_names())
        copy.load_state_dict(module.state_dict())
        x = images(4, levels=3).reshape(-1, 2, 2).float()
        assert torch.equal(copy.draw(x, Given()).log_weight, module.draw(x).log_weight)


def test_draws_are_not_called_means_where_there_are_no_latents(cli, tmp_path, monkeypatch):
    module = Explicit(likelihood(gated, families.Categorical((2, 2), levels=3), embedding=4).float())
    schema = jensen.data.Schema(name="three", event_shape=(2, 2), dtype="uint8", kind="binned", levels=3)
    jensen.save(jensen.Fitted(module, schema), tmp_path / "model")
    titles = []
    monkeypatch.setattr(jensen.pictures, "grid", lambda path, rows, title, limits: titles.append(title))
    assert cli("sample", tmp_path / "model", "--mean", "--out", tmp_path / "a.png")[0] == 0
    assert titles == ["16 samples: draws of x"]


def test_what_does_not_fit_is_refused():
    net = nets.GatedPixelCNN(2, 1, width=4, layers=2)
    with pytest.raises(ShapeError, match="expected images"):
        likelihoods.Raster(net, families.Bernoulli(9))
    with pytest.raises(OptionError, match="only levels can be embedded"):
        likelihoods.Raster(net, families.Bernoulli((3, 3)), embedding=4)
    with pytest.raises(ShapeError, match="needs 3 outputs"):
        likelihoods.Raster(net, families.Categorical((3, 3), 3))(None).log_prob(torch.zeros(1, 3, 3))
    for shape in ((3, 3), (3, 3, 2)):
        with pytest.raises(CompositionError, match="one by one"):
            likelihoods.Raster(net, families.Normal(shape, scale=families.PerDimensionScale(shape)))
        likelihoods.Raster(net, families.Normal(shape, scale=families.PredictedScale()))
    module = likelihoods.Raster(net, families.Bernoulli((3, 3)))
    with pytest.raises(CompositionError, match="no context module"):
        module(torch.zeros(2, 2))
    with pytest.raises(ShapeError, match="models events of shape"):
        module.check(torch.zeros(2, 3, 4))
    with pytest.raises(SupportError, match="row 1"):
        module.check(torch.tensor([0.0, 0.5])[:, None, None].expand(2, 3, 3))
    with pytest.raises(OptionError, match="dilations must be positive"):
        nets.GatedPixelCNN(2, 1, dilations=())
    with pytest.raises(OptionError, match="at most one dilation for each of 2 layers"):
        nets.GatedPixelCNN(2, 1, layers=2, dilations=(1, 2, 4))
    with pytest.raises(OptionError, match="odd"):
        nets.GatedPixelCNN(2, 1, kernel=4)
    with pytest.raises(OptionError, match="positive"):
        nets.RowLSTM(2, 1, width=0)
    with pytest.raises(OptionError, match="multiple"):
        nets.CausalTransformer((3, 3), 2, 1, width=6, heads=4)
    with pytest.raises(OptionError, match="positive sizes"):
        nets.CausalTransformer((3, 3), 2, 0)
