"""Codes from a codebook: a point as posterior, a bound by enumeration, a codebook that follows the encoder."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

import jensen
from jensen import (
    VAE,
    Conditional,
    check,
    distributions,
    evaluation,
    families,
    likelihoods,
    nets,
    objectives,
    posteriors,
    priors,
    spec,
    train,
)
from jensen.distributions import PointMass, closed_form_kl
from jensen.errors import CompositionError, JensenError, OptionError, ShapeError
from jensen.inference import ais
from jensen.inference.proposals import check_unconstrained
from jensen.model import Explicit
from jensen.noise import seeded

GRID, CODES, SIZE = (1, 2), 4, 3
GOOD, BAD = torch.tensor(True), torch.tensor(False)


def book(vectors=None, **options):
    with seeded(0):
        made = nets.Codebook(CODES, SIZE, **options)
    if vectors is not None:
        made.vectors.copy_(vectors)
    return made


def learned(net="pixelcnn"):
    """A prior over the numbers of codes, with all parameters at random."""
    channels = likelihoods.input_channels(GRID, 5)
    if net == "pixelcnn":
        network = nets.GatedPixelCNN(channels, CODES, width=4, layers=2)
    else:
        network = nets.CausalTransformer(GRID, channels, CODES, width=4, layers=1, heads=2)
    numbers = likelihoods.Raster(network, families.Categorical(GRID, CODES), embedding=5)
    with torch.no_grad():
        for parameter in numbers.parameters():
            parameter.normal_(0, 0.7)
    return numbers


def vq(prior="pixelcnn", decoder=None, event=6):
    with seeded(1):
        codebook = book()
        numbers = None if prior == "uniform" else learned(prior)
        family = families.Bernoulli(event)
        likelihood = Conditional(decoder or nets.mlp(2 * SIZE, event, (8,)), family, event_dims=3)
        posterior = posteriors.Quantised(nets.mlp(event, 2 * SIZE, (8,)), codebook, GRID, 0.25)
        return VAE(priors.Codes(codebook, GRID, numbers), likelihood, posterior).double()


def all_codes(codebook):
    """Every grid of two codes as vectors, shape (16, 1, 1, 2, 3): samples first."""
    index = torch.tensor(list(itertools.product(range(CODES), repeat=2)))
    return codebook.lookup(index)[:, None, None]


def rows(count=6):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=count)), dtype=torch.float64)


@pytest.mark.parametrize("prior", ["uniform", "pixelcnn"])
def test_codes_are_no_real_vectors(prior):
    model, x = vq(prior), rows()[:2]
    with pytest.raises(JensenError, match="vectors of a codebook"):
        ais(model, x, temperatures=5)
    with pytest.raises(JensenError, match="a single point"):
        check_unconstrained(model.posterior(x), "the start")
    z = jensen.posterior(model, x, draws=50, warmup=60).z
    assert torch.equal(model.prior.codebook.lookup(model.prior.codebook.nearest(z)), z)


class Point(nn.Linear):
    def forward(self, x, given=None):
        return PointMass(super().forward(x), 1)


def test_a_point_among_real_vectors_is_no_approximation():
    model = VAE(priors.StandardNormal(2), Conditional(nets.mlp(2, 3), families.Normal(3)), Point(3, 2)).double()
    with pytest.raises(JensenError, match="a single point"):
        jensen.posterior(model, torch.ones(2, 3, dtype=torch.float64), draws=100)


@pytest.mark.parametrize("prior", ["uniform", "pixelcnn", "transformer"])
@torch.no_grad()
def test_the_prior_adds_up_to_one_and_its_samples_are_codes(prior):
    model = vq(prior)
    z = all_codes(model.prior.codebook)[:, 0]
    log_p = model.prior().log_prob(z)
    assert log_p.shape == (16,)
    assert (log_p.exp().sum() - 1).abs() < 1e-12
    if prior == "uniform":
        assert torch.allclose(log_p, torch.full_like(log_p, -2 * math.log(CODES)), atol=1e-12)
    with seeded(2):
        drawn = model.prior().sample((2000,))
    match = (drawn[:, None] == z).flatten(2).all(-1)
    assert (match.sum(1) == 1).all()
    p = log_p.exp()
    score = (match.double().mean(0) - p) / (p * (1 - p) / 2000).sqrt()
    assert score.abs().max() < 4.5


@pytest.mark.parametrize("prior", ["uniform", "pixelcnn"])
@torch.no_grad()
def test_the_bound_lies_below_the_evidence_by_enumeration(prior):
    model = vq(prior).eval()
    x = rows()
    z = all_codes(model.prior.codebook).expand(-1, len(x), -1, -1, -1)
    evidence = model.log_joint(x, z).logsumexp(0)
    bound = objectives.CodedELBO()(model, x).bound
    assert (evidence.exp().sum() - 1).abs() < 1e-12
    assert (bound <= evidence).all() and (evidence - bound).min() > 0.01
    index = model.posterior.codes(x)
    best = model.log_joint(x, model.prior.codebook.lookup(index)[None])[0]
    assert torch.allclose(bound, best, atol=1e-12)
    for k in (1, 5):
        scores = evaluation.bounds(model, x, k=k)
        assert scores.k == 1 and torch.allclose(scores.log_likelihood, bound, atol=1e-12)
        assert scores.elbo_variance.count_nonzero() == 0
        number = evaluation.log_likelihood(model, x, k=k)
        assert number.k is None and number.kind == "lower" and "K" not in str(number)


class Spell(nn.Module):
    """Logits so large that each code spells the only row it explains: the code's number in binary."""

    def forward(self, z):
        bits = z.reshape(len(z), 2, SIZE)[..., :2]
        return 60.0 * bits.flatten(1)


