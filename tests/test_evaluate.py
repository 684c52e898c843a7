"""Bounds, their errors, and noise that belongs to rows."""

import json
import math

import pytest
import torch
from torch import distributions as td
from torch import nn

from jensen import VAE, Conditional, JensenError, distributions, families, nets, priors, testing
from jensen import evaluation as evaluate
from jensen.errors import DataError, OptionError, ShapeError, SupportError
from jensen.evaluation.running import RunningSums
from jensen.noise import RowNoise, mix, row_keys, seeded

# By its path, since a function of the package may bear the same name.


def mlp_model():
    likelihood = Conditional(nets.mlp(17, 33, (333,)), families.Bernoulli(33))
    scale = families.PredictedScale()
    return VAE(priors.StandardNormal(17), likelihood, Conditional(nets.mlp(33, 34, (333,)), families.Normal(17, scale)))


def conv_model():
    decoder = nets.conv_decoder(17, (7, 9), channels=(5, 3), width=37)
    encoder = nets.conv_encoder((7, 9), 34, channels=(3, 5), width=37)
    posterior = Conditional(encoder, families.Normal(17, families.PredictedScale()), event_dims=2)
    return VAE(priors.StandardNormal(17), Conditional(decoder, families.Bernoulli((7, 9))), posterior)


def full_model():
    likelihood = Conditional(nets.mlp(17, 33, (333,)), families.Bernoulli(33))
    return VAE(
        priors.StandardNormal(17), likelihood, Conditional(nets.mlp(33, 17 + 153, (333,)), families.FullNormal(17))
    )


MODELS = {"mlp": (mlp_model, (33,)), "conv": (conv_model, (7, 9)), "full": (full_model, (33,))}
every_model = pytest.mark.parametrize("name", MODELS)


def make(name, n=130, seed=0):
    build, shape = MODELS[name]
    with seeded(seed):
        return build(), torch.bernoulli(torch.full((n, *shape), 0.4))


def columns(scores):
    return torch.stack([scores.elbo, scores.log_likelihood, scores.elbo_variance, scores.ess])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("threads", [1, 3])
@every_model
def test_no_bit_depends_on_the_batch_or_the_order(name, threads, precision):
    def scored(rows):
        return columns(evaluate.bounds(model, rows, k=3, precision=precision))

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model, x = make(name)
        whole = scored(x)
        assert torch.equal(torch.cat([scored(part) for part in x.split(37)], 1), whole)
        for row in (0, 63, 64, 129):
            assert torch.equal(scored(x[row : row + 1])[:, 0], whole[:, row])
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
        assert torch.equal(scored(x[order]), whole[:, order])
        assert str(evaluate.elbo(model, x)) == str(evaluate.elbo(model, x[order]))
        with evaluate.evaluation_mode(model):
            codes = evaluate.in_chunks(model.embed, x)
            assert torch.equal(evaluate.in_chunks(model.embed, x[order]), codes[order])
            assert torch.equal(torch.cat([evaluate.in_chunks(model.embed, part) for part in x.split(37)]), codes)
            assert torch.equal(evaluate.in_chunks(model.embed, x[9:10])[0], codes[9])
    finally:
        torch.set_num_threads(before)


def test_the_mode_of_the_model_has_no_influence_and_is_put_back():
    with seeded(0):
        net = nn.Sequential(nn.Flatten(), nn.Linear(33, 20), nn.Dropout(0.5), nn.SiLU(), nn.Linear(20, 4))
        posterior = Conditional(net, families.Normal(2, families.PredictedScale()))
        likelihood = Conditional(nets.mlp(2, 33, (8,)), families.Bernoulli(33))
        model = VAE(priors.StandardNormal(2), likelihood, posterior)
        x = torch.bernoulli(torch.full((70, 33), 0.4))
    model.eval()
    expected = evaluate.elbo(model, x, k=2)
    model.train()
    model.likelihood.eval()
    modes = [module.training for module in model.modules()]
    assert evaluate.elbo(model, x, k=2) == expected
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(RuntimeError, match="stop"), evaluate.evaluation_mode(model):
        raise RuntimeError("stop")
    assert [module.training for module in model.modules()] == modes


