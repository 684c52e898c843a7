"""The loop: what it keeps, what it refuses, and that it reaches known answers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from jensen import VAE, Conditional, data, families, nets, objectives, priors, schedules, testing, train
from jensen.errors import DataError, DeadTermError, JensenError, OptionError, SupportError
from jensen.evaluation import bounds, elbo, latents
from jensen.roles import Estimate


def digits() -> torch.Tensor:
    from sklearn.datasets import load_digits

    return torch.tensor(load_digits().data, dtype=torch.float32) / 16


def linear_vae(latents: int, scale: nn.Module, q: nn.Module) -> VAE:
    torch.manual_seed(0)
    outputs = sum(math.prod(shape) for shape in q.parameter_shapes)
    likelihood = Conditional(nets.mlp(latents, 64, hidden=()), families.Normal(64, scale))
    return VAE(priors.StandardNormal(latents), likelihood, Conditional(nets.mlp(64, outputs, hidden=()), q))


def small_vae(size: int = 6) -> VAE:
    torch.manual_seed(0)
    return VAE(
        priors.StandardNormal(2),
        Conditional(nets.mlp(2, size, hidden=(8,)), families.Bernoulli(size)),
        Conditional(nets.mlp(size, 4, hidden=(8,)), families.Normal(2, families.PredictedScale())),
    )


def coins(count: int, size: int = 6) -> torch.Tensor:
    return (torch.rand(count, size, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def test_linear_vae_reaches_the_exact_ppca_likelihood():
    x = digits()
    vae = linear_vae(3, families.SharedScale(0.3), families.FullNormal(3))
    train.fit(vae, objectives.ELBO(4), x, steps=8000, batch_size=256, learning_rate=0.02, select=False)
    gap = elbo(vae, x, k=50).mean - testing.ppca_log_likelihood(x, 3)
    assert -0.01 < gap < 0.001


@pytest.mark.slow
@pytest.mark.parametrize(("latents", "steps"), [(10, 10_000), (20, 20_000)])
def test_wide_linear_vae_reaches_the_exact_ppca_likelihood(latents, steps):
    x = digits()
    vae = linear_vae(latents, families.SharedScale(0.3), families.FullNormal(latents))
    train.fit(vae, objectives.ELBO(4), x, steps=steps, batch_size=256, learning_rate=0.01, select=False)
    gap = elbo(vae, x, k=50).mean - testing.ppca_log_likelihood(x, latents)
    assert -0.01 < gap < 0.001


@pytest.mark.parametrize("variance", [0.05, 0.09, pytest.param(0.3, marks=pytest.mark.slow)])
def test_active_latents_are_the_eigenvalues_above_the_noise(variance):
    x = digits()
    values = torch.linalg.eigvalsh(torch.cov(x.double().T, correction=0))
    q = families.Normal(20, families.PredictedScale())
    vae = linear_vae(20, families.FixedScale(variance**0.5), q)
    train.fit(vae, objectives.ELBO(2), x, steps=4000, batch_size=256, learning_rate=0.02, select=False)
    assert latents(vae, x).active == int((values > variance / 0.99).sum())


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 33])
def test_any_number_of_rows_trains(count):
    class WithBatchNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.SiLU(), nn.Linear(8, 4))

        def forward(self, x):
            return self.layers(x)

    vae = small_vae()
    if count > 1:  # one row has no batch statistics
        vae = VAE(vae.prior, vae.likelihood, Conditional(WithBatchNorm(), vae.posterior.family))
    history = train.fit(vae, objectives.ELBO(), coins(count), steps=7, batch_size=16)
    assert history.finished and history.step == 7
    assert all(p.isfinite().all() for p in vae.parameters())


@pytest.mark.parametrize("batch", [1, 2, 7, 16, 33, 100])
def test_batches_are_balanced_and_cover_each_epoch(batch):
    count = 33
    per_epoch = math.ceil(count / batch)
    for epoch in (0, 3):
        parts = [data.batch_index(count, batch, 5, epoch * per_epoch + i) for i in range(per_epoch)]
        sizes = [len(part) for part in parts]
        assert max(sizes) <= batch
        assert max(sizes) - min(sizes) <= 1
        assert sorted(torch.cat(parts).tolist()) == list(range(count))
    first, second = data.batch_index(count, 33, 5, 0), data.batch_index(count, 33, 5, 1)
    assert not torch.equal(first, second)
    assert not torch.equal(first, data.batch_index(count, 33, 6, 0))


def test_a_run_is_a_function_of_its_seed_and_leaves_the_global_generator_alone():
    def weights(seed: int) -> list[torch.Tensor]:
        vae = small_vae()
        train.fit(vae, objectives.ELBO(), coins(40), steps=20, batch_size=16, seed=seed)
        return [p.detach() for p in vae.parameters()]

    torch.manual_seed(123)
    state = torch.get_rng_state()
    first = weights(0)
    torch.manual_seed(123)
    assert torch.equal(torch.get_rng_state(), state)
    small_vae()  # moves the global generator
    torch.manual_seed(7)
    before = torch.get_rng_state()
    vae = small_vae()
    torch.manual_seed(7)
    train.fit(vae, objectives.ELBO(), coins(40), steps=20, batch_size=16, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b.detach()) for a, b in zip(first, vae.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, weights(1), strict=True))


def test_the_weights_with_the_best_validation_bound_are_kept():
    x, valid = coins(20), coins(60)[20:]
    vae = small_vae()
    history = train.fit(
        vae, objectives.ELBO(), x, valid=valid, steps=400, batch_size=20, learning_rate=0.05, validate_every=20
    )
    validated = {line["step"]: line["valid"]["elbo"] for line in history.lines}
    assert history.best_bound == max(validated.values())
    assert validated[history.best_step] == history.best_bound
    assert history.best_step < 400  # it overfits, or the test shows nothing
    from jensen.noise import mix

    again = bounds(vae, valid, k=1, seed=mix(0, "validation")).elbo.mean()
    assert float(again) == pytest.approx(history.best_bound, abs=1e-9)


def test_an_objective_of_several_weights_selects_by_its_own_bound():
    x, vae = coins(60), small_vae()
    history = train.fit(vae, objectives.IWAE(k=5), x[:20], valid=x[20:], steps=20, validate_every=20)
    from jensen.noise import mix

    own = bounds(vae, x[20:], k=5, seed=mix(0, "validation")).log_likelihood.mean()
    (line,) = history.lines
    assert line["valid"]["k"] == 5 and line["valid"]["log_likelihood"] == pytest.approx(float(own), abs=1e-9)
    assert history.best_bound == line["valid"]["log_likelihood"] and "elbo" not in line["valid"]


def test_an_objective_without_a_bound_selects_by_its_own_loss():
    vae, x = small_vae(), coins(200)
    how = {"steps": 400, "valid": x[150:], "validate_every": 20, "learning_rate": 0.05}
    history = train.fit(vae, objectives.MMD(10.0), x[:150], **how)
    lines = {line["step"]: line["valid"] for line in history.lines}
    losses, bounds_at = ({step: valid[name] for step, valid in lines.items()} for name in ("loss", "elbo"))
    best = min(losses, key=losses.__getitem__)
    assert best not in (400, max(bounds_at, key=bounds_at.__getitem__))  # or the test shows nothing
    assert history.best_step == best and history.best_bound is None


def test_nothing_is_kept_from_before_the_end_of_a_warm_up():
    x, valid = coins(20), coins(60)[20:]
    objective = objectives.ELBO(beta=schedules.Linear(0.0, 1.0, steps=300))
    history = train.fit(
        small_vae(), objective, x, valid=valid, steps=400, batch_size=20, learning_rate=0.05, validate_every=20
    )
    assert history.best_step > 300


def test_the_reported_bound_has_no_weight():
    def bound_at(beta: float) -> tuple[float, float]:
        history = train.fit(small_vae(), objectives.ELBO(beta=beta), coins(16), steps=1, batch_size=16)
        return history.lines[0]["bound"], history.lines[0]["objective"]

    assert bound_at(1.0)[0] == bound_at(7.0)[0]
    assert bound_at(1.0)[1] != bound_at(7.0)[1]


class _Clamped:
    """An objective whose KL is clamped to nothing, a fault that has lived for years in public code."""

    kind, k, period = "lower", 1, 1

    def __call__(self, model, x, given=None, step=0):
        inner = objectives.ELBO()(model, x, given, step)
        kl = inner.terms["kl"].clamp(max=0.0)
        terms = {"reconstruction": inner.terms["reconstruction"], "kl": kl}
        return Estimate(sum(t.mean() for t in terms.values()), inner.bound, terms)


@pytest.mark.parametrize("steps", [1, 50, 1200])
def test_a_dead_term_is_named(steps):
    with pytest.raises(DeadTermError, match="'kl'"):
        train.fit(small_vae(), _Clamped(), coins(16), steps=steps, batch_size=16)


def test_a_term_that_wakes_up_within_its_schedule_is_not_dead():
    objective = objectives.ELBO(beta=schedules.Linear(0.0, 1.0, steps=30))
    assert train.fit(small_vae(), objective, coins(16), steps=40, batch_size=16).finished


def test_what_cannot_be_trained_is_refused():
    x = coins(16)
    for options in (
        {"steps": 0},
        {"steps": 5, "batch_size": 0},
        {"steps": 5, "learning_rate": math.nan},
        {"steps": 5, "warmup": 5},
        {"steps": 5, "seed": -1},
        {"steps": 5, "clip": -1.0},
        {"steps": 5, "average": 1.0},
        {"steps": 5, "patience": 0},
        {"steps": 5, "weight_decay": math.inf},
        {"steps": 5, "precision": "fp8"},
    ):
        with pytest.raises(OptionError):
            train.fit(small_vae(), objectives.ELBO(), x, **options)
    for rows in (x[:0], x * 0.5, x.double() * math.nan, x[:, :3], x.long(), torch.tensor(1.0)):
        with pytest.raises(JensenError):
            train.fit(small_vae(), objectives.ELBO(), rows, steps=2)
    with pytest.raises(DataError):
        train.fit(small_vae(), objectives.ELBO(), x, valid=x[:0], steps=2)
    many = coins(5000)
    many[4500, 2] = 50.0
    with pytest.raises(SupportError, match=r"row 4096.*50\.0 in row 404"):
        train.fit(small_vae(), objectives.ELBO(), many, steps=2)
    with pytest.raises(OptionError, match="resume"):
        train.fit(small_vae(), objectives.ELBO(), x, steps=2, resume=True)
    frozen = small_vae().requires_grad_(False)
    with pytest.raises(OptionError, match="no parameters"):
        train.fit(frozen, objectives.ELBO(), x, steps=2)


def test_reported_bounds_are_in_the_users_units():
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    q = families.Normal(2, families.PredictedScale())

    def lines(log_jacobian: float):
        torch.manual_seed(0)
        model = VAE(
            priors.StandardNormal(2),
            Conditional(nets.mlp(2, 6, hidden=(8,)), families.Normal(6)),
            Conditional(nets.mlp(6, 4, hidden=(8,)), q),
        )
        rows = data.Rows(x, log_jacobian=log_jacobian)
        return train.fit(model, objectives.ELBO(), rows, valid=x[:20], steps=5, validate_every=5)

    plain, shifted = lines(0.0), lines(7.0)
    assert shifted.lines[0]["bound"] == pytest.approx(plain.lines[0]["bound"] + 7.0)
    assert shifted.lines[0]["valid"]["elbo"] == pytest.approx(plain.lines[0]["valid"]["elbo"] + 7.0)
    assert shifted.best_bound == pytest.approx(plain.best_bound + 7.0)
    assert shifted.lines[0]["objective"] == plain.lines[0]["objective"]
