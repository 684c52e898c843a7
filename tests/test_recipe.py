"""What is chosen, why, and which contradictions are refused."""

import numpy as np
import pytest
import torch

from jensen import Conditional, families, nets, recipe
from jensen.data.schema import infer
from jensen.errors import OptionError
from jensen.families.base import pooled_marginal
from jensen.initialise import start_at_marginal
from jensen.recipe import choose, parse_options
from jensen.train import Pace
from jensen.zoo.options import VAEOptions


def schema(values, **options):
    return infer(values, values, name="t", **{"binarisation": "none", "seed": 0, **options})


TABLE = schema(np.random.default_rng(0).normal(size=(50, 5)))
GREY = schema(np.random.default_rng(0).integers(0, 256, (50, 8, 8)).astype(np.uint8))
COINS = schema(np.random.default_rng(0).random((50, 8, 8)) > 0.5)
DYNAMIC = schema(np.random.default_rng(0).integers(0, 256, (50, 8, 8)).astype(np.uint8), binarisation="dynamic")


@pytest.mark.parametrize(
    ("of", "options", "likelihood", "measure"),
    [
        (TABLE, {}, "normal", "density"),
        (GREY, {}, "discretized-logistic", "mass"),
        (GREY, {"likelihood": "categorical"}, "categorical", "mass"),
        (COINS, {}, "bernoulli", "mass"),
        (DYNAMIC, {}, "bernoulli", "mass"),
    ],
)
def test_the_likelihood_follows_from_the_values(of, options, likelihood, measure):
    plan = choose(of, 50, parse_options({**options, "hidden": [8]}))
    assert next(c.value for c in plan.choices if c.what == "likelihood") == likelihood
    assert plan.model.likelihood.measure == measure
    x = torch.rand(3, *of.event_shape).round()
    assert plan.model.draw(x, k=2).log_weight.shape == (2, 3)


@pytest.mark.parametrize("model", ["vae", "autoencoder", "pixelcnn"])
def test_a_number_of_samples_is_told_where_samples_are_drawn(model):
    told = [choice.what for choice in choose(COINS, 50, parse_options({"model": model})).choices]
    assert ("scoring" in told) == (model == "vae")


@pytest.mark.parametrize("of", [TABLE, GREY, COINS, DYNAMIC])
def test_each_choice_has_a_value_a_reason_and_an_option(of):
    for choice in choose(of, 50, VAEOptions()).choices:
        assert choice.what and choice.value and choice.reason
        for option in choice.option.split(", "):
            assert option.removeprefix("--").replace("-", "_") in VAEOptions.model_fields


@pytest.mark.parametrize(
    ("of", "options", "message"),
    [
        (TABLE, {"steps": 3, "epochs": 2}, "only one of --epochs and --steps"),
        (TABLE, {"steps": 3, "time_budget": 9.0}, "only one of --steps and --time-budget"),
        (TABLE, {"time_budget": 9.0}, "to measure the pace"),
        (TABLE, {"model": "ibp-vae", "prior_temperature": 0.5}, "--relaxation relaxed"),
        (TABLE, {"steps": 3, "kl_warmup": 3}, "--kl-warmup"),
        (TABLE, {"network": "residual", "hidden": [8, 9]}, "one width"),
        (TABLE, {"device": "abacus"}, "--device"),
        (TABLE, {"free_bits": 0.1, "posterior": "full"}, "--free-bits"),
        (TABLE, {"network": "conv"}, "--network conv"),
        (TABLE, {"likelihood": "bernoulli"}, "--likelihood normal"),
        (TABLE, {"likelihood": "categorical"}, "--likelihood normal"),
        (TABLE, {"likelihood": "discretized-logistic"}, "--likelihood normal"),
        (GREY, {"likelihood": "bernoulli"}, "--binarisation dynamic"),
        (GREY, {"noise": 0.5}, "--noise"),
        (COINS, {"noise": 0.5}, "--noise"),
        (DYNAMIC, {"likelihood": "normal"}, "--binarisation none"),
        (GREY, {"hidden": [65536, 65536]}, "smaller --hidden"),
    ],
)
def test_contradictions_are_refused(of, options, message):
    with pytest.raises(OptionError, match=message):
        choose(of, 50, parse_options(options))


