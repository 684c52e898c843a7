"""Every option of every model changes what is trained."""

import numpy as np
import pytest
import torch

from jensen import zoo
from jensen.data import TextOptions, open_source, prepare
from jensen.errors import JensenError, OptionError
from jensen.precision import conditionals_of, networks_in
from jensen.recipe import choose, parse_options
from jensen.spec import describe
from jensen.zoo.options import FitOptions

VALUES = {
    "aggressive": 3,
    "alpha": 3.0,
    "annealing": "sigmoid",
    "beta": 2.0,
    "blocks": 2,
    "code_prior": "uniform",
    "code_size": 16,
    "codes": 32,
    "commitment": 1.0,
    "decay": 0.9,
    "dilations": (1, 2),
    "dropout": 0.1,
    "embedding": 16,
    "estimator": "sticking-the-landing",
    "fixed_scale": True,
    "free_bits": 0.5,
    "free_bits_total": 1.0,
    "gamma": 3.0,
    "groups": (2, 1),
    "hidden": (7,),
    "k": 2,
    "kernel": 5,
    "kl": 0.5,
    "kl_terms": 3,
    "kl_warmup": 3,
    "latents": 5,
    "layers": 3,
    "likelihood": "categorical",
    "loadings": False,
    "network": "conv",
    "noise": 0.3,
    "positions": 3,
    "posterior": "diagonal",
    "prior": "mixture",
    "prior_temperature": 0.6,
    "pseudo_inputs": 7,
    "relaxation": "relaxed",
    "sampled_kl": True,
    "skip": False,
    "start_beta": 0.5,
    "structured": False,
    "temperature": 0.7,
    "units": 24,
    "variant": "rnn",
    "weight": 10.0,
    "weight_kl": 0.5,
    "weight_scale": 2.0,
    "width": 24,
    "word_dropout": 0.2,
}
OF_THE_DATA = {"level", "vocabulary", "max_length", "chunks", "labelled"}
"""Options that change the rows, or which labels are seen."""
OTHER_VALUES = {
    ("conditional-vae", "prior"): "conditioned",
    ("vampprior-vae", "posterior"): "full",
    ("pixelcnn", "likelihood"): "discretized-logistic",
    ("pixel-vae", "likelihood"): "discretized-logistic",
    ("vq-vae", "network"): "mlp",
}
REFUSED = {
    *((name, "free_bits") for name in ("vampprior-vae", "flow-vae", "flow-prior-vae", "hyperspherical-vae")),
    ("ladder-vae", "estimator"),
}
"""What is not known of these models, or more than their several groups of latents admit."""
ALONG = {
    "noise": {"likelihood": "normal"},
    "positions": {"network": "mlp"},
    "annealing": {"kl_warmup": 10},
    "temperature": {"relaxation": "relaxed"},
    "prior_temperature": {"relaxation": "relaxed"},
}
"""Options without which another one is refused, or has no meaning."""
TRAINING = {
    "batch_size": 50,
    "learning_rate": 1e-2,
    "constant_rate": True,
    "weight_decay": 0.1,
    "clip": 2.0,
    "average": 0.9,
    "patience": 3,
    "validate_every": 7,
    "seed": 1,
    "precision": "bf16",
}


def own(name):
    return [
        option for option in zoo.entry_of(name).options_class().model_fields if option not in FitOptions.model_fields
    ]


@pytest.fixture(scope="module")
def splits():
    text = [f"the {who} {does} {n} times." for who in ("cat", "dog") for does in ("sits", "runs") for n in range(20)]
    heights = np.random.default_rng(0).normal(size=(200, 6, 6))
    return {
        "images": prepare(open_source("digits")),
        "tokens": prepare(open_source(text), text=TextOptions("word")),
        "heights": prepare(open_source(heights)),
    }


def trained(splits, name, **options):
    """What is trained, as it stands in the files of a run."""
    kind = "heights" if options.get("likelihood") == "normal" else "images"
    data = splits["tokens" if "tokens" in zoo.entry_of(name).kinds else kind]
    chosen = parse_options({"model": name, "steps": 20, **options})
    plan = choose(data.schema, len(data.stored["train"]), chosen, classes=len(data.label_names) or 2)
    spec, tensors, _ = describe(plan.model)
    return spec, {key: value.shape for key, value in tensors.items()}, describe(plan.objective)[0], plan.training


@pytest.mark.parametrize(
    ("name", "option"),
    [(name, option) for name in zoo.MODELS for option in own(name) if option not in OF_THE_DATA],
)
def test_an_option_of_a_model_changes_what_is_trained(splits, name, option):
    along = {key: value for key, value in ALONG.get(option, {}).items() if key in own(name)}
    value = OTHER_VALUES.get((name, option), VALUES[option])
    if (name, option) in REFUSED:
        with pytest.raises(JensenError):
            trained(splits, name, **{option: value})
        return
    assert trained(splits, name, **along, **{option: value}) != trained(splits, name, **along)


@pytest.mark.parametrize("option", TRAINING)
def test_an_option_of_every_fit_changes_how_it_is_trained(splits, option):
    assert trained(splits, "vae", **{option: TRAINING[option]})[-1] != trained(splits, "vae")[-1]


@pytest.mark.parametrize("name", ["vae", "autoencoder", "vq-vae", "flow-vae"])
def test_the_encoder_computes_in_bf16_too(splits, name):
    data = splits["images"]
    model = choose(data.schema, len(data.stored["train"]), parse_options({"model": name, "steps": 20})).model
    net = model.encoder if name == "autoencoder" else model.posterior.net
    seen = []
    net.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with networks_in(conditionals_of(model), "bf16"):
        model.draw(data.frozen("valid")[:4])
    assert seen == [torch.bfloat16]


def test_no_floor_is_chosen_that_an_estimator_does_not_admit(splits):
    trained(splits, "sentence-vae", steps=400, estimator="doubly-reparameterised", k=2)


def test_what_changes_gradients_on_their_way_is_not_compiled(splits):
    with pytest.raises(OptionError, match="--compile on: the objective changes gradients"):
        trained(splits, "iwae", compile="on")
