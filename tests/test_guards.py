"""What goes wrong in a training is noticed, named and undone."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from torch import nn

import jensen
from jensen import VAE, Conditional, data, families, nets, objectives, priors, schedules, train
from jensen.errors import DataError, DeadTermError, NonFiniteError, OptionError
from jensen.precision import conditionals_of, networks_in
from jensen.roles import Estimate
from jensen.train.average import WeightAverage
from jensen.train.guards import LiveTerms, StepGuard
from jensen.train.loop import Loop
from jensen.train.pace import Pace, measure_pace


def vae(decoder: nn.Module | None = None) -> VAE:
    torch.manual_seed(0)
    return VAE(
        priors.StandardNormal(2),
        Conditional(decoder or nets.mlp(2, 6, hidden=(8,)), families.Bernoulli(6)),
        Conditional(nets.mlp(6, 4, hidden=(8,)), families.Normal(2, families.PredictedScale())),
    )


def coins(count: int = 64) -> torch.Tensor:
    return (torch.rand(count, 6, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


class Spoils:
    """Feeds rows as they are, but not a number in the given steps."""

    def __init__(self, *steps: int) -> None:
        self.steps, self.step = steps, 0

    def rows(self, batch: int) -> data.Rows:
        rows = data.Rows(coins(), self)
        self.per_step = batch
        return rows

    def __call__(self, stored: torch.Tensor) -> torch.Tensor:
        if len(stored) != self.per_step:  # the check before the first step
            return stored
        bad = self.step in self.steps
        self.step += 1
        return stored * math.nan if bad else stored


def test_pixels_that_are_not_numbers_skip_their_batch_and_are_named(caplog):
    spoiled = Spoils(40)  # the guard also looks at steps 0, 1, 2, 4, ... on their own
    model = vae()
    with caplog.at_level(logging.WARNING):
        history = train.fit(model, objectives.ELBO(), spoiled.rows(16), steps=60, batch_size=16, validate_every=30)
    assert history.finished and history.skipped == 1
    assert "not finite: reconstruction" in history.warnings[0]
    assert "not finite: reconstruction" in caplog.text
    assert all(math.isfinite(line["objective"]) for line in history.lines)
    assert all(value.isfinite().all() for value in weights(model).values())


def test_a_skipped_step_changes_neither_weights_nor_optimiser():
    model, rows = vae(), coins()
    options = train.TrainOptions(steps=10, clip=5.0)
    stepper = train.step.Stepper(
        model, objectives.ELBO(), data.Rows(rows), options, torch.device("cpu"), train.Profile(on=False)
    )
    index = torch.arange(16)
    stepper.take(index, 0, 1e-3)
    before = weights(model), [t.clone() for t in stepper.adam.state().values()]
    stepper.rows = data.Rows(rows * math.nan)
    assert not stepper.take(index, 1, 1e-3).good
    after = weights(model), list(stepper.adam.state().values())
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    stepper.rows = data.Rows(rows)
    assert stepper.take(index, 2, 1e-3).good
    assert any(not torch.equal(before[0][name], value) for name, value in weights(model).items())


@pytest.mark.parametrize("every", [7, 1000])
def test_a_rate_of_ten_ends_with_an_error_and_the_weights_as_they_were(every):
    torch.manual_seed(0)
    model = VAE(
        priors.StandardNormal(8),
        Conditional(nets.mlp(8, 64, hidden=(64, 64)), families.Bernoulli(64)),
        Conditional(nets.mlp(64, 16, hidden=(64, 64)), families.Normal(8, families.PredictedScale())),
    )
    x = (torch.rand(500, 64, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    before = weights(model)
    with pytest.raises(NonFiniteError, match=r"learning rate below") as caught:
        train.fit(model, objectives.ELBO(), x, steps=200, learning_rate=10.0, validate_every=every)
    assert "before step" in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


def test_weights_go_back_and_training_goes_on_at_a_lower_rate():
    spoiled = Spoils(*range(30, 60))
    model = vae()
    history = train.fit(model, objectives.ELBO(), spoiled.rows(16), steps=200, batch_size=16, validate_every=20)
    assert history.finished and 1 <= history.skipped <= 30
    rates = [line["learning_rate"] for line in history.lines]
    assert rates[3] < 0.6 * rates[0]
    assert any("went back" in warning for warning in history.warnings)
    assert all(value.isfinite().all() for value in weights(model).values())


def test_a_dead_decoder_is_named():
    layer = nn.Linear(2, 8)
    dead = nn.Sequential(layer, nn.ReLU(), nn.Linear(8, 6))
    nn.init.constant_(layer.bias, -1e3)
    with pytest.raises(DeadTermError, match="decoder is dead"):
        train.fit(vae(dead), objectives.ELBO(), coins(), steps=200, batch_size=16)


def test_a_decoder_that_begins_at_zero_is_not_dead():
    late = nets.mlp(2, 6, hidden=(8,))
    nn.init.zeros_(late[-1].weight)
    assert train.fit(vae(late), objectives.ELBO(), coins(), steps=200, batch_size=16).finished


def test_parameters_without_a_gradient_are_named(caplog):
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(2, 6), nn.Linear(2, 6)

        def forward(self, z):
            return self.used(z) + self.unused(z).detach()

    with caplog.at_level(logging.WARNING):
        history = train.fit(vae(Half()), objectives.ELBO(), coins(), steps=200, batch_size=16)
    assert history.finished
    assert "unused" in history.warnings[0] and "net.used" not in history.warnings[0]


def test_rows_that_are_all_equal_are_refused():
    with pytest.raises(DataError, match="nothing to learn"):
        train.fit(vae(), objectives.ELBO(), torch.zeros(64, 6), steps=2)
    with pytest.raises(DataError, match="nothing to learn"):
        jensen.fit(torch.zeros(100, 28, 28, dtype=torch.uint8).numpy(), steps=2)


def test_long_gradients_are_shortened_to_a_multiple_of_the_usual_length():
    guard = StepGuard(2.0, torch.device("cpu"))
    usual = torch.tensor(5.0)
    for _ in range(20):
        good, divisor = guard.judge(torch.tensor(1.0), usual)
        assert good and divisor == 1.0
    _, divisor = guard.judge(torch.tensor(1.0), torch.tensor(500.0))
    assert divisor == pytest.approx(50.0)  # 500 / (2 * 5)
    free = StepGuard(0.0, torch.device("cpu"))
    for length in (1.0, 1e6):
        assert free.judge(torch.tensor(1.0), torch.tensor(length))[1] == 1.0


def test_losses_far_beyond_the_first_are_skipped():
    guard = StepGuard(5.0, torch.device("cpu"))
    gradient = torch.tensor(1.0)
    verdicts = [bool(guard.judge(torch.tensor(loss), gradient)[0]) for loss in (-50.0, 400.0, 451.0, math.inf, -60.0)]
    assert verdicts == [True, True, False, False, True]
    assert guard.read() == (2, False)


def test_the_average_is_that_of_its_formula():
    layer = nn.Linear(1, 1)
    average, decay = WeightAverage(layer, 0.5), 0.5
    expected = layer.weight.detach().clone()
    for number in range(8):
        with torch.no_grad():
            layer.weight += 1.0
        average.update(number)
        now = min(decay, (1 + number) / (10 + number))
        expected = now * expected + (1 - now) * layer.weight.detach()
    live = layer.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(layer.weight.detach(), expected)
    assert torch.equal(layer.weight.detach(), live)


@pytest.mark.parametrize("valid", [coins()[:16], None])
def test_what_is_kept_is_the_average(valid):
    options = {"steps": 60, "batch_size": 16, "valid": valid, "validate_every": 60}
    models = {decay: vae() for decay in (0.0, 0.9)}
    for decay, model in models.items():
        train.fit(model, objectives.ELBO(), coins(), average=decay, **options)
    a, b = (weights(model) for model in models.values())
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_older_weights_come_without_what_was_learned_after_them():
    options = train.TrainOptions(steps=50, batch_size=16, average=0.9)
    loop = Loop(vae(), objectives.ELBO(), data.Rows(coins()), None, options, None, None, train.Profile(on=False))
    older = weights(loop.model)
    loop.run(20, lambda: False)
    assert all(not torch.equal(value, older[name]) for name, value in weights(loop.model).items())
    loop._retreat("for no reason")
    assert all(torch.equal(value, older[name]) for name, value in weights(loop.model).items())
    assert all(torch.equal(value, older[name]) for name, value in loop.average.mean.items())
    assert not any(tensor.any() for tensor in loop.stepper.adam.state().values())


def test_training_in_bf16_is_near_that_in_fp32_and_not_the_same():
    models = {precision: vae() for precision in ("fp32", "bf16")}
    for precision, model in models.items():
        train.fit(model, objectives.ELBO(), coins(), steps=30, batch_size=16, precision=precision)
    exact, rounded = (weights(model) for model in models.values())
    apart = [float((rounded[name] - value).abs().max()) for name, value in exact.items()]
    assert 0 < max(apart) < 0.01


@pytest.mark.parametrize(
    "objective",
    [
        objectives.ReweightedWakeSleep(2, wake=0.0, sleep=1.0),
        objectives.ReweightedWakeSleep(2, sleep=1.0),
        objectives.AggressiveInference(objectives.ReweightedWakeSleep(2, wake=0.0, sleep=1.0), steps=20),
    ],
)
def test_an_encoder_that_learns_from_samples_is_not_told_that_its_decoder_is_dead(objective):
    model, before = vae(), weights(vae())
    history = train.fit(model, objective, coins(), steps=140, batch_size=16)
    assert history.finished
    assert all(not torch.equal(value, before[name]) for name, value in weights(model).items())


def test_patience_ends_a_training_but_never_within_a_warm_up():
    x = coins()
    options = {"valid": x[:16], "validate_every": 5, "batch_size": 16, "learning_rate": 0.05, "decay": False}
    history = train.fit(vae(), objectives.ELBO(), x, steps=2000, patience=3, **options)
    assert history.finished and history.step < 2000
    assert history.step - history.best_step == 15
    warm = objectives.ELBO(beta=schedules.Linear(0.0, 1.0, steps=1500))
    assert train.fit(vae(), warm, x, steps=2000, patience=3, **options).step > 1500


def test_networks_compute_in_bf16_and_densities_do_not():
    seen = []
    model = vae()
    model.likelihood.net.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with networks_in(conditionals_of(model), "bf16"):
        draw = model.draw(coins()[:4])
    assert seen == [torch.bfloat16] and draw.log_weight.dtype == torch.float32
    assert draw.groups[0].posterior.mean.dtype == torch.float32
    model.draw(coins()[:4])
    assert seen[-1] == torch.float32


def test_a_time_budget_is_a_number_of_steps_before_the_first_one():
    assert Pace(step=0.1, validation=1.0).steps(100.0, lambda steps: steps // 95) == int(95 / 0.2)
    assert Pace(step=10.0, validation=1.0).steps(0.1, lambda steps: 10) == 1
    model = vae()
    before = weights(model)
    options = train.TrainOptions(steps=10, batch_size=16)
    pace = measure_pace(model, objectives.ELBO(), data.Rows(coins()), coins()[:8], options, torch.device("cpu"), 2.0)
    assert 0 < pace.step < 10 and 0 < pace.validation < 10
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


@pytest.mark.parametrize("labels", [np.arange(500) % 10, np.eye(10, dtype=np.uint8)[np.arange(500) % 10]])
def test_labels_given_as_data_are_named(labels):
    splits = data.prepare(data.open_source(labels + np.zeros_like(labels)))
    assert any("look like labels" in note for note in splits.notes)
    assert not any("look like labels" in note for note in data.prepare(data.open_source("digits")).notes)


def test_a_term_that_shows_itself_now_and_then_is_seen():
    model = torch.nn.Linear(1, 1)
    live = LiveTerms(period=1, steps=100)
    for number in range(100):
        if live.due(number):
            value = model.weight.sum() if number == 71 else torch.zeros(())
            live.watch(Estimate(value, None, {"kl": value[None]}), model, number)
    assert live.terms == {"kl"} and not live.missing


@pytest.mark.parametrize("clip", [0.3, 1.0, 1.5, 5.0])
def test_gradients_of_usual_length_do_not_become_ever_shorter(clip):
    guard, loss = StepGuard(clip, torch.device("cpu")), torch.tensor(1.0)
    norms = 100 + 20 * torch.rand(3000, generator=torch.Generator().manual_seed(0))
    left = [float(norm / guard.judge(loss, norm)[1]) for norm in norms]
    assert 100 < float(guard.length) < 120
    assert left[-1] == pytest.approx(min(1.0, clip) * 110, rel=0.1)


def test_patience_counts_without_keeping_weights_and_needs_validation_rows():
    x = coins()
    options = {"batch_size": 16, "learning_rate": 0.05, "decay": False, "patience": 3, "select": False}
    history = train.fit(vae(), objectives.ELBO(), x, steps=2000, valid=x[:16], validate_every=5, **options)
    assert history.finished and history.step < 2000 and history.best_bound is None
    with pytest.raises(OptionError, match="validation rows"):
        train.fit(vae(), objectives.ELBO(), x, steps=20, **options)


def test_a_training_that_goes_on_looks_at_the_same_steps():
    model, kept = vae(), LiveTerms(1, 200)
    kept.watch(objectives.ELBO()(model, coins()), model, 0)
    after = LiveTerms(1, 200)
    after.restore(kept.state())
    looks = [[terms.due(number) for number in range(1, 200)] for terms in (kept, after, LiveTerms(1, 200))]
    assert looks[0] == looks[1] != looks[2]
