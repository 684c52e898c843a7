"""Kumaraswamy sticks and what is broken from them, against closed forms, quadrature and samples."""

import math
from itertools import pairwise

import pytest
import torch
from scipy import integrate
from scipy.special import betaln
from scipy.stats import beta as scipy_beta
from torch import nn
from torch.distributions import Beta, kl_divergence

from jensen import (
    VAE,
    Conditional,
    data,
    distributions,
    evaluation,
    families,
    nets,
    objectives,
    posteriors,
    priors,
    testing,
    zoo,
)
from jensen.distributions import Kumaraswamy, closed_form_kl, falling_logits, is_cut_short, stick_breaking
from jensen.errors import OptionError, ShapeError
from jensen.model import Rung, SharedVAE, TopDown
from jensen.noise import RowNoise, seeded

PAIRS = [(0.1, 0.5), (0.3, 4.0), (1.0, 1.0), (2.0, 0.7), (5.0, 30.0), (40.0, 2.0), (300.0, 1e4)]
every_pair = pytest.mark.parametrize(("a", "b"), PAIRS)


def test_the_moments_of_pieces_are_those_of_draws():
    prior = priors.StickBreaking(4, alpha=3.0).double()
    torch.manual_seed(0)
    pieces = prior.unpack(prior().sample((40_000,)))
    mean, spread = prior.moments()
    assert mean.shape == spread.shape == (5,)
    assert (((pieces.mean(0) - mean) / (spread / 200)).abs() < 4).all()
    squares = (pieces - mean).square()
    assert (((squares.mean(0) - spread.square()) / (squares.std(0) / 200)).abs() < 4).all()
    torch.testing.assert_close(prior.moments()[0].sum(), torch.tensor(1.0, dtype=torch.float64))


def test_the_decoder_of_the_zoo_sees_pieces_of_variance_one_where_they_are_long():
    schema = data.prepare(data.open_source("digits")).schema
    model = zoo.build("stick-breaking-vae", schema, rows=1437, latents=20).model
    pieces = model.prior.unpack(model.prior().sample((4000,)))
    seen = []
    model.likelihood.net.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.likelihood(pieces)
    spread = seen[0].std(0)
    torch.testing.assert_close(spread[:8], torch.ones(8), rtol=0.1, atol=0)
    assert (spread < 1.1).all()


def test_a_network_sees_standardised_inputs():
    x, mean, scale = torch.randn(6, 3), torch.tensor([1.0, -2.0, 0.0]), torch.tensor([2.0, 0.5, 1e-3])
    net = nets.mlp(3, 2)
    torch.testing.assert_close(nets.Standardised(net, mean, scale)(mean + scale * x), net(x), rtol=1e-3, atol=1e-4)
    with pytest.raises(ShapeError, match="an entry for each input"):
        nets.Standardised(net, mean, torch.ones(2))
    for bad in (0.0, math.inf):
        with pytest.raises(OptionError, match="positive and finite"):
            nets.Standardised(net, mean, torch.tensor([1.0, bad, 1.0]))


def q_of(a, b, dtype=torch.float64, **options):
    return Kumaraswamy(torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype), **options)


def log1mexp(x):
    return math.log(-math.expm1(x)) if x > -math.log(2) else math.log1p(-math.exp(x))


def expected(a, b, function):
    """E[function(log v, log(1 - v))] over log u, of which v is a function that keeps its digits at both ends."""

    def at(t):
        power = log1mexp(t / b)
        log_v = power / a
        log_rest = log1mexp(log_v) if log_v < 0 else t / b - math.log(a)
        return math.exp(t) * function(log_v, log_rest)

    cuts = [-60.0, -30.0, -5.0, -1.0, -0.1, -1e-3, -1e-6, -1e-12]
    return sum(integrate.quad(at, *ends, epsabs=1e-13, epsrel=1e-12, limit=300)[0] for ends in pairwise(cuts))


@every_pair
def test_the_moments_are_the_integrals(a, b):
    q = q_of(a, b)
    mean = expected(a, b, lambda log_v, _: math.exp(log_v))
    square = expected(a, b, lambda log_v, _: math.exp(2 * log_v))
    assert float(q.mean) == pytest.approx(mean, rel=1e-9)
    assert float(q.variance) == pytest.approx(square - mean**2, abs=1e-9)
    assert float(q.mean_log()) == pytest.approx(expected(a, b, lambda log_v, _: log_v), rel=1e-8)