@torch.no_grad()
def test_the_bound_is_the_evidence_where_one_code_explains_a_row():
    corners = torch.tensor([[-1.0, -1, 0], [-1, 1, 0], [1, -1, 0], [1, 1, 0]], dtype=torch.float64)
    codebook = book().double()
    codebook.vectors.copy_(corners)
    encoder = nn.Linear(4, 2 * SIZE).double()
    encoder.weight.zero_()
    encoder.bias.zero_()
    for i, j in enumerate((0, 1, 3, 4)):
        encoder.weight[j, i] = 1.8
        encoder.bias[j] = -0.9
    posterior = posteriors.Quantised(encoder, codebook, GRID)
    likelihood = Conditional(Spell(), families.Bernoulli(4), event_dims=3)
    with seeded(4):
        model = VAE(priors.Codes(codebook, GRID, learned().double()), likelihood, posterior).eval()
    x = rows(4)
    z = all_codes(codebook).expand(-1, len(x), -1, -1, -1)
    evidence = model.log_joint(x, z).logsumexp(0)
    assert (model.draw(x).log_weight[0] - evidence).abs().max() < 1e-12
    assert evidence.std() > 0.1


def test_the_gradient_passes_straight_through_and_the_commitment_rides_beside():
    model = vq().train()
    x = rows()[::9]
    features = model.posterior._features(x).detach().requires_grad_()
    index = model.posterior.codebook.nearest(features)
    chosen = model.posterior.codebook.lookup(index)
    at_codes = chosen.clone().requires_grad_()
    model.decode(at_codes[None]).log_prob(x).sum().backward()
    model.posterior.net = nn.Identity()
    q = model.posterior(features)
    assert torch.equal(q.value, chosen)
    assert torch.allclose(q.auxiliary["commitment"], 0.25 * (features - chosen).square().sum((1, 2, 3)))
    model.decode(q.rsample((1,))).log_prob(x).sum().backward()
    assert torch.allclose(features.grad, at_codes.grad, atol=1e-12) and features.grad.abs().max() > 1e-3
    features.grad = None
    q.auxiliary["commitment"].sum().backward()
    assert torch.allclose(features.grad, 0.5 * (features - chosen).detach(), atol=1e-12)


