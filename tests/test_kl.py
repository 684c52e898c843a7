"""Closed-form divergences against Monte Carlo."""

import pytest
import torch
from torch.distributions import Gumbel, Independent, Laplace, MultivariateNormal

from jensen import priors, testing
from jensen.distributions import closed_form_kl, diagonal_normal, kl_per_latent


def diagonal(seed, size=4):
    torch.manual_seed(seed)
    return diagonal_normal(torch.randn(size).double(), torch.rand(size).double() + 0.3, 1)


def full(seed, size=4):
    torch.manual_seed(seed)
    factor = torch.randn(size, size).double().tril(-1) + torch.diag(torch.rand(size).double() + 0.3)
    return MultivariateNormal(torch.randn(size).double(), scale_tril=factor)


PAIRS = {
    "diagonal-diagonal": (diagonal(0), diagonal(1)),
    "diagonal-standard": (diagonal(2), priors.StandardNormal(4).double()()),
    "full-diagonal": (full(3), diagonal(4)),
    "full-standard": (full(5), priors.StandardNormal(4).double()()),
    "full-full": (full(6), full(7)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_formula_agrees_with_monte_carlo(name):
    assert abs(testing.kl_z_score(*PAIRS[name], seed=1)) < 4


def test_a_full_covariance_that_is_diagonal_agrees_with_the_diagonal_formula():
    q, p = diagonal(0), diagonal(1)
    same = MultivariateNormal(q.mean, scale_tril=torch.diag(q.stddev))
    torch.testing.assert_close(closed_form_kl(same, p), closed_form_kl(q, p), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("q", [diagonal(0), full(0)])
def test_the_divergence_of_a_distribution_from_itself_is_zero(q):
    assert abs(float(closed_form_kl(q, q))) < 1e-12


def test_the_divergences_of_the_latents_sum_to_the_whole():
    torch.manual_seed(0)
    q = diagonal_normal(torch.randn(6, 3).double(), torch.rand(6, 3).double() + 0.1, 1)
    p = diagonal(1, size=3)
    each = kl_per_latent(q, p)
    assert each.shape == (6, 3)
    assert (each > 0).all()
    torch.testing.assert_close(each.sum(1), closed_form_kl(q, p), rtol=1e-13, atol=1e-13)


def test_batches_of_full_covariances():
    torch.manual_seed(0)
    factor = torch.eye(3).double() + 0.3 * torch.randn(5, 3, 3).double().tril(-1)
    q = MultivariateNormal(torch.randn(5, 3).double(), scale_tril=factor)
    p = diagonal(1, size=3)
    kl = closed_form_kl(q, p)
    assert kl.shape == (5,)
    as_full = MultivariateNormal(p.mean, scale_tril=torch.diag(p.stddev))
    torch.testing.assert_close(kl, closed_form_kl(q, as_full), rtol=1e-12, atol=1e-12)


def test_none_where_no_formula_is_known():
    heavy = Independent(Gumbel(torch.zeros(4), torch.ones(4)), 1)
    laplace = Independent(Laplace(torch.zeros(4), torch.ones(4)), 1)
    assert closed_form_kl(laplace, heavy) is None
    assert kl_per_latent(laplace, heavy) is None
    assert kl_per_latent(full(0), diagonal(0)) is None
