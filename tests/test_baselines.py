"""Baselines against closed forms, planted models and another implementation."""

import math

import numpy as np
import pytest
import torch

from jensen import baselines as b
from jensen import testing
from jensen.data import open_source, prepare
from jensen.run.results import baseline_json


def draws(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def every_row(size):
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * size).reshape(-1, size)


def test_independent_bernoulli_is_its_closed_form():
    train, test = (draws(0, 200, 5) < 0.3).float(), (draws(1, 50, 5) < 0.5).float()
    p = (train.double().sum(0) + 0.5) / 201
    expected = torch.distributions.Bernoulli(probs=p).log_prob(test.double()).sum(1)
    torch.testing.assert_close(b.independent_bernoulli(train, test), expected, atol=1e-10, rtol=0)
    assert float(b.independent_bernoulli(train, every_row(5)).exp().sum()) == pytest.approx(1, abs=1e-12)


def planted(count, seed):
    p = torch.tensor([[0.9] * 8 + [0.1] * 8, [0.1] * 8 + [0.9] * 8], dtype=torch.float64)
    which = (draws(seed, count) < 0.3).long()
    x = (draws(seed + 1, count, 16) < p[which]).float()
    log_p = torch.distributions.Bernoulli(probs=p).log_prob(x.double()[:, None]).sum(-1)
    return x, torch.logsumexp(log_p + torch.tensor([0.7, 0.3], dtype=torch.float64).log(), 1)


def test_the_mixture_recovers_a_planted_mixture():
    train, _ = planted(4000, 0)
    test, truth = planted(2000, 10)
    gap = b.bernoulli_mixture(train, test, components=2) - truth
    # 33 free parameters cost 33 / (2 · 4000) nats in expectation.
    assert abs(float(gap.mean()) + 33 / 8000) < 4 * float(gap.std()) / math.sqrt(2000) + 33 / 8000
    assert float(b.bernoulli_mixture(train, every_row(16), components=2).exp().sum()) == pytest.approx(1, abs=1e-4)


def test_a_mixture_of_one_is_independent_pixels():
    train, test = (draws(0, 200, 5) < 0.3).float(), (draws(1, 50, 5) < 0.5).float()
    one = b.bernoulli_mixture(train, test, components=1)
    torch.testing.assert_close(one, b.independent_bernoulli(train, test), atol=1e-4, rtol=0)


def test_baselines_of_another_measure_are_left_out():
    density, mass = b.Baseline(torch.zeros(3), measure="density"), b.Baseline(torch.zeros(3))
    both = {"a": density, "b": mass}
    assert set(baseline_json(torch.ones(3), both, "mass")) == {"b"}
    assert set(baseline_json(torch.ones(3), both, "density")) == {"a"}


@pytest.mark.parametrize("seed", range(4))
def test_the_mixture_describes_its_training_rows_no_worse_than_independent_pixels(seed):
    train, _ = planted(600, 20 + seed)
    gain = b.bernoulli_mixture(train, train).mean() - b.independent_bernoulli(train, train).mean()
    assert float(gain) > 0


def test_histograms_sum_to_one():
    train = (draws(0, 100, 1) ** 2 * 7).long()
    every = torch.arange(7)[:, None]
    assert float(b.independent_histogram(train, train, every, 7).exp().sum()) == pytest.approx(1, abs=1e-12)


def test_the_pseudo_count_of_histograms_is_chosen_on_validation_rows():
    train, unseen = torch.zeros(20, 1, dtype=torch.long), torch.ones(20, 1, dtype=torch.long)
    smooth, sharp = (b.independent_histogram(train, valid, unseen[:1], 4) for valid in (unseen, train))
    assert float(smooth) == pytest.approx(math.log(1 / 24)) and float(sharp) < math.log(1e-4)


def test_independent_normals_are_their_closed_form():
    x = draws(0, 100, 3) * 4
    expected = torch.distributions.Normal(x.mean(0), x.std(0, correction=0)).log_prob(x).sum(1)
    torch.testing.assert_close(b.independent_normal(x, x), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("count", "size", "width"), [(300, 6, 2), (300, 6, 5), (300, 6, 1), (40, 60, 7), (40, 60, 0)])