def test_the_loss_is_the_bound_and_the_commitment():
    for prior in ("uniform", "pixelcnn"):
        model = vq(prior)
        found = objectives.CodedELBO()(model, rows())
        assert ("kl" in found.terms) == (prior != "uniform")
        commitment = found.terms["commitment"].mean()
        code = -2 * math.log(CODES) if prior == "uniform" else 0.0
        assert torch.allclose(found.loss, commitment - found.bound.mean() + code, atol=1e-12)
        found.loss.backward()
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    "objective",
    [
        objectives.IWAE(2),
        objectives.MMD(kl=1.0),
        objectives.DIP(of_samples=False),
        objectives.ELBO(2, estimator=objectives.LeaveOneOut()),
    ],
)
def test_every_objective_charges_the_commitment(objective):
    found = objective(vq(), rows())
    assert found.terms["commitment"].shape == (64,)
    assert torch.allclose(found.loss, sum(term.mean() for term in found.terms.values()), atol=1e-12)
    found.loss.backward()


def test_a_posterior_that_spreads_has_no_coded_bound():
    model = VAE(
        priors.StandardNormal(2),
        Conditional(nets.mlp(2, 6), families.Bernoulli(6)),
        Conditional(nets.mlp(6, 4), families.Normal(2, families.PredictedScale())),
    )
    with pytest.raises(CompositionError, match="spreads over z"):
        objectives.CodedELBO()(model, rows().float())


def test_the_prior_moves_neither_encoder_nor_codebook():
    model = vq()
    draw = model.draw(rows())
    draw.groups[0].log_prior.sum().backward()
    assert all(p.grad is None for p in model.posterior.parameters())
    assert all(p.grad is not None for p in model.prior.parameters())


def test_a_point_has_its_mass_at_its_value_only():
    q = PointMass(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 1)
    z = torch.tensor([[[1.0, 2.0], [3.0, 4.5]]])
    assert q.log_prob(z).tolist() == [[0.0, -math.inf]]
    model = vq()
    p = model.prior()
    value = all_codes(model.prior.codebook)[:5, 0]
    assert torch.equal(closed_form_kl(PointMass(value, 3), p), -p.log_prob(value))
    assert PointMass(value.requires_grad_(), 3).detached().value.requires_grad is False


def test_moving_averages_against_a_computation_by_hand():
    vectors = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    codebook = book(vectors, decay=0.25, revive=0.0)  # 1/4 from step t = 3 on; below it is (1 + t) / (10 + t)
    codebook.steps.fill_(3)
    codebook.counts.copy_(torch.tensor([2.0, 4.0, 1.0, 1.0]))
    codebook.sums.copy_(vectors * codebook.counts[:, None])
    x = torch.tensor([[0.9, 0.1, 0.0], [1.1, 0.0, 0.0], [0.0, 0.0, 0.8]])
    codebook.watch(x, codebook.nearest(x))
    codebook.after_step(GOOD)
    counts = [0.25 * 2, 0.25 * 4 + 0.75 * 2, 0.25, 0.25 + 0.75]
    sums = [[0.0, 0, 0], [0.25 * 4 + 0.75 * 2.0, 0.75 * 0.1, 0], [0, 0.25, 0], [0, 0, 0.25 + 0.75 * 0.8]]
    assert torch.allclose(codebook.counts, torch.tensor(counts))
    assert torch.allclose(codebook.sums, torch.tensor(sums))
    total = sum(counts)
    smoothed = [(n + 1e-5) / (total + 4e-5) * total for n in counts]
    assert torch.allclose(codebook.vectors, torch.tensor(sums) / torch.tensor(smoothed)[:, None])
    assert int(codebook.steps) == 4


def test_a_step_that_is_not_taken_and_a_model_in_evaluation_change_nothing():
    codebook = book()
    codebook.steps.fill_(5)
    before = copy.deepcopy(codebook.state_dict())
    x = torch.randn(9, SIZE)
    codebook.watch(x, codebook.nearest(x))
    codebook.after_step(BAD)
    codebook.after_step(GOOD)  # what was watched belonged to the step before
    model = vq().eval()
    model.draw(rows())
    assert model.posterior.codebook._seen is None
    assert all(torch.equal(before[name], value) for name, value in codebook.state_dict().items())


