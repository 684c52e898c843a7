"""Classifiers that start with an encoder, beside the same network from scratch."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import jensen
from jensen import VAE, Conditional, Conditioned, declared, encoder_classifier, families, nets, priors
from jensen.classify import LabelledRows, accuracy, try_starts
from jensen.errors import JensenError, OptionError
from jensen.model import Autoencoder
from jensen.run.classify import classify_run

SMALL = {"steps": 6, "samples": 2, "hidden": [12], "latents": 3, "batch_size": 300, "validate_every": 3}


def decoder(latents, size):
    return Conditional(nets.mlp(latents, size, hidden=(4,)), families.Bernoulli(size))


@declared("tests.Shifted")
class Shifted(nn.Module):
    """Hides the classes from whoever does not know where to look."""

    def __init__(self, size: int = 20):
        super().__init__()
        self.hidden = nn.Linear(size, 2)
        self.out = nn.Linear(2, 2)

    def forward(self, x):
        return torch.relu(self.hidden(x))


def hidden_classes(n, size=20, seed=0):
    """Rows of noise in which one direction of many says the class."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, size, generator=generator)
    return LabelledRows(x, (x[:, 0] > 0).long())


def knowing_autoencoder():
    encoder = Shifted()
    with torch.no_grad():
        encoder.hidden.weight.zero_()
        encoder.hidden.bias.zero_()
        encoder.hidden.weight[0, 0], encoder.hidden.weight[1, 0] = 1.0, -1.0
    return Autoencoder(encoder, decoder(2, 20), latents=2)


def test_an_encoder_that_knows_saves_labels():
    trials = try_starts(knowing_autoencoder(), hidden_classes(400), hidden_classes(400, seed=1), labels=[20], steps=200)
    found = {trial.start: trial for trial in trials}
    assert set(found) == {"scratch", "frozen", "fine-tuned"}
    assert found["scratch"].gain is None and len(found["frozen"].accuracies) == 5
    for start in ("frozen", "fine-tuned"):
        assert found[start].gain > 3 * found[start].gain_se > 0
        assert found[start].gain == pytest.approx(found[start].mean - found["scratch"].mean)