def test_probabilistic_pca_is_the_density_of_highest_likelihood(count, size, width):
    mix = draws(1, size, size)
    train, test = (draws(2, count, size) @ mix).float().double(), (draws(3, 50, size) @ mix)
    highest = float(b.probabilistic_pca(train, train, width).mean())
    assert highest == pytest.approx(testing.ppca_log_likelihood(train, width), abs=1e-8)
    values, vectors = torch.linalg.eigh(torch.cov(train.T, correction=0))
    values[: size - width] = values[: size - width].mean()
    normal = torch.distributions.MultivariateNormal(train.mean(0), (vectors * values) @ vectors.T)
    np.testing.assert_allclose(b.probabilistic_pca(train, test, width), normal.log_prob(test), atol=1e-6, rtol=1e-9)


def test_a_dequantised_density_lies_below_the_exact_mass():
    # One dimension, levels 0 and 1: the density of level + u is bounded by Jensen's inequality.
    density = torch.distributions.Normal(0.9, 0.6)
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    for level in (0.0, 1.0):
        exact = float(density.log_prob(level + u).exp().mean().log())
        assert float(density.log_prob(level + u).mean()) < exact
    levels = (draws(0, 3000, 2) * 3).long()
    source = open_source(levels.numpy())
    found = b.baselines(prepare(source), 1)
    dequantised = found["probabilistic PCA, dequantised"]
    assert dequantised.kind == "lower"
    assert float(dequantised.log_likelihood.mean()) < math.log(1 / 9) < -2


@pytest.mark.parametrize("count", [4, 5, 6])
def test_few_rows_give_no_absurd_baseline(count):
    values = np.random.default_rng(count).normal(size=(count, 3))
    for baseline in b.baselines(prepare(open_source(values)), 50).values():
        assert baseline.measure == "density" and float(baseline.log_likelihood.mean()) > -1e4
    grey = np.random.default_rng(count).integers(0, 256, (count, 4, 4)).astype(np.uint8)
    for baseline in b.baselines(prepare(open_source(grey)), 50).values():
        assert baseline.measure == "mass" and -500 < float(baseline.log_likelihood.mean()) < 0


def test_the_width_of_pca_is_chosen_on_validation_rows():
    train, valid = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 60, 20)))
    chosen = b._chosen_pca(train, valid, valid, 18)
    assert all(chosen.mean() >= b.probabilistic_pca(train, valid, w).mean() - 1e-9 for w in (1, 2, 4, 8, 16, 18))


def test_the_density_of_a_baseline_moves_with_the_users_units():
    values = np.random.default_rng(0).normal(size=(200, 3))
    one, two = (b.baselines(prepare(open_source(v)), 2) for v in (values, values))
    scaled = b.baselines(prepare(open_source(values * 8.0)), 2)  # rows fall into other splits, so compare loosely
    for name in one:
        shift = float(scaled[name].log_likelihood.mean() - two[name].log_likelihood.mean())
        error = math.hypot(*(float(x[name].log_likelihood.std()) / math.sqrt(20) for x in (one, scaled)))
        assert abs(shift + 3 * math.log(8)) < 4 * error


def test_of_very_many_values_a_part_of_the_rows_is_fitted(monkeypatch):
    splits = prepare(open_source("digits"), seed=0)
    whole = b.baselines(splits, 5)
    assert b.rows_fitted(splits) == len(splits.stored["train"])
    monkeypatch.setattr(b, "_MOST_VALUES", 100 * splits.schema.size)
    assert b.rows_fitted(splits) == 100
    found = b.baselines(splits, 5)
    assert found.keys() == whole.keys()
    train, test = splits.frozen("train").flatten(1), splits.frozen("test").flatten(1)
    some = train[torch.linspace(0, len(train) - 1, 100).long()]
    valid = splits.frozen("valid").flatten(1)
    valid = valid[torch.linspace(0, len(valid) - 1, 100).long()]
    levels = [(rows * 16).round().long() for rows in (some, valid, test)]
    expected = b.independent_histogram(*levels, 17)
    assert torch.equal(found["independent histograms"].log_likelihood, expected)
    assert len(found["probabilistic PCA, dequantised"].log_likelihood) == len(test)