@pytest.mark.parametrize("model", ["wae-mmd", "beta-tcvae"])
def test_batches_too_small_for_an_objective_are_refused(model):
    for rows, batch in ((50, 1), (51, 2), (1, 8)):
        with pytest.raises(OptionError, match=f"{rows} training rows into batches of down to 1"):
            choose(TABLE, rows, parse_options({"model": model, "batch_size": batch}))
    assert choose(TABLE, 50, parse_options({"model": model, "batch_size": 2})).training.batch_size == 2


NUMERIC = [
    "noise", "hidden", "latents", "k", "beta", "kl_warmup", "free_bits", "epochs", "steps", "batch_size",
    "learning_rate", "validate_every", "checkpoint_every", "seed", "data_seed", "samples", "time_budget",
    "weight_decay", "clip", "average", "patience", "image_size",
]  # fmt: skip


ZERO_IS_FINE = {"kl_warmup", "free_bits", "seed", "data_seed", "hidden", "weight_decay", "clip", "average"}


@pytest.mark.parametrize("name", NUMERIC)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 1e308, 10**30, "abc", "", [[]], {}])
def test_numbers_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(OptionError) as caught:
        parse_options({name: value})
    assert "--" + name.replace("_", "-") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(NUMERIC) - ZERO_IS_FINE))
def test_zero_is_refused_where_it_means_nothing(name):
    with pytest.raises(OptionError):
        parse_options({name: 0})


def test_unknown_options_are_refused_by_name():
    with pytest.raises(OptionError, match="--latent is no option of vae"):
        parse_options({"latent": 3})


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 257])
def test_the_schedule_fits_any_number_of_rows(count):
    training = choose(TABLE, count, parse_options({"batch_size": 128, "hidden": [8]})).training
    assert training.batch_size == min(count, 128) and training.warmup < training.steps


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7), (5, 7, 3), (1, 9), (2, 2, 2, 2), (1,)])
@pytest.mark.parametrize("network", ["mlp", "gated", "residual", "conv", "auto"])
def test_networks_of_any_shape(shape, network):
    of = schema(np.random.default_rng(0).integers(0, 256, (40, *shape)).astype(np.uint8))
    options = parse_options({"network": network, "hidden": [8], "latents": 2})
    if network == "conv" and len(shape) not in (2, 3):
        with pytest.raises(OptionError):
            choose(of, 40, options)
        return
    model = choose(of, 40, options).model
    assert model.draw(torch.rand(2, *shape)).log_weight.shape == (1, 2)
    assert model.sample(2).shape == (2, *shape)


@pytest.mark.parametrize(
    ("options", "covariance"),
    [({}, "full"), ({"free_bits": 0.1}, "diagonal"), ({"latents": 100}, "diagonal"), ({"latents": 1}, "diagonal")],
)
def test_the_posterior_is_full_where_it_can_be(options, covariance):
    plan = choose(COINS, 50, parse_options({**options, "hidden": [8]}))
    assert next(c.value for c in plan.choices if c.what == "posterior") == f"normal, {covariance} covariance"


def test_a_budget_counts_steps_at_the_pace_that_was_measured():
    asked = []

    def timed(plan):
        asked.append(plan.training.steps)
        return Pace(step=0.1, validation=0.0)

    plan = choose(COINS, 1000, parse_options({"time_budget": 60.0, "hidden": [8]}), timed=timed)
    assert plan.training.steps == 570 and len(asked) == 1
    assert plan.objective.beta.steps == 142  # a quarter of them: schedules know the length


def test_short_and_small_trainings_are_neither_compiled_nor_rounded():
    training = choose(COINS, 1000, parse_options({})).training
    assert training.precision == "fp32" and not training.compiled


@torch.no_grad()
@pytest.mark.parametrize("of", [TABLE, GREY, COINS])
def test_training_starts_at_the_marginals(of):
    x = torch.rand(200, *of.event_shape).square()
    x = (x < 0.3).float() if of is COINS else (x * 255).round() / 255 if of is GREY else 3 * x + 1
    likelihood = choose(of, 200, parse_options({"hidden": [8]})).model.likelihood
    zero = torch.zeros(1, likelihood.net[1].in_features)
    before = likelihood(zero).log_prob(x).mean()
    assert start_at_marginal(likelihood, x)
    after = likelihood(zero).log_prob(x).mean()
    nothing = torch.zeros_like(likelihood.net[-1].bias)
    parameters = torch.cat([p.flatten() for p in likelihood.family.marginal(x)])
    marginal = Conditional(nets.mlp(1, len(nothing), hidden=()), likelihood.family)
    torch.nn.init.zeros_(marginal.net[-1].weight)
    marginal.net[-1].bias.copy_(parameters)
    best = marginal(torch.zeros(1, 1)).log_prob(x).mean()
    assert after > before and abs(float(after - best)) < 0.05 * abs(float(best))


