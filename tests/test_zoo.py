"""Every model of the zoo: fitted by one command, saved, reloaded, sampled, and resumed to the bit."""

import hashlib
import json
import shlex

import numpy as np
import pytest
import torch

import jensen
from jensen import objectives, zoo
from jensen.errors import JensenError, OptionError
from jensen.evaluation import evidence_of, latent_size
from jensen.run.following import what_follows
from jensen.zoo.options import FitOptions

SMALL = {"steps": 6, "samples": 3, "hidden": [12], "latents": 3, "batch_size": 300, "validate_every": 3, "units": 12}
SENTENCES = [f"the {who} {does} {n} times." for who in ("cat", "dog") for does in ("sits", "runs") for n in range(20)]
every_model = pytest.mark.parametrize("name", zoo.MODELS)


def small(name, **options):
    known = zoo.entry_of(name).options_class().model_fields
    return {"model": name, **{key: value for key, value in {**SMALL, **options}.items() if key in known}}


def data_for(name, tmp_path):
    """Data that the model suits."""
    if "tokens" not in zoo.entry_of(name).kinds:
        return "digits"
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(SENTENCES))
    return str(path)


@every_model
def test_a_model_is_fitted_saved_reloaded_and_sampled(name, tmp_path):
    data = data_for(name, tmp_path)
    run = jensen.fit(data, out=tmp_path / "run", **small(name))
    assert run.finished
    again = jensen.load(tmp_path / "run")
    source = jensen.data.open_source(data)
    rows = source.rows[:5]
    known = {"labels": source.labels["all"][:5]} if getattr(again.vae, "conditions", 0) else {}
    if latent_size(again.vae):
        assert torch.equal(torch.as_tensor(again.embed(rows, **known)), torch.as_tensor(run.model.embed(rows, **known)))
        assert np.shape(again.reconstruct(rows, **known)) == rows.shape
    if evidence_of(again.vae) == "none":
        with pytest.raises(JensenError, match="no bound on it"):
            jensen.run.evaluate_run(tmp_path / "run")
        return
    assert np.shape(again.sample(4, seed=1)) == (4, *rows.shape[1:])
    evaluated = jensen.run.evaluate_run(tmp_path / "run", k=3)[1]["test"]
    assert evaluated["log_likelihood"]["mean"] == pytest.approx(run.result["test"]["log_likelihood"]["mean"], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "verbs"),
    [
        ("vae", ["sample", "check"]),
        ("autoencoder", ["embed"]),
        ("pixelcnn", ["sample"]),
        ("conditional-vae", ["sample"]),
        ("semi-supervised-vae", ["sample"]),
        ("sentence-vae", ["sample", "check"]),
        ("language-model", ["sample"]),
    ],
)
def test_what_is_said_to_follow_a_run_is_not_refused(name, verbs, tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = jensen.fit(data_for(name, tmp_path), out=tmp_path / "a run", **small(name, steps=3))
    commands = [shlex.split(command)[1:] for command in what_follows(run)]
    assert [command[0] for command in commands] == verbs
    before = set(tmp_path.iterdir())
    for command in commands:
        how = ["--rows", "2", "-k", "2", "--time-budget", "1s"] if command[0] == "check" else []
        code, _, err = cli(*command, *how)
        assert code == 0, err
    assert set(tmp_path.iterdir()) == before  # beside images, a new one would be data


@every_model
def test_a_model_resumes_to_the_bit(name, tmp_path):
    options = small(name, checkpoint_every=2)
    data = data_for(name, tmp_path)
    jensen.fit(data, out=tmp_path / "whole", **options)
    assert not jensen.fit(data, out=tmp_path / "parts", stop_after=3, **options).finished
    jensen.resume(tmp_path / "parts")
    digests = [
        hashlib.sha256((tmp_path / run / "model.safetensors").read_bytes()).hexdigest() for run in ("whole", "parts")
    ]
    assert digests[0] == digests[1]
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "parts/metrics.jsonl").read_bytes()


@every_model
def test_options_have_descriptions_and_defaults_that_name_the_model(name):
    kind = zoo.entry_of(name).options_class()
    assert issubclass(kind, FitOptions)
    assert kind().model == name
    assert all(field.description for key, field in kind.model_fields.items() if key != "model")


