"""Every prior with every posterior, likelihood, objective and estimator: what composes, and why the rest does not.

The accepted set is a snapshot in ``contract.txt``; write it anew with ``python -m tests.test_contract``.
"""

import itertools
import json
import math
from pathlib import Path
from statistics import NormalDist

import pytest
import torch
from torch import nn
from torch.distributions import LogNormal, Normal

from jensen import VAE, Conditional, families, nets, objectives, posteriors, priors, spec, testing
from jensen.conditional import distribution_at
from jensen.distributions import space_of
from jensen.errors import OptionError
from jensen.noise import seeded
from jensen.roles import Given

SIZE = 4
ROWS = 6


def outputs(family):
    return sum(math.prod(shape) for shape in family.parameter_shapes)


def coder(inputs, family):
    return Conditional(nets.mlp(inputs, outputs(family), (8,)), family)


def amortised(family):
    return lambda prior: coder(SIZE, family())


PRIORS = {
    "standard": lambda posterior: priors.StandardNormal(2),
    "mixture": lambda posterior: priors.Mixture(2, 3),
    "vamp": lambda posterior: priors.VampPrior(posterior, torch.rand(3, SIZE)),
    "flow": lambda posterior: priors.Flow(2),
    "sphere": lambda posterior: priors.UniformSphere(3),
    "coins": lambda posterior: priors.Bernoulli(3),
    "dice": lambda posterior: priors.Categorical(2, 3),
    "named": lambda posterior: priors.Named(rate=LogNormal(0.0, 0.5), shift=Normal(0.0, 1.0)),
}
POSTERIORS = {
    "diagonal": lambda: coder(SIZE, families.Normal(2, families.PredictedScale())),
    "full": lambda: coder(SIZE, families.FullNormal(2)),
    "low-rank": lambda: coder(SIZE, families.LowRankNormal(2, 1)),
    "mixture": lambda: coder(SIZE, families.NormalMixture(2, 3)),
    "flow": lambda: posteriors.Flow(nets.mlp(SIZE, 8, (8,)), 2, 8, hidden=(8,)),
    "local": lambda: posteriors.Local(ROWS, families.FullNormal(2)),
    "spherical": lambda: coder(SIZE, families.PowerSpherical(3)),
    "coins": lambda: coder(SIZE, families.Bernoulli(3)),
    "relaxed-coins": lambda: coder(SIZE, families.StraightThroughBernoulli(3)),
    "dice": lambda: coder(SIZE, families.OneHotCategorical(2, 3)),
    "relaxed-dice": lambda: coder(SIZE, families.StraightThroughCategorical(2, 3)),
}
LIKELIHOODS = {
    "normal": lambda: families.Normal(SIZE),
    "student": lambda: families.StudentT(SIZE),
    "log-normal": lambda: families.LogNormal(SIZE),
    "continuous-bernoulli": lambda: families.ContinuousBernoulli(SIZE),
    "bernoulli": lambda: families.Bernoulli(SIZE),
    "categorical": lambda: families.Categorical(SIZE, levels=3),
    "logistic": lambda: families.DiscretizedLogistic(SIZE, levels=3),
    "logistic-mixture": lambda: families.DiscretizedLogisticMixture(SIZE, levels=3, components=2),
}
ESTIMATORS = {
    "reparameterised": objectives.Reparameterised,
    "sticking": objectives.StickingTheLanding,
    "doubly": objectives.DoublyReparameterised,
    "leave-one-out": objectives.LeaveOneOut,
}
ESTIMATED = {
    "elbo": lambda e: objectives.ELBO(2, estimator=e),
    "elbo-free-bits": lambda e: objectives.ELBO(2, free_bits=0.01, estimator=e),
    "elbo-group-free-bits": lambda e: objectives.ELBO(2, free_bits_per_group=0.01, estimator=e),
    "iwae": lambda e: objectives.IWAE(3, estimator=e),
    "miwae": lambda e: objectives.MIWAE(2, 2, estimator=e),
    "piwae": lambda e: objectives.PIWAE(2, 2, estimator=e),
    "ciwae": lambda e: objectives.CIWAE(3, 0.5, estimator=e),
    "renyi": lambda e: objectives.Renyi(3, 0.5, estimator=e),
    "renyi-negative": lambda e: objectives.Renyi(3, -1.0, estimator=e),
}
WHOLE = {
    "beta-tcvae": lambda: objectives.BetaTCVAE(ROWS, 2.0),
    "dip": objectives.DIP,
    "mmd": objectives.MMD,
    "wake-sleep": lambda: objectives.ReweightedWakeSleep(3, sleep=0.5),
}
OBJECTIVES = {
    **{
        f"{name} {estimator}": lambda make=make, kind=kind: make(kind())
        for (name, make), (estimator, kind) in itertools.product(ESTIMATED.items(), ESTIMATORS.items())
    },
    **WHOLE,
}
SNAPSHOT = Path(__file__).with_name("contract.txt")