def test_vectors_nobody_uses_start_again_at_rows_of_the_batch():
    codebook = book(torch.eye(4, 3) * 10, decay=0.9, revive=0.1)
    codebook.steps.fill_(1000)
    for counts in (codebook.counts, codebook.chosen):
        counts.copy_(torch.tensor([10.0, 10.0, 10.0, 0.01]))
    codebook.sums.copy_(codebook.vectors * codebook.counts[:, None])
    x = 10 * torch.eye(3).repeat(5, 1) + 0.01 * torch.randn(15, 3, generator=torch.Generator().manual_seed(0))
    codebook.watch(x, codebook.nearest(x))
    with seeded(3):
        codebook.after_step(GOOD)
    assert (codebook.vectors[3] - x).abs().sum(1).min() < 1e-3
    assert codebook.counts[3] == pytest.approx(float(codebook.counts[:3].sum() + 0.9 * 0.01) / 4, rel=1e-4)
    assert codebook.usage()["codes_used"] == 3  # it was chosen by no row yet


@pytest.mark.parametrize("count", [3, 200])
def test_the_codebook_starts_at_clusters_of_the_first_batch(count):
    centres = torch.tensor([[0.0, 0, 0], [5, 0, 0], [0, 5, 0], [0, 0, 5]])
    codebook = book()
    with seeded(5):
        x = centres[torch.arange(count) % 4] + 0.05 * torch.randn(count, SIZE)
        codebook.watch(x, codebook.nearest(x))
        codebook.after_step(GOOD)
    distance = (x[:, None] - codebook.vectors).square().sum(-1).min(1).values
    assert distance.max() < 0.2 and int(codebook.steps) == 1
    assert torch.allclose(codebook.sums / codebook.counts[:, None], codebook.vectors, atol=1e-5)
    if count == 200:
        assert codebook.usage()["code_perplexity"] == pytest.approx(4, abs=0.2)


def test_the_nearest_of_close_vectors_are_told_apart():
    vectors = torch.full((4, 3), 100.0) + 1e-5 * torch.arange(4)[:, None]
    codebook = book(vectors)
    assert len(codebook.vectors.unique(dim=0)) == 4
    found = codebook.lookup(codebook.nearest(codebook.vectors.double()))
    assert torch.equal(found, codebook.vectors)


