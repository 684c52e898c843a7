"""Codes beside labels and factors."""

import pytest
import torch

from jensen.diagnose import dci, mutual_information_gap, probe_labels
from jensen.diagnose.disentanglement import _purity
from jensen.errors import DataError


def blobs(n=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=generator)
    return torch.randn(n, 2, generator=generator) + 6 * torch.nn.functional.one_hot(labels, 3)[:, :2], labels


def test_separate_labels_are_read_and_permuted_ones_are_not():
    codes, labels = blobs()
    found = probe_labels(codes[:200], labels[:200], codes[200:], labels[200:])
    assert found.linear.value > 0.95 and found.neighbours.value > 0.95 and found.above_chance()
    mixed = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    found = probe_labels(codes[:200], mixed[:200], codes[200:], mixed[200:])
    assert not found.above_chance() and found.chance < 0.5


def test_neighbours_see_what_a_line_does_not():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(2000, 2, generator=generator)
    labels = (codes.prod(1) > 0).long()
    found = probe_labels(codes[:1000], labels[:1000], codes[1000:], labels[1000:])
    assert found.linear.value < 0.6 and found.neighbours.value > 0.9
    assert found.best == found.neighbours


def test_a_rare_label_is_told_from_permuted_ones_though_it_is_never_the_likeliest():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(2000, 2, generator=generator)
    labels = ((codes[:, 0] > 0.84) & (torch.rand(2000, generator=generator) < 0.4)).long()
    found = probe_labels(codes[:1000], labels[:1000], codes[1000:], labels[1000:])
    assert found.best.value < found.chance + 0.01 and found.above_chance() and found.p_value >= 0.001


def test_permuted_labels_are_told_at_their_level():
    codes, labels = blobs(200)
    labels, p_values = (labels == 0).long(), []
    for seed in range(60):
        mixed = labels[torch.randperm(200, generator=torch.Generator().manual_seed(seed))]
        p_values.append(probe_labels(codes[:100], mixed[:100], codes[100:], mixed[100:]).p_value)
    assert sum(p < 0.1 for p in p_values) <= 12 and min(p_values) > 0.001


def test_one_label_among_held_out_rows_proves_nothing():
    codes = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    for rare, least in ((0, 1.0), (1, 2 / 100), (2, 2 / 4950)):
        labels = torch.zeros(200, dtype=torch.long)
        labels[:20] = labels[100 : 100 + rare] = 1
        found = probe_labels(codes[:100], labels[:100], codes[100:], labels[100:])
        assert found.least_p_value == pytest.approx(least) and found.can_tell() == (rare == 2)


def test_units_do_not_matter_and_bad_labels_are_refused():
    codes, labels = blobs()
    plain, scaled = (probe_labels(c[:200], labels[:200], c[200:], labels[200:]) for c in (codes, codes * 1e4 + 3))
    assert plain == scaled
    with pytest.raises(DataError, match="one label a row"):
        probe_labels(codes, labels[:5], codes, labels)
    with pytest.raises(DataError, match="the same"):
        probe_labels(codes, torch.zeros_like(labels), codes, labels)


def grid(copies=1):
    return torch.cartesian_prod(torch.arange(4), torch.arange(5)).repeat(copies, 1)


def test_the_information_gap_of_known_codes():
    factors = grid()
    assert mutual_information_gap(factors.double(), factors).gap == pytest.approx(1.0)
    twice = torch.cat([factors, factors], 1).double()
    assert mutual_information_gap(twice, factors).gap == pytest.approx(0.0, abs=1e-12)
    found = mutual_information_gap(torch.cat([factors, torch.zeros(20, 1)], 1).double(), factors)
    assert found.information[:2].diagonal().tolist() == pytest.approx([1.3862943611, 1.6094379124])
    assert found.information[2].abs().max() < 1e-12
    # A latent that is the sum of both factors carries some of each.
    total = factors.sum(1, keepdim=True).double()
    assert 0 < mutual_information_gap(torch.cat([total, torch.zeros(20, 1)], 1), factors).gap < 1
    with pytest.raises(DataError, match="expected at least 2"):
        mutual_information_gap(total, factors)


def test_importances_that_say_nothing_have_no_purity():
    assert abs(_purity(torch.ones(4, 3, dtype=torch.float64))) < 1e-12


def test_dci_of_known_codes():
    factors = grid(20)
    assert dci(factors.double(), factors).disentanglement > 0.99
    turn = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64) / 2**0.5
    turned = dci(factors.double() @ turn, factors)
    assert turned.disentanglement < 0.7 and turned.completeness < 0.7
    # Two factors in one latent: complete, not disentangled.
    noise = torch.randn(len(factors), 1, generator=torch.Generator().manual_seed(0)).double()
    both = dci(torch.cat([(factors[:, :1] * 5 + factors[:, 1:]).double(), noise], 1), factors)
    assert both.completeness > 0.8 and both.disentanglement < 0.3


def test_factors_that_do_not_fit_are_refused():
    factors = grid()
    for wrong, match in (
        (factors[:3], "shape"),
        (factors.double(), "whole numbers"),
        (factors - 1, "whole numbers"),
        (factors * torch.tensor([0, 1]), "factor 0"),
    ):
        with pytest.raises(DataError, match=match):
            mutual_information_gap(grid().double(), wrong)
    with pytest.raises(DataError, match="at least 20"):
        dci(grid()[:10].double(), torch.randint(2, (10, 2), generator=torch.Generator().manual_seed(0)))