def given():
    return Given(index=torch.arange(ROWS))


def make(prior, posterior, likelihood="bernoulli"):
    with seeded(0, "contract"):
        q = POSTERIORS[posterior]()
        p = PRIORS[prior](q)
        event = 2 if prior == "named" else p().event_shape.numel()
        family = LIKELIHOODS[likelihood]()
        if prior == "named":
            return VAE(p, Physics(family), q)
        decoder = nets.mlp(event, outputs(family), (8,))
        return VAE(p, Conditional(decoder, family, event_dims=len(p().event_shape)), q)


@spec.declared("tests.Physics")
class Physics(nn.Module):
    """A likelihood that takes named latents."""

    def __init__(self, family):
        super().__init__()
        self.family = family
        self.net = nets.mlp(2, outputs(family), (8,))

    @property
    def measure(self):
        return self.family.measure

    def forward(self, z, given=None):
        values = torch.stack([z["rate"].log(), z["shift"]], -1)
        raw = self.net(values.reshape(-1, 2)).reshape(*values.shape[:-1], -1)
        return distribution_at(self.family, raw)


def data(likelihood, rows=ROWS):
    generator = torch.Generator().manual_seed(7)
    x = torch.rand(rows, SIZE, generator=generator)
    if LIKELIHOODS[likelihood]().measure == "density":
        return x + 0.1 if likelihood == "log-normal" else x
    return (2 * x).round() / 2 if likelihood != "bernoulli" else x.round()


def reason_against(prior, posterior, objective, likelihood="bernoulli"):
    """Why something does not compose, or None."""
    try:
        model = make(prior, posterior, likelihood)
        with seeded(1):
            OBJECTIVES[objective]()(model, data(likelihood), given())
    except OptionError as error:
        return str(error)
    return None


def accepted():
    return [
        " · ".join((prior, posterior, objective))
        for prior, posterior in itertools.product(PRIORS, POSTERIORS)
        for objective in OBJECTIVES
        if reason_against(prior, posterior, objective) is None
    ]


COMPOSITIONS = [tuple(line.split(" · ")) for line in SNAPSHOT.read_text().splitlines()] if SNAPSHOT.exists() else []
PAIRS = sorted({(prior, posterior) for prior, posterior, _ in COMPOSITIONS})
every_pair = pytest.mark.parametrize(("prior", "posterior"), PAIRS, ids=lambda value: value)


def test_the_accepted_set_is_the_one_written_down(record_property):
    found = accepted()
    record_property("compositions", len(found) * len(LIKELIHOODS))
    assert found == SNAPSHOT.read_text().splitlines()


def test_each_refusal_names_its_reason():
    reasons = [
        reason_against(prior, posterior, objective)
        for prior, posterior in itertools.product(PRIORS, POSTERIORS)
        for objective in OBJECTIVES
    ]
    refused = [reason for reason in reasons if reason is not None]
    assert len(refused) + len(COMPOSITIONS) == len(reasons)
    assert [reason for reason in refused if len(reason) <= 60 or not set(":;,") & set(reason)] == []


def check_gradients(prior, posterior, likelihood, objective):
    model = make(prior, posterior, likelihood)
    with seeded(2):
        result = OBJECTIVES[objective]()(model, data(likelihood), given(), 10)
    assert result.loss.isfinite()
    result.loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, (name, likelihood, objective)
        assert parameter.grad.isfinite().all(), (name, likelihood, objective)


