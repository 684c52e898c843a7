"""Rows some of which have a label: bounds against linear-Gaussian truths that are enumerated over classes."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

import jensen
from jensen import Conditional, Conditioned, evaluation, families, nets, objectives, priors
from jensen.errors import CompositionError, DataError, OptionError, ShapeError
from jensen.model import SemiSupervised
from jensen.noise import seeded
from jensen.roles import Given

W = torch.tensor([[1.0, 0.3], [-0.5, 0.8], [0.2, 0.6]], dtype=torch.float64)
SHIFT = torch.tensor([[0.0, 1.0, -2.0], [1.0, 0.5, 0.0], [0.5, -1.0, 0.3]], dtype=torch.float64)
NOISE = 0.5
COVARIANCE = W @ W.T + NOISE**2 * torch.eye(3, dtype=torch.float64)
INSIDE = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + W.T @ W / NOISE**2)
GAIN = INSIDE @ W.T / NOISE**2


def affine(weight, bias):
    net = nets.mlp(weight.shape[1], weight.shape[0], hidden=()).double()
    with torch.no_grad():
        net[-1].weight.copy_(weight)
        net[-1].bias.copy_(bias)
    return net


def oracle(wide=0.0):
    """x|z, y ~ N(W z + μ_y, σ²), and its posteriors; ``wide`` makes them wrong."""
    scale = families.FixedScale(NOISE).double()
    scale.value.fill_(NOISE)
    likelihood = Conditioned(affine(torch.cat([W, SHIFT.T], 1), torch.zeros(3)), families.Normal(3, scale), 3)
    covariance = families.FullNormal(2).double()
    factor = torch.linalg.cholesky(INSIDE)
    raw = jensen.distributions.unbounded_scale(factor.diagonal()) + wide
    below = (factor[1, 0] * 2**0.5)[None]
    weight = torch.cat([torch.cat([GAIN, -GAIN @ SHIFT.T], 1), torch.zeros(3, 6)])
    encoder = Conditioned(affine(weight, torch.cat([torch.zeros(2), raw, below])), covariance, 3)
    # Classes have one covariance, so the true log q(y|x) is linear in x.
    precision = torch.linalg.inv(COVARIANCE)
    logits = affine(SHIFT @ precision, -0.5 * (SHIFT @ precision * SHIFT).sum(1))
    classifier = Conditional(logits, families.OneHotCategorical(1, 3))
    return SemiSupervised(priors.StandardNormal(2).double(), likelihood, encoder, classifier)


def rows(n=60):
    y = torch.arange(n) % 3
    with seeded(2):
        return MultivariateNormal(SHIFT[y], COVARIANCE).sample(), y


def by_class(x):
    """log p(x, y), shape (N, C)."""
    return MultivariateNormal(SHIFT, COVARIANCE).log_prob(x[:, None]) - math.log(3)


def test_with_exact_posteriors_every_log_weight_is_the_sum_over_classes():
    x, _ = rows()
    draw = oracle().draw(x, k=5)
    assert [group.z.shape for group in draw.groups] == [(5, 60, 1, 3), (5, 60, 2)]
    assert (draw.log_weight - by_class(x).logsumexp(1)).abs().max() < 1e-10


def test_the_classifier_that_is_exact_gives_the_posterior_of_the_class():
    x, _ = rows()
    truth = by_class(x).softmax(1)
    assert (oracle().classify(x) - truth).abs().max() < 1e-10


def test_the_objective_is_the_log_likelihood_of_rows_with_and_without_labels():
    x, y = rows()
    labels = torch.where(torch.arange(60) % 2 == 0, y, -1)
    estimate = objectives.SemiSupervised(alpha=2.0, k=3)(oracle(), x, Given(labels=labels))
    joint = by_class(x)
    truth = torch.where(labels < 0, joint.logsumexp(1), joint.gather(1, y[:, None])[:, 0])
    # The closed-form KL is a mean, so the bound of one draw has noise around its exact mean.
    exact = objectives.SemiSupervised(k=4000)(oracle(), x, Given(labels=labels)).bound
    assert (exact - truth).abs().max() < 0.1 and (exact - truth).mean().abs() < 0.02
    classification = -2.0 * joint.log_softmax(1).gather(1, y[:, None])[:, 0] * (labels >= 0)
    assert torch.allclose(estimate.terms["classification"], classification, atol=1e-10)
    total = sum(term.mean() for term in estimate.terms.values())
    assert (
        torch.allclose(estimate.loss, total) and "classification" not in objectives.SemiSupervised()(oracle(), x).terms
    )


def test_wrong_posteriors_give_bounds_below_that_rise_with_k():
    x, _ = rows(200)
    model, truth = oracle(wide=0.6), by_class(rows(200)[0]).logsumexp(1)
    means = [float((evaluation.bounds(model, x, k=k).log_likelihood - truth).mean()) for k in (1, 10, 1000)]
    assert means[0] < means[1] < means[2] < 0.01
    unlabelled = objectives.SemiSupervised(k=500)(model, x).bound
    assert float((unlabelled - truth).mean()) < means[0] + 0.02


def test_the_weights_do_not_depend_on_the_rows_around_them():
    x, _ = rows(150)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    a, b = (evaluation.bounds(oracle(0.3), each, k=4).elbo for each in (x, x[order]))
    assert torch.equal(a[order], b)


def test_codes_are_class_and_latents():
    model, (x, _) = oracle(), rows()
    codes = model.embed(x)
    assert codes.shape == (60, 5) and model.latent_size == 5
    assert torch.equal(codes[:, :3].argmax(1), by_class(x).argmax(1))
    assert model.decode(codes).mean.shape == x.shape
    draw = model.draw(x, k=4)
    z = torch.cat([draw.groups[0].z[:, :, 0], draw.groups[1].z], -1)
    joint = model.log_joint(x, z)
    assert torch.allclose(joint, draw.log_likelihood + sum(g.log_prior for g in draw.groups))
    assert evaluation.latents(model, x).kl > 0


def parts(prior, family):
    """A model of 6 values with 3 classes and 2 latents."""
    torch.manual_seed(0)
    return SemiSupervised(
        prior,
        Conditioned(nets.mlp(2 + 3, 6), families.Bernoulli(6), conditions=3),
        Conditioned(nets.mlp(6 + 3, sum(map(math.prod, family.parameter_shapes)), ()), family, conditions=3),
        Conditional(nets.mlp(6, 3), families.OneHotCategorical(1, 3)),
    )


def test_a_kl_that_is_cut_short_is_reported_from_samples():
    model, x = parts(priors.Sticks(2, 1.0, 5.0), families.Kumaraswamy(2, terms=1)), torch.eye(6)
    with seeded(1):
        found = objectives.SemiSupervised(k=4)(model, x)
    with seeded(1):
        each = model.each_class(x, 4)
    log_weight = each.log_likelihood + each.prior.log_prob(each.z) - each.posterior.log_prob(each.z)
    expected = (each.log_class.exp() * (log_weight.mean(0) - each.log_class)).sum(-1) - math.log(3)
    torch.testing.assert_close(found.bound, expected)
    assert -found.loss > found.bound.mean()


def test_samples_of_labels_that_are_not_known_are_of_any_class():
    model, drawn = oracle(), []
    for labels in (None, torch.full((50,), -1), torch.tensor([-1, 0] * 25)):
        with seeded(0):
            drawn.append(model.sample(50, None if labels is None else Given(labels=labels), mean=True))
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0][::2], drawn[2][::2])
    assert not torch.equal(drawn[0], drawn[2])


def test_samples_of_a_class_have_its_mean():
    with seeded(0):
        x = oracle().sample(4000, Given(labels=torch.full((4000,), 1)))
    z = (x.mean(0) - SHIFT[1]) / (COVARIANCE.diagonal() / 4000).sqrt()
    assert z.abs().max() < 4.5


def test_what_does_not_compose_is_refused():
    x, _ = rows(6)
    with pytest.raises(CompositionError, match="no classes"):
        objectives.SemiSupervised()(jensen.testing.LinearGaussian(W, noise=0.5).model, x)
    with pytest.raises(CompositionError, match="needs samples"):
        objectives.ELBO()(oracle(), x)
    with pytest.raises(OptionError, match="alpha"):
        objectives.SemiSupervised(alpha=0.0)
    model = oracle()
    classifier = Conditional(nn.Linear(3, 4), families.OneHotCategorical(1, 4))
    with pytest.raises(ShapeError, match="3 classes"):
        SemiSupervised(model.prior, model.likelihood, model.encoder, classifier)
    with pytest.raises(OptionError, match="must be Conditioned"):
        SemiSupervised(model.prior, nn.Linear(2, 3), model.encoder, model.classifier)
    normal = families.Normal(2, families.PredictedScale())
    with pytest.raises(CompositionError, match="zeros and ones"):
        parts(priors.Bernoulli(2), normal)
    with pytest.raises(ShapeError, match="same number of latents"):
        parts(priors.StandardNormal(3), normal)
    with pytest.raises(CompositionError, match="Bernoulli have no gradient"):
        objectives.SemiSupervised()(parts(priors.Bernoulli(2), families.Bernoulli(2)), torch.eye(6))


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 0, 0], [0, 1, -2, 1, 0, 0], [0, 1, 2], [[0] * 6]])
def test_labels_that_are_no_classes_of_the_rows_are_refused(labels):
    x, _ = rows(6)
    given = Given(labels=torch.tensor(labels))
    with pytest.raises(DataError, match="label"):
        objectives.SemiSupervised()(oracle(), x, given)
    with pytest.raises(DataError, match="label"):
        oracle().sample(6, given)


def test_a_run_reports_its_accuracy_and_keeps_its_labels(tmp_path, cli):
    options = {"steps": 30, "samples": 3, "hidden": [32], "latents": 3, "validate_every": 15, "labelled": 50}
    run = jensen.fit("digits", model="semi-supervised-vae", out=tmp_path / "run", **options)
    found = run.result["accuracy"]
    assert found["labels"] == 50 and 0 <= found["test"]["mean"] <= 1 and found["test"]["n"] == 180
    assert "given the label" not in run.result["data"]["protocol"]
    code, out, _ = cli("evaluate", run.path, "--json")
    assert code == 0 and json.loads(out)["accuracy"] == {"labels": 50, "test": found["test"]}
    code, _, err = cli("evaluate", run.path, "--split", "valid")
    shown = f"{found['valid']['mean']:.2%} ± {found['valid']['se']:.2%}"
    assert code == 0 and shown in err
    codes = run.model.embed(np.zeros((2, 8, 8)))
    assert run.model.decode(codes).shape == (2, 8, 8)
    assert run.model.interpolate(np.zeros((8, 8)), np.ones((8, 8)), steps=3).shape == (3, 8, 8)
    assert jensen.run.reopen(run.path).use.count == 50
    code, _, err = cli("classify", run.path, "--labels", "20")
    assert code == 2 and "was trained with 50 labels" in err
    for labelled in (9, 1437):  # of 1437 training rows; with all of them there is no class to infer
        with pytest.raises(OptionError, match="--labelled must lie"):
            jensen.fit("digits", model="semi-supervised-vae", out=tmp_path / "no", **{**options, "labelled": labelled})