def test_networks_are_rounded_where_that_is_asked_for_and_the_number_says_so():
    model, x = make("mlp", 500)
    exact = evaluate.bounds(model, x, k=20)
    rounded = evaluate.bounds(model, x, k=20, precision="bf16")
    difference = rounded.log_likelihood - exact.log_likelihood
    assert 0 < difference.abs().max() < 0.2 and difference.mean().abs() < 0.01
    assert "nats/example (networks in bf16, K=2, " in str(evaluate.elbo(model, x, k=2, precision="bf16"))
    number = evaluate.log_likelihood(model, x, k=20, precision="bf16")
    assert number.mean == pytest.approx(float(rounded.log_likelihood.mean())) and number.precision == "bf16"
    assert "bf16" not in str(evaluate.log_likelihood(model, x, k=20))


def test_numbers_are_exact_where_nothing_else_is_asked_for():
    model, x = make("mlp", 5)
    exact = evaluate.bounds(model, x, k=2)
    model.likelihood.dtype = torch.bfloat16
    assert torch.equal(evaluate.bounds(model, x, k=2).elbo, exact.elbo)
    assert model.likelihood.dtype == torch.bfloat16
    with pytest.raises(OptionError, match="no precision 'fp16'; networks compute in fp32 or bf16"):
        evaluate.bounds(model, x, k=2, precision="fp16")


def test_evaluation_leaves_the_global_generator_alone():
    model, x = make("mlp", 5)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    evaluate.elbo(model, x)
    evaluate.latents(model, x)
    assert torch.equal(torch.rand(3), expected)


@every_model
def test_jensens_inequality_holds_for_each_row_and_the_bound_rises_with_k(name):
    model, x = make(name, 150)
    scores = evaluate.bounds(model, x, k=50)
    assert (scores.elbo <= scores.log_likelihood).all()
    assert (scores.ess >= 1 - 1e-12).all()
    assert (scores.ess <= 50 + 1e-9).all()
    means = [evaluate.log_likelihood(model, x, k=k).mean for k in (1, 4, 16, 64)]
    assert means == sorted(means)


