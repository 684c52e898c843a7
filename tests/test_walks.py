"""Walks through the space of latents, on linear models, where each picture is a straight line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm

import jensen
from jensen import Fitted, families, nets, priors, testing, walks
from jensen.conditional import Conditioned
from jensen.errors import DataError, JensenError, OptionError

WEIGHTS = torch.tensor([[3.0, 0.01], [0.0, 0.02], [1.0, -0.01]])


@pytest.fixture
def linear():
    return Fitted(testing.LinearGaussian(WEIGHTS, noise=0.5).model)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with two latents, one that needs labels, and one without a prior."""
    folder = tmp_path_factory.mktemp("runs")
    tiny = {"steps": 3, "samples": 2, "hidden": [8]}
    jensen.fit("digits", out=folder / "two", latents=2, **tiny)
    jensen.fit("digits", out=folder / "labels", model="conditional-vae", latents=3, **tiny)
    jensen.fit("digits", out=folder / "codes", model="autoencoder", latents=2, **tiny)
    return folder


def test_decoding_the_codes_of_rows_reconstructs_them(linear):
    x = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(linear.decode(linear.embed(x)), linear.reconstruct(x))
    assert isinstance(linear.decode(torch.zeros(2, 2)), torch.Tensor)


NO_CODES = [np.zeros(2), np.zeros((3, 5)), np.zeros((0, 2)), np.zeros((3, 1, 2)), [["a", "b"]], np.ones((3, 2)) * 1j]


@pytest.mark.parametrize("wrong", NO_CODES)
def test_what_is_no_code_is_refused(linear, wrong):
    with pytest.raises(DataError, match="2 values each"):
        linear.decode(wrong)


def test_codes_are_finite_numbers(linear):
    for wrong in (np.array([[0.0, np.nan]]), torch.tensor([[0.0, torch.inf]])):
        with pytest.raises(DataError, match="not finite"):
            linear.decode(wrong)
    with pytest.raises(DataError, match="rows of real numbers"):
        linear.decode([[0.0, 1.0], [2.0]])


def test_many_rows_are_drawn_in_parts(linear, monkeypatch):
    sizes = []
    sample = linear.vae.sample
    monkeypatch.setattr(linear.vae, "sample", lambda n, **options: sizes.append(n) or sample(n, **options))
    rows = linear.sample(5000, seed=1)
    assert sizes == [4096, 904] and len(np.unique(rows, axis=0)) == 5000
    np.testing.assert_array_equal(linear.sample(4096, seed=1), rows[:4096])


def test_counts_are_whole_numbers(linear):
    x = np.zeros((2, 3))
    for call in (
        lambda: linear.sample(2.5),
        lambda: linear.interpolate(x[0], x[1], steps=2.5),
        lambda: linear.log_likelihood(x, k=2.5),
        lambda: jensen.evaluate(linear, x, k=2.5),
        lambda: walks.traverse(linear, x, steps=2.5),
        lambda: walks.traverse(linear, x, latents=[0.5]),
        lambda: walks.latent_map(linear, x, side=2.5),
    ):
        with pytest.raises(OptionError, match="whole number"):
            call()


def test_the_ends_of_a_line_are_rows_of_one_shape(linear):
    assert linear.interpolate(torch.zeros(3, dtype=torch.bfloat16), np.ones(3), steps=3).shape == (3, 3)
    with pytest.raises(DataError, match=r"got \(3,\) and \(2,\)"):
        linear.interpolate(np.zeros(3), np.zeros(2))


def test_a_walk_moves_one_latent_through_its_prior_and_leaves_the_others(linear):
    x = np.random.default_rng(0).normal(size=(50, 3))
    walk = walks.traverse(linear, x, steps=5)
    assert walk.latents == (0, 1)  # of the second little is known
    np.testing.assert_allclose(walk.values[0], np.linspace(norm.ppf(0.01), norm.ppf(0.99), 5), atol=0.15)
    code = linear.embed(x)[0]
    for line, number in enumerate(walk.latents):
        expected = linear.reconstruct(x)[0] + np.outer(walk.values[line] - code[number], WEIGHTS.numpy()[:, number])
        np.testing.assert_allclose(walk.rows[line], expected, atol=1e-6)


