"""Models of rows given their label: bounds on log p(x|y) against linear-Gaussian truths, and labels all the way."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

import jensen
from jensen import VAE, Conditional, Conditioned, evaluation, families, nets, objectives, priors, zoo
from jensen.data import Rows
from jensen.data.labels import LabelUse, choose_labelled, condition_on, label_numbers, repeated
from jensen.distributions import diagonal_normal
from jensen.errors import DataError, JensenError, OptionError, ShapeError
from jensen.noise import seeded
from jensen.roles import Given

W = torch.tensor([[1.0, 0.3], [-0.5, 0.8], [0.2, 0.6]], dtype=torch.float64)
SHIFT = torch.tensor([[0.0, 1.0, -2.0], [3.0, 0.5, 0.0]], dtype=torch.float64)
NOISE = 0.5
COVARIANCE = W @ W.T + NOISE**2 * torch.eye(3, dtype=torch.float64)
SMALL = {"steps": 6, "samples": 3, "hidden": [12], "latents": 3, "batch_size": 300, "validate_every": 3}


class Shifted(nn.Module):
    """x|z, y ~ N(W z + μ_y, σ²)."""

    conditions, measure = 2, "density"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(W)

    def forward(self, z, given=None):
        loc = z @ self.weight.T + given.condition @ SHIFT
        return diagonal_normal(loc, torch.full_like(loc, NOISE), 1)


class Exact(nn.Module):
    """z|x, y."""

    conditions, event_shape = 2, (2,)

    def forward(self, x, given=None):
        covariance = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + W.T @ W / NOISE**2)
        loc = (x - given.condition @ SHIFT) @ (covariance @ W.T / NOISE**2).T
        return MultivariateNormal(loc, covariance, validate_args=False)


def oracle(n=200):
    y = torch.arange(n) % 2
    with seeded(3):
        x = MultivariateNormal(SHIFT[y], COVARIANCE).sample()
    given = Given(condition=torch.eye(2, dtype=torch.float64)[y])
    return VAE(priors.StandardNormal(2).double(), Shifted(), Exact()), x, given


def test_the_bound_is_on_the_log_likelihood_given_the_label():
    model, x, given = oracle()
    truth = MultivariateNormal(given.condition @ SHIFT, COVARIANCE).log_prob(x)
    scores = evaluation.bounds(model, x, k=3, given=given)
    assert (scores.elbo - truth).abs().max() < 1e-10
    wrong = evaluation.bounds(model, x, k=3, given=Given(condition=given.condition.flip(1)))
    assert (wrong.elbo - truth).mean() < -1
    assert evaluation.latents(model, x, given).active == 2


def test_each_row_keeps_its_own_condition_in_any_order():
    model, x, given = oracle(150)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    a = evaluation.bounds(model, x, k=3, given=given).elbo
    assert torch.equal(a[order], evaluation.bounds(model, x[order], k=3, given=given.rows(order)).elbo)
    codes = evaluation.reconstructions(model, x, given)
    assert torch.equal(codes[order], evaluation.reconstructions(model, x[order], given.rows(order)))


def test_without_a_condition_there_is_no_bound():
    model, x, given = oracle(10)
    conditioned = VAE(priors.ConditionedNormal(2, 2), model.likelihood, model.posterior)
    with pytest.raises(JensenError, match="conditioned on labels"):
        conditioned.prior()
    with pytest.raises(DataError, match="9 rows beside 10"):
        evaluation.bounds(model, x, given=given.rows(slice(0, 9)))
    with pytest.raises(ShapeError, match="condition of 3 values"):
        priors.ConditionedNormal(2, 3)(given)


@pytest.mark.parametrize("maps", [False, True], ids=["beside", "maps"])
def test_networks_see_the_condition(maps):
    net = nets.conv_encoder((8, 8, 1 + 3), 4, channels=(4,), width=8) if maps else nets.mlp(64 + 3, 4, hidden=(8,))
    posterior = Conditioned(net, families.Normal(2, families.PredictedScale()), 3, event_dims=2, maps=maps)
    x, y = torch.rand(5, 8, 8), torch.eye(3)[[0, 1, 2, 0, 1]]
    q = posterior(x, Given(condition=y))
    assert q.batch_shape == (5,) and (q.mean != posterior(x, Given(condition=y.roll(1, 1))).mean).all()
    one = posterior(x[2:3], Given(condition=y[2:3])).mean
    assert torch.allclose(one, q.mean[2:3], atol=1e-6)


def test_a_prior_of_each_label_is_sampled_and_scored():
    prior = priors.ConditionedNormal(2, 3)
    with torch.no_grad():
        prior.mean.copy_(torch.tensor([[10.0, 0.0], [0.0, 10.0], [-10.0, -10.0]]))
    likelihood = Conditional(nets.mlp(2, 4), families.Bernoulli(4))
    posterior = Conditioned(nets.mlp(4 + 3, 4), families.Normal(2, families.PredictedScale()), 3)
    model = VAE(prior, likelihood, posterior)
    assert model.latent_size == 2 and model.conditions == 3
    given = Given(condition=torch.eye(3))
    assert prior(given).sample().argmax(1).tolist()[:2] == [0, 1]
    assert model.sample(3, given).shape == (3, 4)
    estimate = objectives.ELBO()(model, torch.ones(3, 4), given)
    estimate.loss.backward()
    assert prior.mean.grad.abs().min() > 0


def test_labels_are_chosen_by_content_and_as_many_of_each_class():
    with seeded(0):
        x, y = torch.randn(60, 4), torch.arange(60) % 4
    chosen = choose_labelled(x, y, 12, seed=1)
    assert torch.bincount(y[chosen]).tolist() == [3, 3, 3, 3]
    order = torch.randperm(60)
    again = choose_labelled(x[order], y[order], 12, seed=1)
    assert sorted(order[again].tolist()) == chosen.tolist()
    assert chosen.tolist() != choose_labelled(x, y, 12, seed=2).tolist()
    with pytest.raises(OptionError, match="between 4 classes and 60 rows"):
        choose_labelled(x, y, 3, seed=1)
    values, given = repeated(x, y, LabelUse(condition=False, count=4))
    assert (given.labels >= 0).float().mean() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(values[60:], x[given.labels[:60] >= 0].repeat(60, 1)[: len(values) - 60])


def test_labels_are_numbers_or_names():
    assert label_numbers(["b", 0], ["a", "b"], 2).tolist() == [1, 0]
    assert label_numbers([np.int64(1), np.str_("a"), torch.tensor(1)], ["a", "b"], 2).tolist() == [1, 0, 1]
    for wrong in (["c"], [2], [True], [1.5], [np.bool_(True)], [torch.tensor([0, 1])]):
        with pytest.raises(DataError, match="is no label"):
            label_numbers(wrong, ["a", "b"], 2)


def test_rows_carry_what_is_given_beside_them():
    rows = Rows(torch.arange(6.0)[:, None], given=condition_on(torch.arange(6) % 3, 3))
    _, given = rows.batch(torch.tensor([4, 2]))
    assert given.condition.argmax(1).tolist() == [1, 2] and given.index.tolist() == [4, 2]
    with pytest.raises(DataError, match="5 rows beside 6 rows"):
        Rows(torch.arange(6.0)[:, None], given=condition_on(torch.zeros(5, dtype=torch.long), 3))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditional") / "run"
    return jensen.fit("digits", model="conditional-vae", prior="conditioned", out=folder, **SMALL)


def test_a_run_says_that_its_bound_is_given_the_label(run):
    assert run.result["data"]["given"] == "label" and run.result["baselines"] == {}
    assert run.result["test"]["log_likelihood"]["protocol"].endswith("given the label")
    again = jensen.run.evaluate_run(run.path)[1]
    assert again["test"]["elbo"]["mean"] == pytest.approx(run.result["test"]["elbo"]["mean"], abs=1e-9)


def test_a_fitted_model_takes_labels(run):
    source = jensen.data.open_source("digits")
    x, y = source.rows[:6], source.labels["all"][:6]
    model = jensen.load(run.path)
    assert model.embed(x, labels=y).shape == (6, 3)
    names = [model.label_names[number] for number in y]
    assert np.array_equal(model.embed(x, labels=names), model.embed(x, labels=y))
    assert not np.array_equal(model.log_likelihood(x, k=2, labels=y), model.log_likelihood(x, k=2, labels=(y + 1) % 10))
    assert np.array_equal(model.sample(2, seed=1, label=y[0]), model.sample(2, seed=1, label=int(y[0])))
    assert model.sample(3, seed=1, label=4).shape == model.sample(3, seed=1).shape == (3, 8, 8)
    between = model.interpolate(x[0], x[1], steps=3, label=4)
    assert np.array_equal(between[[0, 2]], model.reconstruct(x[:2], labels=[4, 4]))
    with pytest.raises(JensenError, match="--label"):
        model.interpolate(x[0], x[1])
    assert jensen.evaluate(model, x, k=2, labels=y).log_likelihood.n == 6
    for use in (model.embed, model.reconstruct, model.log_likelihood):
        with pytest.raises(JensenError, match="none are given"):
            use(x)
    with pytest.raises(DataError, match="5 labels for 6 rows"):
        model.embed(x, labels=y[:5])
    with pytest.raises(DataError, match="no label of this model"):
        model.sample(3, label=10)


def test_the_command_line_takes_labels(run, cli, tmp_path):
    out = str(tmp_path / "three.npy")
    code, text, _ = cli("sample", str(run.path), "--label", "3", "-n", "5", "--out", out, "--json")
    assert code == 0 and json.loads(text)["shape"] == [5, 8, 8]
    assert cli("reconstruct", str(run.path), "--out", str(tmp_path / "again.png"))[0] == 0
    code, _, error = cli("sample", str(run.path), "--label", "x", "--out", str(tmp_path / "no.npy"))
    assert code == 1 and "no label" in error


def test_data_without_labels_are_refused(tmp_path):
    with pytest.raises(OptionError, match="needs data with labels"):
        jensen.fit(np.random.default_rng(0).normal(size=(50, 4)), model="conditional-vae", out=tmp_path / "no")
    plain = VAE(priors.StandardNormal(1), Conditional(nets.mlp(1, 4), families.Bernoulli(4)), nn.Identity())
    with pytest.raises(JensenError, match="not conditioned"):
        jensen.Fitted(plain).sample(2, label=1)


def test_convolutions_see_labels_as_maps():
    schema = jensen.data.Schema(name="im", event_shape=(32, 32, 3), dtype="uint8", kind="binned", levels=256)
    built = zoo.build("conditional-vae", schema, rows=100, classes=4, hidden=(8,), latents=2)
    x, given = torch.rand(3, 32, 32, 3), Given(condition=torch.eye(4)[:3])
    assert built.model.draw(x, given, 2).log_weight.shape == (2, 3) and built.model.posterior.maps
