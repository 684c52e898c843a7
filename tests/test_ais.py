"""Annealed importance sampling, forward and in reverse, against exact log-likelihoods."""

import importlib
import math

import pytest
import torch
from torch.distributions import Dirichlet, OneHotCategorical

from jensen import VAE, Conditional, JensenError, families, nets, priors, testing
from jensen.inference import Sigmoidal, ais, bdmc, reverse_ais
from jensen.inference.ais import path_densities
from jensen.inference.transitions import transition
from jensen.model import Autoencoder
from jensen.numbers import mean_and_se


def oracle(latents, noise=1.0, size=None):
    """Each of 2Z dimensions has as much signal as noise."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(size or 2 * latents, latents, generator=generator, dtype=torch.float64)
    return testing.LinearGaussian(weight / math.sqrt(latents), noise)


def rows(source, n=16, seed=1):
    torch.manual_seed(seed)
    return source.evidence.sample((n,))


def both_ways(latents, temperatures, chains, leapfrogs):
    """The errors of both directions on 16 rows, means and standard errors; reverse from exact posterior samples."""
    source = oracle(latents)
    x = rows(source)
    z = source.model.posterior(x).sample((chains,))
    forward = ais(source.model, x, temperatures=temperatures, chains=chains, leapfrogs=leapfrogs)
    backward = reverse_ais(source.model, x, z, forward)
    exact = source.log_evidence(x)
    return [mean_and_se(side.log_likelihood - exact) for side in (forward, backward)]


@pytest.mark.parametrize("latents", [2, 10, 50])
def test_forward_and_reverse_bracket_the_evidence(latents):
    (below, below_se), (above, above_se) = both_ways(latents, temperatures=300, chains=32, leapfrogs=3)
    assert below < 3 * below_se
    assert above > -3 * above_se
    assert above - below < {2: 0.05, 10: 0.2, 50: 1.5}[latents]


@pytest.mark.slow
@pytest.mark.parametrize("latents", [2, 10, 50])
def test_with_5000_temperatures_they_close(latents):
    (below, below_se), (above, above_se) = both_ways(latents, temperatures=5000, chains=64, leapfrogs=5)
    found = f"forward {below:+.4f} ± {below_se:.4f}, reverse {above:+.4f} ± {above_se:.4f}"
    assert -0.05 < below < 3 * below_se, found
    assert -3 * above_se < above < 0.05, found


@pytest.mark.parametrize("temperatures", [1, 2, 8])
def test_weights_are_unbiased_however_few_the_temperatures(temperatures):
    source = oracle(2, noise=0.6)
    x = rows(source)
    chains = 4000
    forward = ais(source.model, x, temperatures=temperatures, chains=chains, leapfrogs=3)
    torch.manual_seed(2)
    backward = reverse_ais(source.model, x, source.model.posterior(x).sample((chains,)), forward)
    exact = source.log_evidence(x)
    ratio = (forward.log_weight - exact).exp()
    z_score = (ratio.mean(0) - 1) / (ratio.std(0) / math.sqrt(chains))
    assert z_score.abs().max() < 4
    # In reverse the weights of plain importance sampling may have no variance; a bounded function of them has a mean:
    # the forward weights w and reverse weights v have E f(w) w / p(x) = E f(1 / v).
    share = (1 + (exact - forward.log_weight).exp()).reciprocal() * ratio
    other = (1 + (exact + backward.log_weight).exp()).reciprocal()
    se = ((share.var(0) + other.var(0)) / chains).sqrt()
    assert ((share.mean(0) - other.mean(0)) / se).abs().max() < 4


def test_the_variance_of_weights_falls_as_temperatures_rise():
    source = oracle(10)
    x = rows(source)
    spread = [float(ais(source.model, x, temperatures=t, leapfrogs=3).log_weight.var(0).mean()) for t in (10, 40, 160)]
    assert spread[0] > 2 * spread[1] > 4 * spread[2]


def test_from_the_exact_posterior_every_weight_is_the_evidence():
    source = oracle(3, noise=0.4)
    x = rows(source)
    start = source.model.posterior
    forward = ais(source.model, x, temperatures=20, chains=4, start=start)
    assert (forward.log_weight - source.log_evidence(x)).abs().max() < 1e-10
    backward = reverse_ais(source.model, x, start(x).sample((4,)), forward)
    assert (backward.log_weight + source.log_evidence(x)).abs().max() < 1e-10
    assert (backward.ess - 4).abs().max() < 1e-8


def test_step_sizes_are_those_of_the_preliminary_run(monkeypatch):
    """While weights are measured, and in reverse, every transition takes the frozen step size of its temperature."""
    module, taken = importlib.import_module("jensen.inference.ais"), []

    def spy(densities, point, weights, step, **options):
        taken.append((weights[1], step.clone()))
        return transition(densities, point, weights, step, **options)

    monkeypatch.setattr(module, "transition", spy)
    source = oracle(2)
    x = rows(source)
    forward = ais(source.model, x, temperatures=30, chains=3, leapfrogs=2)
    assert forward.step_sizes.shape == (29, 16)
    measured = taken[-29:]
    assert [beta for beta, _ in measured] == list(forward.betas[1:-1])
    assert torch.equal(torch.stack([step for _, step in measured]), forward.step_sizes)
    preliminary = torch.stack([step for _, step in taken[:-29]])
    assert not torch.equal(preliminary[0], preliminary[-1])
    taken.clear()
    reverse_ais(source.model, x, source.model.posterior(x).sample(), forward)
    assert [beta for beta, _ in taken] == list(forward.betas[-2:0:-1])
    assert torch.equal(torch.stack([step for _, step in taken]), forward.step_sizes.flip(0))


def test_the_acceptance_is_the_one_aimed_at_all_along_the_path():
    source = oracle(10, noise=0.3)
    found = ais(source.model, rows(source), temperatures=400, chains=8, leapfrogs=5)
    assert ((found.acceptance - 0.65).abs() < 0.15).all()
    # The posterior is much narrower than the prior.
    assert (found.step_sizes[-1] < 0.7 * found.step_sizes[0]).all()


def test_simulated_rows_are_bracketed():
    source = oracle(5)
    bracket = bdmc(source.model, 20, temperatures=200, chains=8, leapfrogs=3, seed=3)
    assert bracket.x.shape == (20, 10) and bracket.z.shape == (20, 5)
    exact = source.log_evidence(bracket.x)
    (below, below_se), (above, above_se) = (
        mean_and_se(side.log_likelihood - exact) for side in (bracket.lower, bracket.upper)
    )
    assert below < 3 * below_se and above > -3 * above_se
    gap, se = bracket.gap
    assert abs(gap - (above - below)) < 1e-12 and 0 < se < 0.1 and gap < 0.3
    lower, upper = bracket.lower.number("simulated"), bracket.upper.number("simulated")
    assert (lower.kind, upper.kind, lower.k, upper.split) == ("lower", "upper", 8, "simulated")
    assert str(lower).startswith("≥") and str(upper).startswith("≤") and "apart by" in str(bracket)
    # The chains back start from one sample, and do not tell how far their mean is off.
    assert lower.mc_se > 0 and math.isnan(upper.mc_se) and math.isnan(upper.ess)
    # x and z belong together: z is a draw of the posterior of x.
    posterior = source.model.posterior(bracket.x)
    white = torch.linalg.solve_triangular(posterior.scale_tril, (bracket.z - posterior.mean)[..., None], upper=False)
    assert abs(float(white.square().mean()) - 1) < 4 * math.sqrt(2 / white.numel())


def small_model():
    torch.manual_seed(0)
    likelihood = Conditional(nets.mlp(4, 30), families.Bernoulli(30))
    posterior = Conditional(nets.mlp(30, 8), families.Normal(4, families.PredictedScale()))
    return VAE(priors.StandardNormal(4), likelihood, posterior)


@pytest.mark.parametrize("from_posterior", [False, True])
def test_a_row_does_not_depend_on_the_rows_around_it(from_posterior):
    model = small_model()
    x = torch.rand(20, 30).round()
    order = torch.tensor([18, 3])
    start = model.posterior if from_posterior else None
    options = {"temperatures": 10, "chains": 5, "leapfrogs": 2, "start": start}
    together, alone = (ais(model, part, **options) for part in (x, x[order]))
    for name in ("log_weight", "step_sizes", "acceptance"):
        assert torch.equal(getattr(together, name)[..., order], getattr(alone, name))
    z = torch.randn(20, 4)
    back, one = reverse_ais(model, x, z, together), reverse_ais(model, x[order], z[order], alone)
    assert torch.equal(back.log_weight[:, order], one.log_weight)
    assert not torch.equal(ais(model, x[order], **options, seed=1).log_weight, alone.log_weight)
    assert together.number().measure == "mass"


def test_the_model_stays_as_it_was():
    model = small_model().train()
    model.likelihood.eval()
    ais(model, torch.rand(3, 30).round(), temperatures=3, chains=2, leapfrogs=1)
    assert model.training and not model.likelihood.training and model.posterior.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_the_truth_of_a_bernoulli_model_is_bracketed():
    torch.manual_seed(0)
    likelihood = Conditional(nets.mlp(2, 12, hidden=(16,)), families.Bernoulli(12))
    posterior = Conditional(nets.mlp(12, 4, hidden=(16,)), families.Normal(2, families.PredictedScale()))
    model = VAE(priors.StandardNormal(2), likelihood, posterior)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter *= 3
    bracket = bdmc(model, 32, temperatures=100, leapfrogs=3)
    exact = testing.quadrature(model, bracket.x, width=7.0, points=141)
    for side, sign in ((bracket.lower, 1), (bracket.upper, -1)):
        error, se = mean_and_se(side.log_likelihood - exact)
        assert sign * error < 3 * se and abs(error) < 0.05


def test_an_autoencoder_with_a_prior_is_scored_without_a_posterior():
    source = oracle(2)
    x, encoder = rows(source), nets.mlp(4, 2, hidden=()).double()
    with pytest.raises(JensenError, match="one prior; Autoencoder has no prior"):
        ais(Autoencoder(encoder, source.model.likelihood, latents=2), x)
    found = ais(Autoencoder(encoder, source.model.likelihood, 2, source.model.prior), x, temperatures=100)
    error = (found.log_likelihood - source.log_evidence(x)) / found.variance.sqrt()
    assert error.abs().max() < 5 and found.variance.max() < 0.1


class Fixed(torch.nn.Module):
    def __init__(self, distribution):
        super().__init__()
        self.distribution = distribution

    def forward(self, given=None):
        return self.distribution


@pytest.mark.parametrize(
    ("prior", "why"), [(OneHotCategorical(torch.ones(2)), "discrete"), (Dirichlet(torch.ones(2)), "leave")]
)
def test_what_is_not_any_real_vector_is_refused(prior, why):
    source = oracle(2)
    model = VAE(Fixed(prior), source.model.likelihood, source.model.posterior)
    with pytest.raises(JensenError, match=why):
        ais(model, rows(source))
    with pytest.raises(JensenError, match=why):
        bdmc(model, 3)
    with pytest.raises(JensenError, match=f"the start.*{why}"):
        ais(source.model, rows(source), start=prior)


def test_bad_options_are_refused():
    source = oracle(2)
    x = rows(source)
    for options in ({"temperatures": 0}, {"chains": 0}, {"leapfrogs": 0}):
        with pytest.raises(JensenError, match="at least 1"):
            ais(source.model, x, **options)
    for schedule in (
        lambda u: u / 2,
        lambda u: 1 - u,
        lambda u: abs(3 * u - 1) - 1 + (u < 1 / 3) * 3 * u,
        lambda u: math.nan,
    ):
        with pytest.raises(JensenError, match="rises from 0 to 1"):
            ais(source.model, x, temperatures=10, schedule=schedule)
    forward = ais(source.model, x, temperatures=2, chains=2)
    with pytest.raises(JensenError, match="same rows"):
        reverse_ais(source.model, x.flip(0), torch.zeros(16, 2).double(), forward)
    with pytest.raises(JensenError, match="expected one sample for each row"):
        reverse_ais(source.model, x, torch.zeros(3, 16, 2).double(), forward)
    with pytest.raises(JensenError, match="n=0"):
        bdmc(source.model, 0)


def test_a_model_that_is_not_finite_is_refused():
    source = oracle(2)
    with torch.no_grad():
        source.model.likelihood.net[-1].bias[0] = math.nan
    with pytest.raises(JensenError, match="not finite"):
        ais(source.model, torch.zeros(3, 4).double(), temperatures=3, chains=2)


def test_the_default_schedule_is_the_sigmoid():
    path = Sigmoidal(4.0)

    def sigmoid(t):
        return 1 / (1 + math.exp(-t))

    for u in (0.0, 0.1, 0.37, 0.5, 0.93, 1.0):
        expected = (sigmoid(4 * (2 * u - 1)) - sigmoid(-4)) / (sigmoid(4) - sigmoid(-4))
        assert abs(path(u) - expected) < 1e-14


def test_the_path_goes_from_the_start_to_the_joint():
    source = oracle(2)
    x = rows(source)
    z = torch.randn(3, 16, 2).double()
    log_start, log_joint = path_densities(source.model, x, None)(z)
    assert torch.equal(log_start, source.model.prior().log_prob(z))
    assert torch.equal(log_joint, source.model.log_joint(x, z))