def test_trials_are_reproducible_and_leave_the_model_as_it_was():
    model, (train, test) = knowing_autoencoder(), (hidden_classes(60), hidden_classes(60, seed=1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    a, b = (try_starts(model, train, test, labels=[10], seeds=2, steps=5) for _ in range(2))
    assert a == b
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_classifier_takes_the_encoder_up_to_its_last_hidden_layer():
    net = nets.mlp(6, 4, hidden=(8, 5))
    vae = VAE(priors.StandardNormal(2), decoder(2, 6), Conditional(net, families.Normal(2, families.PredictedScale())))
    classifier = encoder_classifier(vae, 3).eval()
    assert classifier.head.in_features == 5
    x = torch.rand(7, 6)
    assert torch.equal(classifier.features(x), net[:-1](x))
    classifier.features[1].weight.data.zero_()
    assert net[1].weight.abs().max() > 0


EVERY = ["vae", "autoencoder", "ladder-vae", "flow-vae", "semi-supervised-vae", "bayesian-decoder", "ibp-vae", "vq-vae"]


@pytest.mark.parametrize("name", EVERY)
def test_encoders_of_the_zoo_become_classifiers(name):
    schema = jensen.data.Schema(name="im", event_shape=(6, 6), dtype="uint8", kind="binary", levels=2)
    width = {"width": 8} if name in ("ladder-vae", "vq-vae") else {"hidden": (8,)}
    built = jensen.zoo.build(name, schema, rows=200, classes=3, **width)
    assert encoder_classifier(built.model, 3)(torch.rand(5, 6, 6)).shape == (5, 3)


def test_convolutional_encoders_become_classifiers():
    schema = jensen.data.Schema(name="im", event_shape=(32, 32, 3), dtype="uint8", kind="binned", levels=256)
    for name, size in (("autoencoder", {"hidden": (8,)}), ("ladder-vae", {"width": 4})):
        built = jensen.zoo.build(name, schema, rows=200, **size)
        assert encoder_classifier(built.model, 3)(torch.rand(5, 32, 32, 3)).shape == (5, 3)


def test_accuracy_counts_what_is_right():
    x = torch.eye(4).repeat(3, 1)
    labels = torch.arange(12) % 4
    found = accuracy(lambda rows: rows, x, torch.where(labels == 3, 0, labels), nn.Linear(1, 1))
    assert found["mean"] == 0.75 and found["n"] == 12
    assert found["se"] == pytest.approx(np.std([1] * 9 + [0] * 3, ddof=1) / 12**0.5)


def test_what_cannot_be_classified_is_refused():
    with pytest.raises(OptionError, match="at least 2 classes"):
        encoder_classifier(knowing_autoencoder(), 1)
    family = families.Normal(2, families.PredictedScale())
    seeing = VAE(priors.StandardNormal(2), decoder(2, 6), Conditioned(nets.mlp(6 + 3, 4), family, 3))
    with pytest.raises(JensenError, match="sees the label"):
        encoder_classifier(seeing, 3)
    with pytest.raises(JensenError, match="no encoder network"):
        encoder_classifier(jensen.testing.LinearGaussian(torch.eye(3), noise=1.0).model, 3)
    rows = hidden_classes(20)
    with pytest.raises(OptionError, match="number of labels"):
        try_starts(knowing_autoencoder(), rows, rows, labels=[21])
    for wrong in ({"seeds": 0}, {"steps": 0}, {"seeds": 1.5}, {"steps": 2.5}):
        with pytest.raises(OptionError, match="at least 1"):
            try_starts(knowing_autoencoder(), rows, rows, labels=[10], **wrong)


def test_the_command_line_compares_starts(cli, tmp_path):
    run = str(tmp_path / "run")
    jensen.fit("digits", model="autoencoder", out=run, **{k: v for k, v in SMALL.items() if k != "samples"})
    command = ("classify", run, "--seeds", "2", "--steps", "5")
    code, out, _ = cli(*command, "--labels", "20", "--labels", "30", "--frozen", "--json")
    document = json.loads(out)
    assert code == 0 and document["n_test"] == 180 and document["seeds"] == 2
    assert [(t["labels"], t["start"]) for t in document["trials"]] == [
        (labels, start) for labels in (20, 30) for start in ("scratch", "frozen")
    ]
    code, _, text = cli(*command, "--labels", "20")
    assert code == 0 and "fine-tuned" in text and "gain" in text
    code, _, error = cli("classify", run, "--labels", "5")
    assert code == 2 and "--labels must lie between 10" in error


def test_what_is_usual_suits_the_number_of_classes(tmp_path, monkeypatch):
    run = tmp_path / "run"
    jensen.fit("digits", model="autoencoder", out=run, **{k: v for k, v in SMALL.items() if k != "samples"})
    monkeypatch.setattr("jensen.run.classify._LABELS", (9, 20, 10_000))
    trials, _ = classify_run(run, seeds=1, steps=1)
    assert {trial.labels for trial in trials} == {20}


def test_data_without_labels_cannot_be_classified(tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 4))
    run = jensen.fit(rows, model="autoencoder", out=tmp_path / "run", steps=3, hidden=[4])
    with pytest.raises(JensenError, match="has no labels"):
        jensen.run.classify.classify_run(run.path, rows)


def test_features_of_a_grid_are_means_over_its_places():
    schema = jensen.data.Schema(name="im", event_shape=(16, 16), dtype="uint8", kind="binary", levels=2)
    model = jensen.zoo.build("vq-vae", schema, rows=200, width=8, code_size=4).model
    x = torch.rand(3, 16, 16)
    grid = model.posterior.net(x)
    assert grid.shape == (3, 4, 4, 4)
    found = encoder_classifier(model, 2).features(x)
    torch.testing.assert_close(found, grid.mean((1, 2)))