@torch.no_grad()
@pytest.mark.parametrize(
    "family", [families.DiscretizedLogistic((8, 8, 3), 256), families.ContinuousBernoulli((8, 8, 3))]
)
def test_a_convolutional_decoder_starts_with_all_places_of_each_channel(family):
    inner = torch.zeros(8, 8, 1)
    inner[3:5, 3:5] = 1.0  # elsewhere values are always 0
    x = (torch.rand(50, 8, 8, 3) * inner * torch.tensor([0.2, 0.6, 1.0]) * 255).round() / 255
    decoder = nets.conv_decoder(2, (8, 8, 3), parameters=len(family.parameter_shapes), channels=(4,), width=8)
    decoder[-2].weight.zero_()
    likelihood = Conditional(decoder, family)
    assert start_at_marginal(likelihood, x)
    alike = family.marginal(x.reshape(-1, 3))
    best = family(*(p.expand(8, 8, 3) for p in alike)).log_prob(x).mean()
    torch.testing.assert_close(likelihood(torch.zeros(1, 2)).log_prob(x).mean(), best, atol=0.01, rtol=1e-4)


@torch.no_grad()
def test_of_many_places_a_sample_is_described():
    x = (torch.rand(2000, 10, 10, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    (odds,) = pooled_marginal(families.Bernoulli((10, 10)), x, ())
    assert abs(float(odds.sigmoid() - x.mean())) < 4 * (0.21 / 100_000) ** 0.5


def test_several_numbers_for_each_channel_are_left_alone():
    family = families.Categorical((1, 1, 3), 4)
    likelihood = Conditional(nets.conv_decoder(2, (1, 1, 3), inner=4, channels=(4,), width=8), family)
    assert not start_at_marginal(likelihood, torch.zeros(5, 1, 1, 3))


def test_networks_without_a_last_bias_are_left_alone():
    bare = Conditional(torch.nn.Linear(2, 6, bias=False), families.Bernoulli(6))
    assert not start_at_marginal(bare, torch.ones(3, 6))
    assert not start_at_marginal(torch.nn.Linear(2, 6), torch.ones(3, 6))


def test_a_budget_runs_what_it_measured(monkeypatch):
    """Long trainings are compiled: the length that fits decides it, and the pace is that of such a step."""
    monkeypatch.setattr(recipe, "can_compile", lambda device: True)
    measured = []

    def timed(plan):
        measured.append(plan.training.compiled)
        return Pace(step=0.008 if plan.training.compiled else 0.016, validation=0.0)

    wide = parse_options({"time_budget": 30.0, "hidden": [2000, 2000], "precision": "fp32"})
    plan = choose(COINS, 60_000, wide, timed=timed)
    assert measured == [True, False]
    assert not plan.training.compiled and plan.training.steps == pytest.approx(30 / 0.016, rel=0.1)


def test_a_warm_up_may_be_longer_than_a_usual_training():
    options = parse_options({"time_budget": 600.0, "kl_warmup": 50_000, "hidden": [8]})
    plan = choose(COINS, 1000, options, timed=lambda plan: Pace(step=0.001, validation=0.0))
    assert plan.training.steps > 50_000 == plan.objective.beta.steps
    with pytest.raises(OptionError, match="must be below"):
        choose(COINS, 1000, options, timed=lambda plan: Pace(step=0.1, validation=0.0))


@pytest.mark.parametrize("name", ["hyperspherical-vae", "beta-tcvae"])
def test_models_that_need_two_latents_have_them(name):
    pair = schema(np.random.default_rng(0).normal(size=(50, 2)))
    assert choose(pair, 200, parse_options({"model": name})).model.latent_size == 2
    with pytest.raises(OptionError, match="at least 2 latents; got --latents 1"):
        choose(pair, 200, parse_options({"model": name, "latents": 1}))