def test_streaming_sums_equal_direct_ones():
    torch.manual_seed(0)
    log_weight = 30 * torch.randn(75, 6, dtype=torch.float64) - 800
    sums = RunningSums(6)
    for part in log_weight.split(32):
        sums.add(part)
    mean, log_mean, variance, log_variance, ess = sums.results()
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(mean, log_weight.mean(0), **close)
    torch.testing.assert_close(log_mean, log_weight.logsumexp(0) - math.log(75), **close)
    torch.testing.assert_close(variance, log_weight.var(0) / 75, **close)
    w = (log_weight - log_weight.max(0).values).exp()
    torch.testing.assert_close(ess, w.sum(0).square() / w.square().sum(0), **close)
    torch.testing.assert_close(log_variance, w.var(0) / w.mean(0).square() / 75, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("zeros", [[0], [40], [0, 40]])
def test_a_weight_of_zero_is_counted_in_whatever_block_it_falls(zeros):
    log_weight = torch.zeros(64, 1, dtype=torch.float64)
    log_weight[zeros] = -math.inf
    sums = RunningSums(1)
    for part in log_weight.split(32):
        sums.add(part)
    mean, log_mean, *_ = sums.results()
    assert mean == -math.inf
    assert float(log_mean) == pytest.approx(math.log1p(-len(zeros) / 64), abs=1e-12)


def test_the_monte_carlo_error_is_the_spread_over_seeds():
    oracle = testing.LinearGaussian(torch.tensor([[1.0, 0.2], [0.5, -0.4], [0.1, 0.3]]), noise=2.0)
    with seeded(0):
        # Weights are p(x|z), bounded: with heavy tails the delta method is known to claim too little.
        net = nets.mlp(3, 4, ()).double()
        for parameter in net.parameters():
            nn.init.zeros_(parameter)
        posterior = Conditional(net, families.Normal(2, families.PredictedScale()))
        x = oracle.evidence.sample((20,))
    x = torch.cat([x, x[:5], x[:5]])  # copies share their noise
    model = VAE(oracle.model.prior, oracle.model.likelihood, posterior)
    seeds = 40
    for measure, k in ((evaluate.elbo, 10), (evaluate.log_likelihood, 400)):
        numbers = [measure(model, x, k=k, seed=seed) for seed in range(seeds)]
        spread = torch.tensor([number.mean for number in numbers]).double().var()
        claimed = torch.tensor([number.mc_se**2 for number in numbers]).double().mean()
        z = (spread / claimed - 1) / math.sqrt(2 / (seeds - 1))
        assert abs(z) < 4


def test_the_standard_error_is_that_of_a_mean_over_rows():
    model, x = make("mlp", 100)
    number, scores = evaluate.elbo(model, x, k=2), evaluate.bounds(model, x, k=2)
    assert number.mean == pytest.approx(float(scores.elbo.mean()), rel=1e-12)
    assert number.se == pytest.approx(float(scores.elbo.std()) / 10, rel=1e-12)
    assert (number.n, number.k, number.unit, number.kind, number.measure) == (100, 2, "nats/example", "lower", "mass")


def test_copies_of_a_row_share_their_noise():
    model, x = make("mlp", 3)
    scores = evaluate.bounds(model, x[[0, 1, 0, 2]], k=4)
    assert scores.elbo[0] == scores.elbo[2]
    once, twice = evaluate.elbo(model, x[:1], k=4), evaluate.elbo(model, x[[0, 0]], k=4)
    assert twice.mean == once.mean
    assert twice.mc_se == pytest.approx(once.mc_se, rel=1e-12)
    assert twice.se == 0


def test_a_model_without_parameters_is_where_its_buffers_are():
    model = nn.Module()
    assert evaluate.device_of(model) == torch.device("cpu")
    model.register_buffer("scale", torch.ones(1, device="meta"))
    assert evaluate.device_of(model) == torch.device("meta")


def test_seeds_differ():
    model, x = make("mlp", 3)
    assert not torch.equal(evaluate.bounds(model, x, k=2).elbo, evaluate.bounds(model, x, k=2, seed=1).elbo)


def test_one_row_and_one_sample():
    model, x = make("mlp", 1)
    number = evaluate.elbo(model, x)
    assert (number.n, number.k, number.ess) == (1, 1, pytest.approx(1.0))
    assert math.isnan(number.se)
    assert math.isnan(number.mc_se)
    assert number.mean == evaluate.log_likelihood(model, x, k=1).mean
    assert json.loads(json.dumps(number.to_json(), allow_nan=False))["se"] is None
    assert str(number).startswith("≥ ")


def broken(x, row, value):
    x = x.clone()
    x[row, 2] = value
    return x


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda x: x[:0], DataError, r"N >= 1; got \(0, 33\)"),
        (lambda x: torch.tensor(1.0), DataError, r"got \(\)"),
        (lambda x: x[0], DataError, r"got \(33,\)"),
        (lambda x: x.tolist(), DataError, "got list"),
        (lambda x: x.long(), DataError, "torch.int64"),
        (lambda x: broken(x, 3, math.nan), DataError, r"row 3 has nan at position \[2\]"),
        (lambda x: broken(x, 3, 0.5), SupportError, r"row 3 at position \[2\]"),
        (lambda x: x[:, :-1], ShapeError, r"\(33,\).*\(32,\)"),
        (lambda x: x.double(), ShapeError, "float64"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(change, error, text):
    model, x = make("mlp", 5)
    for measure in (evaluate.elbo, evaluate.log_likelihood, evaluate.latents):
        with pytest.raises(error, match=text):
            measure(model, change(x))


def test_models_that_do_not_fit_together_are_refused():
    x = torch.zeros(3, 33)
    posterior = Conditional(nets.mlp(33, 4), families.Normal(2, families.PredictedScale()))
    model = VAE(priors.StandardNormal(2), Conditional(nets.mlp(3, 33), families.Bernoulli(33)), posterior)
    with pytest.raises(JensenError, match="number of latents"):
        evaluate.elbo(model, x)
    with pytest.raises(ShapeError, match=r"\(3,\).*\(2,\)"):
        VAE(priors.StandardNormal(3), model.likelihood, posterior)
    with pytest.raises(OptionError, match="got 0"):
        evaluate.bounds(model, x, k=0)


def test_parameters_that_are_not_finite_are_named():
    model, x = make("mlp", 5)
    with torch.no_grad():
        model.likelihood.net[-1].bias.fill_(math.nan)
    with pytest.raises(JensenError, match="row 0 is nan"):
        evaluate.elbo(model, x)


@every_model
def test_latents(name):
    model, x = make(name, 100)
    result = evaluate.latents(model, x)
    assert result.mean_variance.shape == (17,)
    with torch.no_grad():
        exact = torch.distributions.kl_divergence if name != "full" else None
        posterior = model.posterior(x)
        torch.testing.assert_close(result.mean_variance, posterior.mean.double().var(0, correction=0))
        if exact:
            assert result.kl == pytest.approx(float(exact(posterior, model.prior()).double().mean()), rel=1e-5)
            assert float(result.kl_per_latent.sum()) == pytest.approx(result.kl, rel=1e-5)
    assert result.kl > 0
    assert (result.kl_per_latent is None) == (name == "full")


def expanded(distribution, rows):
    return distribution.expand((rows, 3))


NOISES = {
    "normal": lambda n: expanded(td.Normal(1.0, 2.0), n),
    "uniform": lambda n: expanded(td.Uniform(torch.tensor(-1.0), torch.tensor(2.0)), n),
    "laplace": lambda n: expanded(td.Laplace(torch.tensor(0.5), torch.tensor(2.0)), n),
    "exponential": lambda n: expanded(td.Exponential(torch.tensor(0.5)), n),
    "gamma": lambda n: expanded(td.Gamma(torch.tensor(2.0), torch.tensor(3.0)), n),
    "poisson": lambda n: expanded(td.Poisson(torch.tensor(2.0)), n),
    "bernoulli": lambda n: expanded(td.Bernoulli(torch.tensor(0.3)), n),
    "dirichlet": lambda n: td.Dirichlet(torch.tensor([0.5, 1.0, 2.0])).expand((n,)),
    "one-hot": lambda n: td.OneHotCategorical(torch.tensor([0.2, 0.3, 0.5])).expand((n,)),
    "one-hot-per-latent": lambda n: distributions.OneHotCategorical(
        torch.tensor([0.2, 0.3, 0.5]).log().expand(n, 2, 3)
    ),
    "mixture": lambda n: td.MixtureSameFamily(
        td.Categorical(torch.tensor([0.3, 0.7]).expand(n, 2)),
        td.Independent(td.Normal(torch.tensor([[0.0, 1.0], [4.0, 2.0]]).expand(n, 2, 2), 1.0), 1),
    ),
    "full": lambda n: td.MultivariateNormal(torch.zeros(3), torch.eye(3) + 0.5).expand((n,)),
}


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("k", [1, 4])
def test_the_noise_of_a_row_does_not_depend_on_its_batch(name, k):
    keys = [mix(0, row) for row in range(7)]
    with RowNoise(keys):
        whole = NOISES[name](7).sample((k,))
    picked = [5, 0, 3, 6, 2]
    with RowNoise([keys[row] for row in picked]):
        part = NOISES[name](len(picked)).sample((k,))
    assert torch.equal(part, whole[:, picked])
    if k > 1 and name not in ("bernoulli", "one-hot", "one-hot-per-latent"):
        assert len({tuple(row.flatten().tolist()) for row in whole.movedim(1, 0)}) == 7


@pytest.mark.parametrize("name", NOISES)
def test_the_noise_has_the_right_mean_and_variance(name):
    n, k = 50, 200
    with RowNoise([mix("statistics", row) for row in range(n)]):
        distribution = NOISES[name](n)
        samples = distribution.sample((k,)).double()
    for values, expected in (
        (samples, distribution.mean.double()),
        ((samples - distribution.mean).square(), distribution.variance.double()),
    ):
        flat = (values - expected).flatten(0, 1)
        error = flat.std(0) / math.sqrt(n * k)
        assert (flat.mean(0).abs() <= 4.5 * error + 1e-6).all()


def test_noise_from_functions_like_a_tensor():
    keys = [3, 1, 4]
    for draw in (torch.randn_like, torch.rand_like, lambda t: t.bernoulli(), lambda t: torch.empty_like(t).normal_()):
        with RowNoise(keys):
            whole = draw(torch.full((3, 5), 0.5))
        with RowNoise(keys[:0:-1]):
            part = draw(torch.full((2, 5), 0.5))
        assert torch.equal(part, whole[[2, 1]])


def test_noise_that_cannot_be_given_to_rows_is_refused():
    with RowNoise([1, 2, 3]), pytest.raises(JensenError, match="3 rows"):
        torch.randn(5, 4)


FUNCTIONAL = {
    "gumbel-softmax": lambda p: torch.nn.functional.gumbel_softmax(p.log(), 0.5),
    "gumbel-softmax-hard": lambda p: torch.nn.functional.gumbel_softmax(p.log(), hard=True),
    "multinomial": lambda p: p.multinomial(2),
    "normal-of-numbers": lambda p: torch.normal(1.0, 2.0, size=p.shape),
    "normal-of-a-number-and-a-tensor": lambda p: torch.normal(1.0, p),
    "normal-of-two-shapes": lambda p: torch.normal(p, std=torch.ones(4)),
}


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_noise_of_functions_belongs_to_rows(name):
    keys, p = [11, 12, 13], torch.arange(1.0, 13.0).reshape(3, 4)
    with RowNoise(keys):
        whole = FUNCTIONAL[name](p)
    with RowNoise(keys[:0:-1]):
        part = FUNCTIONAL[name](p[[2, 1]])
    assert torch.equal(part, whole[[2, 1]])


def test_gumbel_softmax_and_normal_have_the_right_law_inside_the_rows_noise():
    p = torch.tensor([0.1, 0.2, 0.7])
    with RowNoise(range(50)):
        chosen = torch.nn.functional.gumbel_softmax(p.log().expand(400, 50, 3), 0.3, hard=True)
        numbers = torch.normal(3.0, 2.0, size=(400, 50))
        spread = torch.normal(3.0, torch.full((400, 50), 2.0))
    assert (chosen.mean((0, 1)) - p).abs().max() < 4.5 * 0.5 / math.sqrt(20000)
    for values in (numbers, spread):
        assert abs(values.mean() - 3) < 4.5 * 2 / math.sqrt(20000)
        assert abs(values.std() - 2) < 4.5 * 2 / math.sqrt(40000)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.randint(5, (4, 3)),
        lambda: torch.randperm(3),
        lambda: torch.zeros(3).random_(),
        lambda: torch.nn.functional.dropout(torch.ones(4, 3)),
    ],
)
def test_a_draw_past_the_rows_noise_is_refused(draw):
    def inside():
        with RowNoise([1, 2, 3]), RowNoise([4, 5, 6]):
            draw()

    with pytest.raises(JensenError, match="global generators"):
        inside()
    with RowNoise([1, 2, 3]), seeded(0):  # puts the generators back
        draw()