@every_pair
def test_the_mean_log_of_the_rest_is_the_integral(a, b):
    exact = expected(a, b, lambda _, log_rest: log_rest)
    assert float(q_of(a, b).mean_log_rest()) == pytest.approx(exact, abs=1e-7)
    assert float(q_of(a, b, torch.float32).mean_log_rest()) == pytest.approx(exact, abs=1e-5)


@every_pair
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 5.0), (5.0, 1.0), (2.0, 3.0)])
def test_the_kl_to_a_beta_is_the_integral(a, b, alpha, beta):
    def ratio(log_v, log_rest):
        # log(1 - v^a) from log v, where v is not yet 1
        log_q = math.log(a * b) + (a - 1) * log_v + (b - 1) * (log1mexp(a * log_v) if a * log_v < 0 else -700.0)
        log_p = (alpha - 1) * log_v + (beta - 1) * log_rest - betaln(alpha, beta)
        return log_q - log_p

    p = Beta(torch.tensor(alpha).double(), torch.tensor(beta).double())
    assert float(kl_divergence(q_of(a, b), p)) == pytest.approx(expected(a, b, ratio), abs=1e-6)


@every_pair
def test_the_kl_agrees_with_samples(a, b):
    p = Beta(torch.tensor(1.0).double(), torch.tensor(5.0).double())
    assert abs(testing.kl_z_score(q_of(a, b), p, samples=20_000)) < 4


@pytest.mark.parametrize("a", [100.0, 9000.0])
def test_the_kl_of_the_family_agrees_with_samples_in_single_precision(a):
    sticks = families.Kumaraswamy(1)
    q = sticks(distributions.unbounded_scale(torch.tensor([a])), torch.tensor([-20.0]))
    p = priors.Sticks(1, 1.0, 5.0)()
    torch.manual_seed(0)
    v = q.rsample((500_000,))
    weights = (q.log_prob(v) - p.log_prob(v)).double()
    assert abs(float(weights.mean() - closed_form_kl(q, p))) < 0.02 + 4 * float(weights.std()) / len(v) ** 0.5


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1e4), (1e3, 1e3), (1e6, 1.0), (1e4, 1e5)])
def test_a_beta_keeps_its_digits_in_single_precision(alpha, beta):
    v, q = torch.tensor(0.375), Kumaraswamy(torch.tensor(1e4), torch.tensor(1.5))
    density = float(distributions.Beta(torch.tensor(alpha), torch.tensor(beta)).log_prob(v))
    assert density == pytest.approx(scipy_beta(alpha, beta).logpdf(0.375), rel=1e-6, abs=1e-6)
    kl = float(kl_divergence(q, distributions.Beta(torch.tensor(alpha), torch.tensor(beta))))
    exact = Beta(torch.tensor(alpha).double(), torch.tensor(beta).double())
    assert kl == pytest.approx(float(kl_divergence(q_of(1e4, 1.5), exact)), rel=1e-6, abs=2e-6)


def test_ten_terms_understate_the_kl_as_the_docstring_says():
    p = Beta(torch.tensor(1.0).double(), torch.tensor(5.0).double())
    for a, missing in ((1.0, 0.364), (10.0, 2.675)):
        left_out = kl_divergence(q_of(a, 1.0), p) - kl_divergence(q_of(a, 1.0, terms=10), p)
        assert float(left_out) == pytest.approx(missing, abs=1e-3)
    many = kl_divergence(q_of(2.0, 3.0, terms=20_000), p)
    assert float(many) == pytest.approx(float(kl_divergence(q_of(2.0, 3.0), p)), abs=1e-6)


def test_it_is_beta_where_one_concentration_is_one():
    v = torch.linspace(0.01, 0.99, 9, dtype=torch.float64)
    one, four = torch.tensor(1.0).double(), torch.tensor(4.0).double()
    torch.testing.assert_close(Kumaraswamy(four, one).log_prob(v), Beta(four, one).log_prob(v))
    torch.testing.assert_close(Kumaraswamy(one, four).log_prob(v), Beta(one, four).log_prob(v))
    for pair in ((four, one), (one, four)):
        assert abs(float(kl_divergence(Kumaraswamy(*pair), Beta(*pair)))) < 1e-12


