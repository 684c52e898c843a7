"""Models as plain data, and documents that are not models."""

import contextlib
import json
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from jensen import VAE, Conditional, families, nets, objectives, priors, schedules, spec
from jensen.errors import SpecError
from jensen.noise import seeded


def conditional(inputs, family, net=None, **options):
    size = sum(math.prod(shape) for shape in family.parameter_shapes)
    return Conditional(nets.mlp(inputs, size, (5,)) if net is None else net, family, **options)


def model(family, posterior=None, net=None):
    size = math.prod(family.event_shape)
    posterior = posterior or conditional(size, families.Normal(2, scale=families.PredictedScale()))
    return VAE(priors.StandardNormal(2), conditional(2, family, net), posterior)


MODELS = {
    "bernoulli": lambda: model(families.Bernoulli(6)),
    "normal": lambda: model(families.Normal(6)),
    "fixed": lambda: model(families.Normal(6, scale=families.FixedScale(0.3))),
    "per-dimension": lambda: model(families.Normal(6, scale=families.PerDimensionScale(6))),
    "categorical": lambda: model(families.Categorical(6, levels=4)),
    "logistic": lambda: model(families.DiscretizedLogistic(6, levels=256)),
    "full": lambda: model(families.Bernoulli(6), conditional(6, families.FullNormal(2))),
    "conv": lambda: model(
        families.Bernoulli((4, 3)),
        Conditional(nets.conv_encoder((4, 3), 4), families.Normal(2, scale=families.PredictedScale()), event_dims=2),
        nets.conv_decoder(2, (4, 3)),
    ),
}


def rebuilt(value, names=None):
    document, tensors, _ = spec.describe(value)
    text = json.dumps(document.model_dump(), allow_nan=False)
    return spec.build(spec.parse(json.loads(text)), tensors, names or spec.own_names())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_from_text(name):
    original = MODELS[name]()
    copy = rebuilt(original)
    copy.load_state_dict(original.state_dict())
    assert str(copy) == str(original)
    assert all(
        torch.equal(a, b) for a, b in zip(original.state_dict().values(), copy.state_dict().values(), strict=True)
    )
    with seeded(0):
        x = original.sample(3)
    with seeded(1):
        first = original.draw(x, k=2).log_weight
    with seeded(1):
        assert torch.equal(copy.draw(x, k=2).log_weight, first)


def test_objectives_and_schedules_come_back():
    copy = rebuilt(objectives.ELBO(k=3, beta=schedules.Linear(0.0, 2.0, steps=4), free_bits=0.1))
    assert (copy.k, copy.beta(2), copy.free_bits, copy.period) == (3, 1.0, 0.1, 5)
    assert rebuilt(schedules.Cosine(1.0, steps=9, warmup=2))(0) == 0.5


@spec.declared("test.Pair")
class Pair(nn.Module):
    def __init__(self, first=None, second=None, table=None, **others):
        super().__init__()
        self.first, self.second, self.table, self.others = first, second, table, others


PAIR = {"test.Pair": Pair}


def test_shared_parts_stay_shared():
    family = families.Normal(3)
    copy = rebuilt(Pair(family, [family, families.Normal(3)]), {**spec.own_names(), **PAIR})
    assert copy.first is copy.second[0]
    assert copy.first is not copy.second[1]


def test_tensors_and_non_finite_numbers_and_names():
    table = torch.arange(6.0).reshape(2, 3)
    copy = rebuilt(Pair(math.inf, [-math.inf, math.nan, 1e-300, None, True, "a"], [table, table], extra=2), PAIR)
    assert copy.first == math.inf
    assert copy.second[0] == -math.inf
    assert math.isnan(copy.second[1])
    assert copy.second[2:] == [1e-300, None, True, "a"]
    assert torch.equal(copy.table[0], table)
    assert copy.table[0] is copy.table[1]
    assert copy.others == {"extra": 2}


def test_an_undeclared_network_is_told_the_decorator():
    with pytest.raises(SpecError, match=r'@jensen.declared\("mylab.Sequential"\)'):
        spec.describe(Conditional(nn.Sequential(nn.Linear(2, 6)), families.Bernoulli(6)))


def test_a_users_class_builds_only_under_its_name():
    document, tensors, factories = spec.describe(Pair(1))
    assert factories == PAIR
    assert "test.Pair" not in spec.own_names()
    assert spec.build(document, tensors, PAIR).first == 1
    with pytest.raises(SpecError, match=r'modules=\{"test.Pair": Pair\}'):
        spec.build(document, tensors, spec.own_names())


