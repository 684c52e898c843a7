"""Hamiltonian Monte Carlo against known densities."""

import importlib
import itertools
import math

import pytest
import torch
from torch.distributions import Dirichlet, LogNormal, OneHotCategorical

from jensen import VAE, JensenError, testing
from jensen.inference import hmc, posterior_chains
from jensen.inference.transitions import leapfrog, locate, transition
from jensen.noise import RowNoise


def quartic(z):
    return (-(0.3 * z.square().square() + (z[..., :1] * z).cos()).sum(-1),)


def oracle(latents=3, noise=0.7):
    weight = torch.randn(6, latents, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return testing.LinearGaussian(weight, noise)


def rows(source, n=3):
    torch.manual_seed(1)
    return source.evidence.sample((n,))


def start(seed=0, chains=50, n=4, size=3):
    return torch.randn(chains, n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def energy_error(step, steps):
    point, momentum = locate(quartic, start()), start(1)
    end, last = leapfrog(quartic, point, momentum, (1.0,), torch.tensor(step, dtype=torch.float64), steps)
    kinetic = 0.5 * (last.square() - momentum.square()).sum(-1)
    return float((kinetic - end.log_density[0] + point.log_density[0]).abs().mean())


def test_halving_the_step_quarters_the_energy_error():
    errors = [energy_error(0.08 / 2**i, 10 * 2**i) for i in range(4)]
    ratios = [a / b for a, b in itertools.pairwise(errors)]
    assert errors[-1] > 1e-9
    assert all(3.8 < ratio < 4.2 for ratio in ratios), ratios


def test_a_trajectory_runs_back_to_its_start():
    point, momentum, step = locate(quartic, start()), start(1), torch.tensor(0.05, dtype=torch.float64)
    end, last = leapfrog(quartic, point, momentum, (1.0,), step, 20)
    back, first = leapfrog(quartic, end, -last, (1.0,), step, 20)
    assert (back.z - point.z).abs().max() < 1e-10
    assert (first + momentum).abs().max() < 1e-10


def test_what_a_point_remembers_is_that_of_its_position():
    def two(z):
        return quartic(z)[0], -0.5 * z.square().sum(-1)

    point, step = locate(two, start()), torch.full((4,), 0.6, dtype=torch.float64)
    noise = RowNoise(range(4))
    refused = False
    for _ in range(5):
        before = point.z
        point, probability = transition(two, point, (0.3, 0.7), step, leapfrogs=3, noise=noise)
        stayed = (point.z == before).all(-1)
        refused = refused or bool(stayed.any() and not stayed.all())
        assert probability.min() >= 0 and probability.max() <= 1
        again = locate(two, point.z)
        for kept, new in zip((*point.log_density, *point.gradient), (*again.log_density, *again.gradient), strict=True):
            assert torch.equal(kept, new)
    assert refused


@pytest.mark.parametrize("step", [0.8, 1.5])
def test_a_transition_leaves_its_target_invariant(step):
    """Exact draws of a weighted sum of two log-densities stay such draws, also where many proposals are refused."""

    def two(z):
        return -0.5 * z.square().sum(-1), -0.5 * ((z - 1) / 0.5).square().sum(-1)

    precision = 0.4 + 0.6 / 0.25
    mean, scale = 0.6 / 0.25 / precision, precision**-0.5
    chains = 20_000
    point = locate(two, mean + scale * start(chains=chains, n=2, size=2))
    noise = RowNoise([3, 4])
    for _ in range(4):
        point, probability = transition(
            two, point, (0.4, 0.6), torch.full((2,), step * scale), leapfrogs=3, noise=noise
        )
    assert probability.mean() < 0.97
    white = (point.z - mean) / scale
    for power, expected, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        z_score = ((white**power).mean(0) - expected) / (spread / chains) ** 0.5
        assert z_score.abs().max() < 4, (power, z_score)


def test_moments_of_a_gaussian_posterior():
    source = oracle()
    x = rows(source)
    chains = posterior_chains(source.model, x, chains=4, draws=600, warmup=300)
    posterior = source.model.posterior(x)
    assert chains.z.shape == (600, 4, 3, 3)
    assert chains.r_hat.shape == chains.ess_bulk.shape == chains.ess_tail.shape == (3, 3)
    assert chains.r_hat.max() < 1.02
    assert chains.ess_bulk.min() > 400 and chains.ess_tail.min() > 400
    assert ((chains.acceptance - 0.8).abs() < 0.12).all()
    white = (chains.z - posterior.mean) / posterior.variance.sqrt()
    z_score = white.mean((0, 1)) * chains.ess_bulk.sqrt()
    assert z_score.abs().max() < 4
    own = hmc(lambda z: -0.5 * z.square().sum(-1), start(chains=4), draws=10, warmup=20)
    assert own.z.shape == (10, 4, 4, 3)
    # The square of a normal has variance 2, and mixes no worse than half as fast as its value.
    assert ((white.square().mean((0, 1)) - 1) * (chains.ess_bulk / 4).sqrt()).abs().max() < 4


def test_the_warm_up_finds_scales_that_differ_a_hundredfold():
    scale = torch.tensor([0.01, 1.0, 1.0], dtype=torch.float64)
    chains = hmc(lambda z: -0.5 * (z / scale).square().sum(-1), 0.01 * start(chains=4), draws=300, warmup=300)
    assert (chains.scale.log() - scale.log()).abs().max() < 1
    assert chains.r_hat.max() < 1.05
    z_score = chains.z.mean((0, 1)) / scale * chains.ess_bulk.sqrt()
    assert z_score.abs().max() < 4


def test_chains_that_never_meet_are_seen():
    def two_modes(z):
        return torch.logaddexp(-50 * (z - 3).square().sum(-1), -50 * (z + 3).square().sum(-1))

    begin = torch.tensor([-3.0, 3.0, -3.0, 3.0], dtype=torch.float64)[:, None, None] + 0.01 * start(0, 4, 1, 1)
    assert hmc(two_modes, begin, draws=100, warmup=100).r_hat.max() > 1.5


def test_step_sizes_stay_as_they_are_after_the_warm_up(monkeypatch):
    steps = []
    monkeypatch.setattr(
        importlib.import_module("jensen.inference.hmc"),
        "transition",
        lambda *args, **options: steps.append(args[3]) or transition(*args, **options),
    )
    chains = hmc(lambda z: -0.5 * z.square().sum(-1), start(chains=2), draws=30, warmup=40)
    assert len(steps) == 70
    assert all(torch.equal(step, chains.step) for step in steps[40:])
    assert not torch.equal(steps[0], steps[39])


def test_a_row_does_not_depend_on_the_rows_around_it():
    source = oracle()
    x = rows(source, 20)
    options = {"chains": 2, "draws": 5, "warmup": 20}
    together = posterior_chains(source.model, x, **options)
    order = torch.tensor([18, 3, 7])
    alone = posterior_chains(source.model, x[order], **options)
    assert torch.equal(together.z[:, :, order], alone.z)
    assert torch.equal(together.step[order], alone.step)
    other = posterior_chains(source.model, x[order], seed=1, **options)
    assert not torch.equal(other.z, alone.z)


class Fixed(torch.nn.Module):
    def __init__(self, distribution):
        super().__init__()
        self.distribution = distribution

    def forward(self, given=None):
        return self.distribution


@pytest.mark.parametrize(
    ("prior", "reason"),
    [
        (OneHotCategorical(torch.ones(3)), "discrete"),
        (Dirichlet(torch.ones(3)), "leave"),
        (torch.distributions.Independent(LogNormal(torch.zeros(3), torch.ones(3)), 1), "leave"),
    ],
)
def test_what_is_not_any_real_vector_is_refused(prior, reason):
    source = oracle()
    model = VAE(Fixed(prior), source.model.likelihood, source.model.posterior)
    with pytest.raises(JensenError, match=reason):
        posterior_chains(model, rows(source))


def test_a_mixture_of_normals_is_accepted():
    source = oracle()
    parts = torch.distributions.Independent(
        torch.distributions.Normal(torch.zeros(2, 3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64)), 1
    )
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(2)), parts)
    model = VAE(Fixed(mixture), source.model.likelihood, source.model.posterior)
    assert posterior_chains(model, rows(source), chains=2, draws=2, warmup=20).z.isfinite().all()


def test_a_bad_start_and_bad_options_are_refused():
    with pytest.raises(JensenError, match="start of chain 0 of row 2"):
        hmc(lambda z: z.sum(-1) * torch.tensor([1.0, 1.0, math.nan, 1.0]), start())
    with pytest.raises(JensenError, match="expected \\(K, B"):
        hmc(lambda z: -z.square().sum(-1), torch.zeros(3, 2))
    for options in ({"draws": 0}, {"warmup": 3}, {"leapfrogs": 0}, {"acceptance": 1.0}):
        with pytest.raises(JensenError):
            hmc(lambda z: -z.square().sum(-1), start(), **options)
