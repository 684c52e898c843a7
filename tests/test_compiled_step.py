"""A step that is compiled as one graph, or in parts where a model does not allow it, against the plain one."""

from __future__ import annotations

import pytest
import torch

from jensen import VAE, Conditional, data, families, hardware, nets, objectives, priors, schedules, train
from jensen.objectives import gradients

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the compiler's parts warn one another
    pytest.mark.skipif(not hardware.can_compile(torch.device("cpu")), reason="there is no compiler that works"),
]


def stepper(objective, *, compiled: bool) -> train.step.Stepper:
    torch.manual_seed(0)
    model = VAE(
        priors.StandardNormal(2),
        Conditional(nets.mlp(2, 6, hidden=(8,)), families.Bernoulli(6)),
        Conditional(nets.mlp(6, 4, hidden=(8,)), families.Normal(2, families.PredictedScale())),
    )
    rows = data.Rows((torch.rand(64, 6, generator=torch.Generator().manual_seed(1)) < 0.4).float())
    options = train.TrainOptions(steps=10, compiled=compiled, weight_decay=0.01)
    return train.step.Stepper(model, objective, rows, options, torch.device("cpu"), train.Profile(on=True))


def run(stepper: train.step.Stepper, sizes: tuple[int, ...]) -> list[float]:
    losses = []
    for number, size in enumerate(sizes):
        torch.manual_seed(number)
        outcome = stepper.take(torch.arange(number, number + size), number, 1e-2)
        assert outcome.good and outcome.names[:2] == ["objective", "bound"] and outcome.sums[0, -1] == size
        losses.append(float(outcome.loss))
    return losses


def assert_as_plain(compiled: train.step.Stepper, plain: train.step.Stepper, sizes: tuple[int, ...]) -> None:
    assert run(compiled, sizes) == pytest.approx(run(plain, sizes), rel=1e-5)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(compiled.model.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    for name, value in plain.adam.state().items():
        torch.testing.assert_close(compiled.adam.state()[name], value, rtol=1e-3, atol=1e-6)


def test_a_step_compiled_as_one_graph_is_the_plain_one():
    warmed = [objectives.ELBO(beta=schedules.Linear(0.1, 1.0, steps=4)) for _ in range(2)]
    compiled, plain = stepper(warmed[0], compiled=True), stepper(warmed[1], compiled=False)
    assert_as_plain(compiled, plain, sizes=(16, 16, 16))
    assert compiled.whole is not None
    spent = compiled.profile.seconds
    assert spent["compilation"] > spent["step"] > 0 and "forward" not in spent
    assert "forward" in plain.profile.seconds and "compilation" not in plain.profile.seconds


HOOKED = {
    "elbo": lambda: objectives.ELBO(2, estimator=gradients.DoublyReparameterised()),
    "iwae": lambda: objectives.IWAE(4, estimator=gradients.DoublyReparameterised()),
    "piwae": lambda: objectives.PIWAE(2, 2),
    "leave-one-out": lambda: objectives.ELBO(3, estimator=gradients.LeaveOneOut()),
}


@pytest.mark.parametrize("name", HOOKED)
def test_gradients_that_are_changed_on_their_way_are_when_compiled(name):
    compiled, plain = stepper(HOOKED[name](), compiled=True), stepper(HOOKED[name](), compiled=False)
    assert_as_plain(compiled, plain, sizes=(16, 16, 15, 16))
    assert compiled.whole is None


@pytest.mark.slow
def test_a_compiled_step_is_refused_as_a_whole():
    compiled = stepper(objectives.ELBO(), compiled=True)
    values = compiled.rows.values.clone()
    run(compiled, sizes=(16, 15))
    held = [*compiled.parameters, *compiled.adam.state().values()]
    before = [tensor.clone() for tensor in held]
    compiled.rows.values.mul_(float("nan"))
    assert not compiled.take(torch.arange(16), 2, 1e-2).good
    assert all(torch.equal(a, b) for a, b in zip(before, held, strict=True))
    compiled.rows.values.copy_(values)
    assert compiled.take(torch.arange(16), 3, 1e-2).good and compiled.guard.read() == (1, False)


@pytest.mark.parametrize("inner", [1, 3])
def test_maps_are_laid_out_the_same_when_compiled(inner):
    flat = nets.images.Flat(2, inner)
    maps = torch.randn(5, 6, 4, 3, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    weight = torch.arange(72.0)
    found = []
    for way in (flat, torch.compile(flat, fullgraph=True)):
        x = maps.clone().requires_grad_()
        y = way(x)
        (y * weight).sum().backward()
        found.append((y.detach(), x.grad))
    (y, gradient), (own, other) = found
    assert torch.equal(y, own) and torch.equal(gradient, other)
    # Parameter p, row i, column j, colour c, number l of the output is channel 3 p + c + l of the maps: of the three
    # channels of a parameter, one is left for each of three colours or of three numbers.
    assert y.reshape(5, 2, 4, 3, 3)[1, 1, 2, 0, 2] == maps[1, 5, 2, 0]
    for op, arguments in (("flat", (maps, 2, inner)), ("unflat", (y, 2, inner, [6, 4, 3]))):
        torch.library.opcheck(getattr(torch.ops.jensen, op).default, arguments)
