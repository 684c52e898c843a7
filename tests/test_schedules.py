"""Schedules: values, periods and bounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jensen import schedules
from jensen.errors import OptionError

numbers = st.floats(-1e6, 1e6)
steps = st.integers(1, 10_000)


def test_values():
    ramp = schedules.Linear(0.2, 1.0, steps=4)
    assert [round(ramp(t), 12) for t in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    rate = schedules.Cosine(2.0, steps=12, warmup=2, floor=0.5)
    assert rate(0) == 1.0
    assert rate(1) == rate(2) == 2.0
    assert rate(7) == pytest.approx(1.25, abs=1e-12)
    assert rate(12) == rate(10**9) == 0.5
    assert schedules.Constant(3)(7) == 3.0


def test_periods():
    assert schedules.Constant(1.0).period == 1
    assert schedules.Linear(0.0, 1.0, steps=7).period == 8
    assert schedules.Cosine(1.0, steps=9).period == 9


@given(numbers, numbers, steps, st.integers(0, 20_000))
def test_a_ramp_stays_between_its_ends_and_rests_after_its_period(start, end, length, step):
    ramp = schedules.Linear(start, end, steps=length)
    slack = 1e-9 * (1 + abs(start) + abs(end))
    assert min(start, end) - slack <= ramp(step) <= max(start, end) + slack
    assert ramp(0) == start
    assert math.isclose(ramp(ramp.period + step), end, rel_tol=1e-9, abs_tol=slack)
    assert math.isclose(ramp(ramp.period - 1), end, rel_tol=1e-9, abs_tol=slack)


@given(st.floats(0, 1e6), steps, st.data())
def test_a_cosine_stays_between_zero_and_its_peak(peak, length, data):
    warmup = data.draw(st.integers(0, length - 1))
    floor = data.draw(st.floats(0, peak))
    step = data.draw(st.integers(0, 2 * length))
    rate = schedules.Cosine(peak, steps=length, warmup=warmup, floor=floor)
    assert 0 <= rate(step) <= peak * (1 + 1e-12)
    assert math.isclose(rate(warmup), peak, rel_tol=1e-12, abs_tol=1e-300)
    assert math.isclose(rate(rate.period), floor, rel_tol=1e-9, abs_tol=1e-9)
    if warmup <= step:
        assert rate(step) >= rate(step + 1) - 1e-9 * peak


def test_bad_arguments():
    with pytest.raises(OptionError, match="steps=0"):
        schedules.Linear(0.0, 1.0, steps=0)
    with pytest.raises(OptionError, match="warmup=5"):
        schedules.Cosine(1.0, steps=5, warmup=5)
    with pytest.raises(OptionError, match="warmup=-1"):
        schedules.Cosine(1.0, steps=5, warmup=-1)


def test_as_schedule():
    ramp = schedules.Linear(0.0, 1.0, steps=3)
    assert schedules.as_schedule(ramp) is ramp
    assert schedules.as_schedule(2)(5) == 2.0
    assert isinstance(ramp, schedules.Schedule)


def test_a_sigmoid_is_the_scaled_logistic_curve():
    ramp = schedules.Sigmoid(0.2, 1.0, steps=10, steepness=4.0)

    def sigma(u):
        return 1 / (1 + math.exp(-u))

    for t in range(11):
        share = (sigma(4 * (2 * t / 10 - 1)) - sigma(-4)) / (sigma(4) - sigma(-4))
        assert ramp(t) == pytest.approx(0.2 + 0.8 * share, abs=1e-12)
    assert ramp(11) == ramp(10**6) == pytest.approx(1.0)
    assert ramp.period == 11


def test_a_cyclical_schedule_repeats_and_rests_at_its_end():
    waves = schedules.Cyclical(0.0, 2.0, steps=30, cycles=3, rising=0.5)
    assert [round(waves(t), 9) for t in (0, 2, 5, 9, 10, 12, 15, 29, 30, 99)] == [0, 0.8, 2, 2, 0, 0.8, 2, 2, 2, 2]
    assert waves.period == 31


@pytest.mark.parametrize(
    "build",
    [
        lambda: schedules.Sigmoid(0.0, 1.0, steps=0),
        lambda: schedules.Sigmoid(0.0, 1.0, steps=5, steepness=0.0),
        lambda: schedules.Cyclical(0.0, 1.0, steps=2, cycles=3),
        lambda: schedules.Cyclical(0.0, 1.0, steps=9, cycles=0),
        lambda: schedules.Cyclical(0.0, 1.0, steps=9, rising=0.0),
    ],
)
def test_bad_ramps_are_refused(build):
    with pytest.raises(OptionError, match="got"):
        build()


@pytest.mark.parametrize("cycles", [3, 6, 7, 49])
def test_cycles_begin_exactly_at_their_step(cycles):
    for steps in range(cycles, 120):
        waves = schedules.Cyclical(0.0, 1.0, steps=steps, cycles=cycles)
        begins = [step for step in range(steps) if step * cycles % steps == 0]
        assert all(waves(step) == 0.0 for step in begins)