def fitted(tmp_path, name, **options):
    model = vq("pixelcnn").float()
    saves = train.Checkpoints(tmp_path / name, 4)
    x = (torch.rand(64, 6, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    train.fit(
        model,
        objectives.CodedELBO(),
        x,
        steps=12,
        valid=x[:8],
        batch_size=16,
        validate_every=5,
        checkpoints=saves,
        **options,
    )
    return model, x, saves


def test_a_training_that_stops_goes_on_to_the_bit(tmp_path):
    whole, _, _ = fitted(tmp_path, "whole")
    _, x, saves = fitted(tmp_path, "parts", stop_after=7)
    again = vq("pixelcnn").float()
    options = {"steps": 12, "valid": x[:8], "batch_size": 16, "validate_every": 5}
    history = train.fit(again, objectives.CodedELBO(), x, **options, checkpoints=saves, resume=True)
    assert history.finished
    assert "code_perplexity" in history.lines[-1]["valid"]
    one, other = whole.state_dict(), again.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert int(one["posterior.codebook.steps"]) > 0


def test_a_model_survives_being_written_and_read():
    model = vq().float().eval()
    document, tensors, _ = spec.describe(model)
    again = spec.build(document, tensors, spec.own_names()).eval()
    assert again.prior.codebook is again.posterior.codebook
    again.load_state_dict(model.state_dict())
    x = rows().float()
    assert torch.equal(again.draw(x).log_weight, model.draw(x).log_weight)


def test_images_and_grids_of_vectors():
    for shape in ((28, 20), (9, 7, 3)):
        x = torch.rand(2, *shape)
        grid = nets.grid_of(shape, 2)
        z = nets.grid_encoder(shape, 5, width=8)(x)
        assert z.shape == (2, *grid, 5)
        assert nets.grid_decoder(5, shape, parameters=2, width=8)(z).shape == (2, 2 * math.prod(shape))


def test_wake_sleep_is_refused_where_q_has_no_density_to_learn_by():
    code = nets.Codebook(8, 3)
    quantised = posteriors.Quantised(nets.mlp(12, 12, ()), code, (2, 2), normalised=True)
    likelihood = Conditional(nets.mlp(12, 12, ()), families.Bernoulli(12), event_dims=3)
    model = VAE(priors.Codes(code, (2, 2)), likelihood, quantised)
    with pytest.raises(CompositionError, match="one code"):
        objectives.ReweightedWakeSleep(3)(model, torch.zeros(2, 12))
    explicit = Explicit(likelihoods.Raster(nets.GatedPixelCNN(2, 1, width=4, layers=1), families.Bernoulli((3, 3))))
    with pytest.raises(CompositionError, match="has not both"):
        objectives.ReweightedWakeSleep(3)(explicit, torch.zeros(2, 3, 3))
    for size in (1, 2):
        with pytest.raises(OptionError, match="normalised"):
            posteriors.Quantised(nets.mlp(12, 4 * size, ()), nets.Codebook(8, size), (2, 2), normalised=True)


def test_normalised_vectors_cannot_become_small():
    codebook = book()
    posterior = posteriors.Quantised(nn.Linear(6, 2 * SIZE), codebook, GRID, normalised=True)
    with seeded(6):
        features = posterior._features(100 * torch.randn(5, 6))
    assert torch.allclose(features.square().mean(-1), torch.ones(5, 1, 2), atol=1e-3)


def test_what_does_not_fit_is_refused():
    codebook = book()
    for wrong in ({"codes": 1, "size": 2}, {"codes": 4, "size": 0}, {"codes": 4, "size": 2, "decay": 1.0}):
        with pytest.raises(OptionError):
            nets.Codebook(**wrong)
    with pytest.raises(ShapeError, match="have 3 values"):
        codebook.nearest(torch.zeros(2, 4))
    with pytest.raises(OptionError, match="height and width"):
        posteriors.Quantised(nn.Identity(), codebook, (2,))
    with pytest.raises(OptionError, match="commitment"):
        posteriors.Quantised(nn.Identity(), codebook, GRID, -1.0)
    with pytest.raises(OptionError, match="all the same"):
        posteriors.Quantised(nn.Identity(), nets.Codebook(4, 1), GRID, normalised=True)
    with pytest.raises(ShapeError, match="expected 6 values"):
        posteriors.Quantised(nn.Identity(), codebook, GRID)(torch.zeros(2, 5))
    with pytest.raises(OptionError, match="height and width"):
        priors.Codes(codebook, (0, 2))
    with pytest.raises(ShapeError, match="numbers of 4 codes"):
        priors.Codes(nets.Codebook(4, 3), (2, 2), learned())
    assert isinstance(priors.Codes(codebook, GRID)(), distributions.CodeGrid)


def test_a_check_leaves_out_what_needs_a_posterior_that_spreads():
    model = vq().float().eval()
    page = check(model, rows().float(), rows=6, samples=4)
    assert {"annealed", "bracket", "gaps", "gradients", "scale"} <= set(page.skipped)
    assert all("one code" in page.skipped[name] for name in ("annealed", "scale"))
    assert page.surgery is not None


def test_the_codes_in_use_are_those_that_rows_choose():
    """Vectors that nobody takes are no codes in use, however often they start again."""
    with seeded(0):
        codebook = nets.Codebook(16, SIZE)
        for _ in range(600):
            x = torch.eye(SIZE)[torch.arange(64) % 2] + 1e-3 * torch.randn(64, 1)
            codebook.watch(x, torch.arange(64) % 2)
            codebook.after_step(GOOD)
    found = codebook.usage()
    assert found["codes_used"] == 2 and found["code_perplexity"] == pytest.approx(2, abs=0.1)


def test_a_codebook_that_was_saved_with_one_count_is_loaded():
    book, old = nets.Codebook(4, 2), nets.Codebook(4, 2)
    old.counts.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    saved = old.state_dict()
    del saved["chosen"]
    book.load_state_dict(saved)
    assert torch.equal(book.chosen, old.counts) and "chosen" not in saved
    book.load_state_dict(old.state_dict())
    assert torch.equal(book.chosen, torch.ones(4))