CHOICES = {
    "one-hot": lambda a: distributions.OneHotCategorical(a),
    "straight-through": lambda a: distributions.StraightThroughCategorical(a, 0.5, relaxed=False),
    "binned": lambda a: distributions.BinnedCategorical(a),
    "normal-mixture": lambda a: distributions.NormalMixture(a, a[..., None].expand(*a.shape, 2), torch.ones(4, 2)),
    "binned-mixture": lambda a: families.DiscretizedLogisticMixture(5, 16, 4)(a, a, a).base_dist,
}


@pytest.mark.parametrize("samples", [(), (6,)])
@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_belongs_to_its_row_wherever_the_batch_stands(name, samples):
    """A batch of (K, B) stands samples first, one of (B, D) rows first, and both are drawn from."""
    keys, sampled = [11, 12, 13], bool(samples)
    logits = torch.randn(3, 5, 4) if sampled else torch.randn(6, 3, 5, 4)
    rows = [2, 1]
    with RowNoise(keys):
        whole = CHOICES[name](logits).sample(samples)
    with RowNoise([keys[row] for row in rows]):
        part = CHOICES[name](logits[rows] if sampled else logits[:, rows]).sample(samples)
    assert torch.equal(part, whole[:, rows])
    assert not torch.equal(whole[0], whole[1])


