"""What is chosen, why, and which contradictions are refused."""

import numpy as np
import pytest
import torch

from jensen.data.schema import infer
from jensen.errors import OptionError
from jensen.recipe import FitOptions, choose, parse_options


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


@pytest.mark.parametrize("of", [TABLE, GREY, COINS, DYNAMIC])
def test_each_choice_has_a_value_a_reason_and_an_option(of):
    for choice in choose(of, 50, FitOptions()).choices:
        assert choice.what and choice.value and choice.reason
        for option in choice.option.split(", "):
            assert option.removeprefix("--").replace("-", "_") in FitOptions.model_fields


@pytest.mark.parametrize(
    ("of", "options", "message"),
    [
        (TABLE, {"steps": 3, "epochs": 2}, "not both"),
        (TABLE, {"steps": 3, "kl_warmup": 3}, "--kl-warmup"),
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


NUMERIC = [
    "noise", "hidden", "latents", "k", "beta", "kl_warmup", "free_bits", "epochs", "steps", "batch_size",
    "learning_rate", "validate_every", "checkpoint_every", "seed", "data_seed", "samples",
]  # fmt: skip


@pytest.mark.parametrize("name", NUMERIC)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 1e308, 10**30, "abc", "", [[]], {}])
def test_numbers_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(OptionError) as caught:
        parse_options({name: value})
    assert "--" + name.replace("_", "-") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(NUMERIC) - {"kl_warmup", "free_bits", "seed", "data_seed", "hidden"}))
def test_zero_is_refused_where_it_means_nothing(name):
    with pytest.raises(OptionError):
        parse_options({name: 0})


def test_unknown_options_are_refused_by_name():
    with pytest.raises(OptionError, match="--latent cannot"):
        parse_options({"latent": 3})


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 257])
def test_the_schedule_fits_any_number_of_rows(count):
    training = choose(TABLE, count, parse_options({"batch_size": 128, "hidden": [8]})).training
    assert training.batch_size == min(count, 128) and training.warmup < training.steps


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7), (5, 7, 3), (1, 9), (2, 2, 2, 2), (1,)])
@pytest.mark.parametrize("network", ["mlp", "conv", "auto"])
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