@every_pair
def test_every_parameter_gets_a_finite_gradient(prior, posterior):
    likelihoods = itertools.cycle(LIKELIHOODS)
    for p, q, objective in COMPOSITIONS:
        if (p, q) == (prior, posterior):
            check_gradients(prior, posterior, next(likelihoods), objective)


@pytest.mark.slow
@every_pair
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_parameter_gets_a_finite_gradient_with_every_likelihood(prior, posterior, likelihood):
    for p, q, objective in COMPOSITIONS:
        if (p, q) == (prior, posterior):
            check_gradients(prior, posterior, likelihood, objective)


@every_pair
def test_a_composition_survives_being_written_and_read(prior, posterior):
    for likelihood in LIKELIHOODS:
        model = make(prior, posterior, likelihood).eval()
        document, tensors, _ = spec.describe(model)
        names = {**spec.own_names(), "tests.Physics": Physics}
        copy = spec.build(spec.parse(json.loads(json.dumps(document.model_dump()))), tensors, names).eval()
        copy.load_state_dict(model.state_dict())
        draws = []
        for each in (model, copy):
            with seeded(4), torch.no_grad():
                draws.append(each.draw(data(likelihood), given(), 3).log_weight)
        assert torch.equal(*draws), likelihood


def sphere_grid(points=20_000):
    """Points spread evenly over the sphere in three dimensions (Fibonacci)."""
    i = torch.arange(points, dtype=torch.float64) + 0.5
    height, angle = 1 - 2 * i / points, math.pi * (1 + 5**0.5) * i
    radius = (1 - height.square()).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1)


def states(prior):
    if prior == "coins":
        return torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64)
    faces = torch.eye(3, dtype=torch.float64)
    return torch.stack([torch.stack(pair) for pair in itertools.product(faces, repeat=2)])


def exact(model, prior, x):
    """log p(x) by quadrature or enumeration, in float64."""
    space = space_of(model.prior().support)
    with torch.no_grad():
        if space == "real numbers":
            return testing.quadrature(model, x, width=9.0, points=301)
        grid = sphere_grid() if space.startswith("points") else states("coins" if "zeros" in space else "dice")
        z = grid[:, None].expand(-1, len(x), *grid.shape[1:])
        total = model.log_joint(x, z).logsumexp(0)
        return total + math.log(4 * math.pi / len(grid)) if space.startswith("points") else total


@every_pair
def test_bounds_keep_what_they_declare_against_the_exact_evidence(prior, posterior):
    repeats = 300
    likelihood = list(LIKELIHOODS)[PAIRS.index((prior, posterior)) % len(LIKELIHOODS)]
    model = make(prior, posterior, likelihood).double()
    x = data(likelihood).double()
    evidence = exact(model, prior, x).repeat(repeats)
    index = torch.arange(ROWS).repeat(repeats)
    worst = NormalDist().inv_cdf(1 - 1e-3 / len(COMPOSITIONS))
    for p, q, objective in COMPOSITIONS:
        if (p, q) == (prior, posterior) and OBJECTIVES[objective]().kind == "lower":
            with seeded(5, objective):
                bound = OBJECTIVES[objective]()(model, x.repeat(repeats, 1), Given(index=index)).bound.detach()
            excess = (bound - evidence).reshape(repeats, ROWS).mean(1)
            assert float(excess.mean()) <= worst * float(excess.std()) / repeats**0.5 + 1e-9, objective
    with seeded(6), torch.no_grad():
        log_weight = model.draw(x.repeat(repeats, 1), Given(index=index), 16).log_weight
    means = [log_weight[:k].logsumexp(0) - math.log(k) for k in (1, 4, 16)]
    values = torch.stack([mean.reshape(repeats, ROWS).mean(1) for mean in means])
    gains = values.diff(dim=0)
    assert (gains.mean(1) >= -worst * gains.std(1) / repeats**0.5 - 1e-9).all()


if __name__ == "__main__":
    SNAPSHOT.write_text("\n".join(accepted()) + "\n", encoding="utf-8")