@every_pair
def test_samples_follow_the_density_and_have_its_gradient(a, b):
    torch.manual_seed(1)
    raw = torch.tensor([a, b], dtype=torch.float64).log().requires_grad_()
    q = Kumaraswamy(*raw.exp())
    v = q.rsample((20_000,))
    z = (v.mean() - q.mean) / (v.std() / len(v) ** 0.5)
    assert z.detach().abs() < 4
    pathwise = torch.autograd.grad(v.log().mean(), raw, retain_graph=True)[0]
    exact = torch.autograd.grad(q.mean_log(), raw)[0]
    torch.testing.assert_close(pathwise, exact, rtol=0.15, atol=0.01)


def test_single_precision_is_finite_at_both_ends():
    a, b = torch.tensor([0.1, 1e4, 1.0, 1e4]), torch.tensor([0.5, 0.5, 1e8, 1e8])
    ends = torch.tensor([0.0, torch.finfo(torch.float32).tiny, 1e-20, 0.5, 1 - 6e-8, 1.0])[:, None]
    raw = torch.stack([a, b]).requires_grad_()
    log_prob = Kumaraswamy(*raw).log_prob(ends)
    torch.manual_seed(0)
    v = Kumaraswamy(*raw).rsample((5000,))
    assert log_prob.isfinite().all() and ((v > 0) & (v < 1)).all()
    (log_prob.sum() + v.log().sum() + Kumaraswamy(*raw).log_prob(v).sum()).backward()
    assert raw.grad.isfinite().all()


def test_pieces_of_a_stick_add_up_to_one_and_have_the_known_mean():
    torch.manual_seed(0)
    prior = priors.StickBreaking(9, alpha=5.0)
    v = prior().sample((50_000,))
    pieces = prior.unpack(v)
    assert pieces.shape == (50_000, 10)
    torch.testing.assert_close(pieces.sum(-1), torch.ones(50_000))
    mean = torch.tensor([5.0**t / 6.0 ** (t + 1) for t in range(9)] + [(5 / 6) ** 9])
    z = (pieces.mean(0) - mean) / (pieces.std(0) / 50_000**0.5)
    assert z.abs().max() < 4
    assert stick_breaking(torch.ones(3)).tolist() == [1, 0, 0, 0]


def test_falling_probabilities_are_products_to_the_last_digit():
    v = torch.tensor([0.9, 0.5, 1e-30, 1e-30, 0.7], dtype=torch.float64)
    torch.testing.assert_close(torch.sigmoid(falling_logits(v)), torch.cumprod(v, -1), rtol=1e-12, atol=0)
    assert falling_logits(torch.tensor([1.0, 1.0, 0.0])).isfinite().all()


def small_model():
    posterior = Conditional(nets.mlp(6, 8, hidden=(8,)), families.Kumaraswamy(4))
    likelihood = Conditional(nets.mlp(5, 6, hidden=(8,)), families.Bernoulli(6))
    return VAE(priors.StickBreaking(4, alpha=5.0), likelihood, posterior)


def test_the_bound_by_formula_is_that_by_samples():
    torch.manual_seed(0)
    model, x = small_model(), torch.eye(6)[:3]
    draw = model.draw(x, k=20_000)
    sampled = draw.groups[0].log_posterior - draw.groups[0].log_prior
    exact = closed_form_kl(draw.groups[0].posterior, draw.groups[0].prior)
    z = (sampled.mean(0) - exact) / (sampled.std(0) / 20_000**0.5)
    assert z.abs().max() < 4
    assert objectives.ELBO()(model, x).bound.shape == (3,)


def test_what_is_reported_is_a_bound_even_where_the_kl_is_cut_short():
    model = small_model()
    model.posterior.family = families.Kumaraswamy(4, terms=1)
    x, k = torch.eye(6)[:4], 20_000
    torch.manual_seed(0)
    cut, sampled = objectives.ELBO(k)(model, x), model.draw(x, None, k).log_weight
    se = (2 * sampled.var(0).sum() / k).sqrt() / len(x)
    assert -cut.loss > sampled.mean() + 10 * se  # the series says too little, or the test shows nothing
    assert (cut.bound.mean() - sampled.mean()).abs() < 4 * se