def test_a_walk_stays_in_the_prior_of_the_label_of_its_row():
    prior = priors.ConditionedNormal(2, conditions=2)
    prior.mean.data = torch.tensor([[0.0, 0.0], [40.0, -70.0]])
    likelihood = Conditioned(nets.mlp(4, 3), families.Bernoulli(3), 2)
    posterior = Conditioned(nets.mlp(5, 4), families.Normal(2, families.PredictedScale()), 2)
    model = Fitted(jensen.VAE(prior, likelihood, posterior))
    found = walks.traverse(model, np.eye(3), labels=[1, 0, 0], latents=[0, 1], steps=3)
    assert np.allclose(found.values.mean(1), [40, -70], atol=1)


def test_a_map_puts_each_place_where_it_belongs(linear):
    x = np.random.default_rng(0).normal(size=(4, 3))
    found = walks.latent_map(linear, x, side=7)
    np.testing.assert_array_equal(found.codes, linear.embed(x))
    np.testing.assert_allclose(found.values[0], norm.ppf(np.linspace(0.03, 0.97, 7)), atol=0.1)
    across, up = found.values
    np.testing.assert_allclose(found.rows[0, 6], WEIGHTS.numpy() @ [across[6], up[6]], atol=1e-6)  # top right
    np.testing.assert_allclose(found.rows[6, 0], WEIGHTS.numpy() @ [across[0], up[0]], atol=1e-6)  # bottom left


@pytest.mark.parametrize("options", [{"steps": 1}, {"count": 0}, {"latents": [2]}, {"latents": []}])
def test_walks_that_lead_nowhere_are_refused(linear, options):
    with pytest.raises(OptionError):
        walks.traverse(linear, np.eye(3), **options)


def test_models_without_such_latents_are_refused(runs):
    rows = jensen.data.open_source("digits").rows[:3]
    with pytest.raises(JensenError, match="fit-prior"):
        walks.traverse(jensen.load(runs / "codes"), rows)
    with pytest.raises(JensenError, match="another map for each"):
        walks.latent_map(jensen.load(runs / "labels"), rows)
    with pytest.raises(JensenError, match="--latents 2"):
        walks.latent_map(Fitted(testing.LinearGaussian(torch.eye(3), noise=0.5).model), np.eye(3))
    with pytest.raises(OptionError, match="2 places"):
        walks.latent_map(jensen.load(runs / "two"), rows, side=1)


def test_the_command_line_writes_pictures_and_arrays(runs, cli, tmp_path):
    code, out, _ = cli("traverse", runs / "labels", "--row", "3", "--out", tmp_path / "a.npy", "-n", "2", "--json")
    assert code == 0 and json.loads(out)["shape"] == [2, 9, 8, 8]
    assert np.load(tmp_path / "a.npy").shape == (2, 9, 8, 8)
    for name, arguments in {"t": ("traverse", "--latent", "1"), "m": ("map", "--side", "4")}.items():
        verb, *options = arguments
        assert cli(verb, runs / "two", *options, "--out", tmp_path / f"{name}.png")[0] == 0
        with Image.open(tmp_path / f"{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 5


def test_pictures_of_more_rows_than_can_be_seen_are_refused(runs, cli, tmp_path):
    for verb in (("traverse", runs / "two", "--steps", 300), ("interpolate", runs / "two", "a", "b", "--steps", 600)):
        code, _, error = cli(*verb, "--out", tmp_path / "a.png")
        assert code == 2 and "at most 400 rows; these are 600" in error
    assert cli("traverse", runs / "two", "--steps", 300, "--out", tmp_path / "many.npy")[0] == 0


def test_a_map_colours_labels_and_opens_the_data_once(runs, cli, tmp_path, monkeypatch):
    opened, drawn = [], []
    reopen = jensen.run.reopen
    monkeypatch.setattr(jensen.run, "reopen", lambda *args: opened.append(args) or reopen(*args))
    monkeypatch.setattr(jensen.pictures, "latent_map", lambda *args: drawn.append(args))
    assert cli("map", runs / "two", "--side", 3, "--out", tmp_path / "a.png")[0] == 0
    assert len(opened) == 1 and set(drawn[0][4]) <= set(range(10)) and len(drawn[0][4]) == len(drawn[0][1].codes)


def test_a_row_that_is_not_there_is_refused(runs, cli, tmp_path):
    code, _, error = cli("traverse", runs / "two", "--row", "100000", "--out", tmp_path / "a.png")
    assert code == 2 and "--row" in error


def test_names_of_labels_are_shown_as_they_are(linear, tmp_path):
    found = walks.latent_map(linear, np.random.default_rng(0).normal(size=(20, 3)), side=3)
    jensen.pictures.latent_map(tmp_path / "m.png", found, "t", (0.0, 1.0), [0, 1] * 10, ["$\\foo{$", "_b"])
    assert (tmp_path / "m.png").stat().st_size > 0