def test_the_weights_that_are_asked_for_are_those_of_the_objective():
    splits = jensen.data.prepare(jensen.data.open_source("digits"))

    def objective(name, **options):
        return zoo.build(name, splits.schema, 321, latents=3, hidden=[8], **options).objective(100)[0]

    beta_vae = objective("beta-vae", beta=2.5)
    assert isinstance(beta_vae, objectives.ELBO) and beta_vae.beta(99) == 2.5
    parts = objective("beta-tcvae", beta=2.5, alpha=0.5, gamma=1.5)
    assert isinstance(parts, objectives.BetaTCVAE)
    assert (parts.rows, parts.beta, parts.alpha, parts.gamma) == (321, 2.5, 0.5, 1.5)
    importance = objective("iwae", k=7)
    assert isinstance(importance, objectives.IWAE) and importance.k == 7
    assert isinstance(objective("autoencoder"), objectives.Reconstruction)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("flow-vae", {"free_bits": 0.5}, "--free-bits"),
        ("flow-prior-vae", {"free_bits": 0.5}, "--free-bits"),
        ("vampprior-vae", {"free_bits": 0.5}, "--free-bits"),
        ("hyperspherical-vae", {"free_bits": 0.5}, "--free-bits"),
        ("vae", {"free_bits": 0.5, "sampled_kl": True}, "free_bits"),
        ("stick-breaking-vae", {"kl_terms": 5, "sampled_kl": True}, "--kl-terms"),
        ("stick-breaking-vae", {"kl_terms": 5, "estimator": "sticking-the-landing"}, "--kl-terms"),
        ("vae", {"network": "conv", "hidden": (50, 30)}, "one dense layer"),
        ("vae", {"network": "conv", "hidden": ()}, "one dense layer"),
        ("pixelcnn", {"noise": 0.3}, "--noise"),
        ("pixel-vae", {"noise": 0.3}, "--noise"),
    ],
)
def test_options_that_would_do_nothing_are_refused_before_a_folder_is_made(name, options, reason, tmp_path):
    with pytest.raises(OptionError, match=reason):
        jensen.fit("digits", out=tmp_path / "run", model=name, steps=2, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["vae", "vq-vae", pytest.param("ladder-vae", marks=pytest.mark.slow)])
def test_a_convolution_gives_each_pixel_its_own_levels(name, tmp_path):
    """Pixels in the left half mostly have level 3, the others level 1: what is soon learnt, and by no other layout."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random((600, 8, 8)) < 0.1, rng.integers(0, 5, (600, 8, 8)), 1 + 2 * (np.arange(8) < 4))
    how = {"likelihood": "categorical", "learning_rate": 0.01, "steps": 60}
    network = "auto" if name == "vq-vae" else "conv"
    found = jensen.fit(x, out=tmp_path / "run", **small(name, network=network, **how)).model.sample(20, seed=0)
    assert (found[:, :, :4] == 3).mean() > 0.8 < (found[:, :, 4:] == 1).mean()


def test_help_shows_the_options_of_that_model_only(cli):
    code, vae, _ = cli("fit", "--help")
    assert code == 0 and "--free-bits" in vae and "--pseudo-inputs" not in vae
    code, vamp, _ = cli("fit", "--model", "vampprior-vae", "--help")
    assert code == 0 and "--pseudo-inputs" in vamp
    code, wae, _ = cli("fit", "--model=wae-mmd", "--help")
    assert code == 0 and "--weight" in wae and "--free-bits" not in wae


def test_what_is_on_by_default_can_be_turned_off(cli, tmp_path):
    code, text, _ = cli("fit", "--model", "ibp-vae", "--help")
    assert code == 0 and "--no-loadings" in text and "--no-sampled-kl" not in text
    short = ("--steps", "2", "--samples", "2", "--hidden", "8", "--latents", "5")
    code, _, error = cli("fit", "digits", "--model", "ibp-vae", "--no-loadings", *short, "--out", str(tmp_path / "run"))
    assert code == 0, error
    assert jensen.load(tmp_path / "run").embed(jensen.load(tmp_path / "run").sample(3)).shape == (3, 5)
    assert {"dictionary.png", "frequencies.png"} < {path.name for path in (tmp_path / "run").glob("*.png")}
    code, _, text = cli("check", str(tmp_path / "run"), "--rows", "5", "--samples", "5", "--time-budget", "1s")
    assert code == 0 and "of 5: they tell rows apart" in text and "in the prior's 95% band" in text


def test_an_option_of_another_model_is_refused(cli):
    code, _, error = cli("fit", "digits", "--model", "wae-mmd", "--beta", "2")
    assert code == 2 and "--beta" in error
    with pytest.raises(OptionError, match="--beta is no option of wae-mmd"):
        jensen.fit("digits", model="wae-mmd", beta=2.0)


def test_an_unknown_model_is_refused_with_the_list(cli):
    code, _, error = cli("fit", "digits", "--model", "gan")
    assert code == 2 and "vampprior-vae" in error
    with pytest.raises(OptionError, match="choose one of"):
        jensen.fit("digits", model="gan")


def test_models_are_listed(cli):
    code, out, _ = cli("models", "--json")
    assert code == 0
    listed = json.loads(out)["models"]
    assert [entry["name"] for entry in listed] == list(zoo.MODELS)
    assert all(entry["summary"] and entry["paper"] and entry["data"] for entry in listed)
    assert "Burda" in cli("models")[2]