def cut(inputs, size):
    return Conditional(nets.mlp(inputs, 2 * size, hidden=()), families.Kumaraswamy(size, terms=1))


class Below(nn.Module):
    """Sticks that no state above changes."""

    def __init__(self):
        super().__init__()
        self.sticks = priors.Sticks(2, 1.0, 5.0)

    def forward(self, state, given=None):
        return self.sticks(given)


def shared_sticks():
    about = posteriors.Sticks(2, 1.0)
    about.family = families.Kumaraswamy(2, terms=1)
    encoder = posteriors.OnSticks(nets.mlp(6, 6, hidden=()), families.FeatureLoadings(2))
    decoder = Conditional(nets.mlp(2, 6), families.Bernoulli(6))
    return SharedVAE(priors.IndianBuffet(2, alpha=2.0), decoder, encoder, priors.Sticks(2, 1.0, 5.0), about, rows=3)


def ladder():
    normal = Conditional(nets.mlp(6, 4), families.Normal(2, families.PredictedScale()))
    with torch.no_grad():
        normal.net[-1].bias.fill_(3.0)  # a KL that is missed where it is left out
    top = Rung(priors.StandardNormal(2), normal, nets.ResidualUpdate(2, 8))
    below = Rung(Below(), cut(8 + 6, 2), nets.ResidualUpdate(2, 8))
    return TopDown(nn.Flatten(), [top, below], Conditional(nets.mlp(8, 6), families.Bernoulli(6)))


def plain():
    return VAE(priors.Sticks(2, 1.0, 5.0), Conditional(nets.mlp(2, 6), families.Bernoulli(6)), cut(6, 2))


@pytest.mark.parametrize(
    ("make", "objective"),
    [
        (plain, objectives.BetaTCVAE(rows=100)),
        (ladder, objectives.ELBO()),
        (shared_sticks, objectives.ELBO()),
        (shared_sticks, objectives.IWAE(1)),
    ],
)
def test_of_each_kl_that_is_cut_short_the_samples_are_reported(make, objective):
    torch.manual_seed(0)
    model, x = make(), torch.eye(6)
    with seeded(1):
        bound = objective(model, x).bound
    with seeded(1):
        draw = model.draw(x)
    expected = draw.log_likelihood.mean(0)
    for group in (*draw.groups, *draw.shared):
        sampled = group.log_posterior - group.log_prior
        sampled = sampled.mean(0) if sampled.ndim else sampled
        formula = None if isinstance(objective, objectives.IWAE) else closed_form_kl(group.posterior, group.prior)
        kl = sampled if formula is None or is_cut_short(group.posterior) else formula
        expected = expected - kl / getattr(group, "rows", 1)
    torch.testing.assert_close(bound, expected)


def test_a_row_draws_the_same_sticks_in_any_batch():
    model = small_model().eval()
    x = torch.eye(6)
    with RowNoise([3, 4, 5]):
        some = model.draw(x[:3], k=5).groups[0].z
    with RowNoise([5, 3]):
        others = model.draw(x[[2, 0]], k=5).groups[0].z
    torch.testing.assert_close(some[:, [2, 0]], others)
    whole = evaluation.bounds(model, x, k=3).log_likelihood
    assert torch.equal(whole[2:4], evaluation.bounds(model, x[2:4], k=3).log_likelihood)


@pytest.mark.parametrize(
    "make",
    [
        lambda: families.Kumaraswamy(3, terms=0),
        lambda: priors.StickBreaking(3, alpha=0.0),
        lambda: priors.Sticks(0),
        lambda: priors.IndianBuffet(3, alpha=-1.0),
        lambda: families.FeatureLoadings(3, temperature=0.0),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(OptionError):
        make()


def test_the_variance_of_a_narrow_stick_keeps_its_digits():
    for a, b in ((1e4, 1.0), (1e3, 5.0), (30.0, 1.0)):
        narrow = Kumaraswamy(torch.tensor(a), torch.tensor(b))
        first, second = (b * math.exp(betaln(1 + m / a, b)) for m in (1, 2))
        assert narrow.variance.dtype == torch.float32
        assert float(narrow.variance) == pytest.approx(second - first**2, rel=1e-5)