def test_the_generator_may_be_named_and_left_out_inside_the_rows_noise():
    with RowNoise([1, 2, 3]):
        first = torch.randn((4, 3), generator=None)
    with RowNoise([1, 2, 3]):
        assert torch.equal(torch.randn(4, 3), first)


@pytest.mark.parametrize("shape", [(6,), (6, 4), (2, 4)])
def test_a_multinomial_draw_without_rows_is_refused(shape):
    with RowNoise([1, 2, 3]), pytest.raises(JensenError, match="multinomial"):
        torch.multinomial(torch.ones(shape), 3)


def test_parameters_of_no_known_row_are_refused():
    with RowNoise([1, 2, 3]), pytest.raises(JensenError, match="takes a tensor of parameters"):
        torch.empty(3, 3, 2).bernoulli_(torch.rand(3, 2))
    with RowNoise([1, 2, 3]):
        assert torch.empty(5, 3).bernoulli_(torch.tensor(1.0)).all()


@pytest.mark.parametrize("k", [0, 2.5, "many"])
def test_a_bound_needs_a_whole_number_of_samples(k):
    oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
    with pytest.raises(OptionError, match="at least 1 sample k"):
        evaluate.bounds(oracle.model, torch.zeros(2, 3).double(), k=k)


def test_keys_are_those_of_the_content():
    x = torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])
    assert row_keys(x)[0] == row_keys(x.flip(0))[0]
    assert len(set(row_keys(x))) == 2
    assert row_keys(x.T.contiguous().T) == row_keys(x)


def test_as_many_samples_as_rows_are_not_taken_for_rows():
    keys = [11, 12, 13]
    with RowNoise(keys):
        whole = torch.randn(3, 3)
    with RowNoise(keys[1:]):
        part = torch.randn(3, 2)
    assert torch.equal(part, whole[:, 1:])
