"""Adam: both of its forms against torch's own optimiser, and what a refused update leaves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from jensen.train.adam import Adam

SHAPES = [(4, 3), (3,), (2, 2)]
FORMS = ["update", "trace"]


def parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def gradients(number: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1 + number)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def step(adam: Adam, form: str, found: list[Tensor | None], rate: float, divisor: float = 1.0, *, good: bool = True):
    shared = {"divisor": torch.tensor(divisor), "good": torch.tensor(good)}
    getattr(adam, form)(found, torch.tensor(rate) if form == "trace" else rate, **shared)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_is_the_optimiser_of_torch(form, decay):
    own, known = parameters(), [torch.nn.Parameter(p) for p in parameters()]
    adam, other = Adam(own, decay), torch.optim.AdamW(known, lr=0.01, weight_decay=decay)
    for number in range(20):
        found = gradients(number)
        found[1] = None if number % 3 == 0 else found[1]  # a parameter may be out of reach for a while
        rate = 0.01 * (1 + number % 4)
        step(adam, form, [None if g is None else 2.0 * g for g in found], rate, divisor=2.0)
        other.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(known, found, strict=True):
            parameter.grad = gradient
        other.step()
    for a, b in zip(own, known, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("refused", [0, 3])
def test_a_refused_update_changes_nothing(form, refused):
    own = parameters()
    adam = Adam(own, decay=0.1)
    for number in range(refused):
        step(adam, form, gradients(number), 0.01)
    before = [t.clone() for t in (*own, *adam.state().values())]
    step(adam, form, [g * math.nan for g in gradients(9)], 0.01, divisor=math.nan, good=False)
    after = [*own, *adam.state().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    step(adam, form, gradients(10), 0.01)
    assert not torch.equal(before[0], own[0]) and all(p.isfinite().all() for p in own)


def test_both_forms_agree_when_they_take_turns():
    first, second = (Adam(parameters(), 0.01) for _ in range(2))
    for number in range(10):
        step(first, "update", gradients(number), 0.02)
        step(second, FORMS[number % 2], gradients(number), 0.02)
    for name, tensor in first.state().items():
        torch.testing.assert_close(second.state()[name], tensor, rtol=1e-5, atol=1e-7)


def test_its_state_goes_on_where_it_was():
    kept = Adam(parameters(), 0.0)
    for number in range(3):
        step(kept, "update", gradients(number), 0.01)
    other = Adam([p.clone() for p in kept.parameters], 0.0)
    other.restore({name: tensor.clone() for name, tensor in kept.state().items()})
    for adam in (kept, other):
        step(adam, "update", gradients(7), 0.01)
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters, other.parameters, strict=True))
    kept.restart()
    assert all(bool((tensor == 0).all()) for tensor in kept.state().values())
    with pytest.raises(KeyError):
        other.restore({})