def test_a_subclass_is_not_its_parent():
    class Child(Pair):
        pass

    with pytest.raises(SpecError, match="Child"):
        spec.describe(Child(1))
    declared_child = spec.declared("test.Child")(type("Other", (Pair,), {}))
    assert spec.describe(declared_child(first=2))[0].nodes[-1].arguments["first"] == 2


def test_star_arguments_are_refused():
    with pytest.raises(SpecError, match=r"\*args"):
        spec.declared("test.Star")(lambda *layers: layers)


def node(name, **arguments):
    return {"name": name, "arguments": arguments}


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


GARBAGE = {
    "none": None,
    "list": [],
    "text": "VAE",
    "empty": {"nodes": []},
    "no nodes": {},
    "unknown key": {"nodes": [node("VAE")], "code": "import os"},
    "unknown node key": {"nodes": [{**node("nets.mlp"), "__class__": "os.system"}]},
    "future format": {"format": 2, "nodes": [node("nets.mlp")]},
    "import path": {"nodes": [node("os.system", command="true")]},
    "dunder": {"nodes": [node("nets.mlp", __class__="x")]},
    "target": {"nodes": [node("nets.mlp", _target_="os.system")]},
    "target value": {"nodes": [node("nets.mlp", in_features={"_target_": "os.system"}, out_features=1)]},
    "forward reference": {"nodes": [node("VAE", prior={"ref": 1}), node("priors.StandardNormal", size=2)]},
    "own reference": {"nodes": [node("VAE", prior={"ref": 0})]},
    "negative reference": {"nodes": [node("priors.StandardNormal", size=2), node("VAE", prior={"ref": -1})]},
    "true reference": {"nodes": [node("nets.mlp", in_features={"ref": True}, out_features=1)]},
    "no tensor": {"nodes": [node("nets.mlp", in_features={"tensor": "a"}, out_features=1)]},
    "bad float": {"nodes": [node("schedules.Constant", value={"float": "1; import os"})]},
    "two keys": {"nodes": [node("schedules.Constant", value={"float": "inf", "ref": 0})]},
    "missing argument": {"nodes": [node("nets.mlp", in_features=2)]},
    "wrong type": {"nodes": [node("nets.mlp", in_features="2", out_features=1)]},
    "refused value": {"nodes": [node("nets.mlp", in_features=0, out_features=1)]},
    "no channels": {"nodes": [node("nets.conv_decoder", in_features=2, shape=[3, 3], channels=[])]},
    "net is text": {
        "nodes": [node("families.Bernoulli", shape=2), node("Conditional", net="x", family={"ref": 0}, event_dims=[])]
    },
    "family is text": {
        "nodes": [node("nets.mlp", in_features=1, out_features=1), node("Conditional", net=0, family="x")]
    },
    "name is a number": {"nodes": [{"name": 3, "arguments": {}}]},
    "arguments are a list": {"nodes": [{"name": "VAE", "arguments": []}]},
    "deep": {"nodes": [node("nets.mlp", in_features=deep(5000), out_features=1)]},
    "deep but read": {"nodes": [node("nets.mlp", in_features=deep(200), out_features=1)]},
}


def load(document):
    spec.build(spec.parse(document), {}, spec.own_names())


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_a_spec_error(name):
    with pytest.raises(SpecError):
        load(GARBAGE[name])


scalars = st.none() | st.booleans() | st.integers(-3, 50) | st.floats() | st.text(max_size=5)
references = st.builds(lambda key, value: {key: value}, st.sampled_from(["ref", "tensor", "float"]), scalars)
values = st.recursive(
    scalars | references,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(
    ["in_features", "out_features", "shape", "size", "levels", "net", "family", "k", "beta", "value"]
)
nodes = st.builds(
    lambda name, arguments: {"name": name, "arguments": arguments},
    st.sampled_from(sorted(name for name in spec.own_names() if not name.startswith("test"))) | st.text(max_size=5),
    st.dictionaries(keys | st.text(max_size=5), values, max_size=4),
)
documents = values | st.builds(lambda items: {"nodes": items}, st.lists(nodes, max_size=3))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
def test_any_document_builds_or_is_a_spec_error(document):
    with contextlib.suppress(SpecError):
        load(document)


def test_a_negative_reference_is_refused_even_where_it_would_fit():
    document = {"nodes": [node("priors.StandardNormal", size=2), node("test.Pair", first={"ref": -1})]}
    with pytest.raises(SpecError, match="reference"):
        spec.build(spec.parse(document), {}, {**spec.own_names(), **PAIR})
