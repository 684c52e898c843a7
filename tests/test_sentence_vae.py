"""Models of sentences: fitted to a text, speaking strings, resumed to the bit; n-grams and aggressive inference."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

import jensen
from jensen import objectives, testing
from jensen.data import TextOptions, open_source, prepare
from jensen.errors import CompositionError, DataError, JensenError, OptionError
from jensen.ngrams import NGrams, ngram
from jensen.noise import seeded
from jensen.precision import conditionals_of, networks_in
from jensen.run import describe_data
from jensen.zoo import build

SMALL = {"units": 16, "embedding": 8, "samples": 4, "steps": 30, "batch_size": 50, "validate_every": 10}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "small.txt"
    who, does, what = ("the cat", "a dog", "my friend"), ("sees", "likes", "finds"), ("it", "the house", "a red ball")
    lines = [f"{a} {b} {c}{d}" for a, b, c, d in itertools.product(who, does, what, ".!?,;:")]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def run(text, tmp_path_factory):
    return jensen.fit(text, model="sentence-vae", out=tmp_path_factory.mktemp("runs") / "vae", latents=3, **SMALL)


@pytest.fixture(scope="module")
def plain(text, tmp_path_factory):
    return jensen.fit(text, model="language-model", out=tmp_path_factory.mktemp("runs") / "plain", **SMALL)


def test_a_fitted_model_speaks_strings(run):
    model = jensen.load(run.path)
    sentences = ["the cat sees it.", "a dog finds a red ball!"]
    assert all(isinstance(found, str) for found in model.sample(3, seed=1))
    assert model.sample(3, seed=1) == model.sample(3, seed=1)
    assert isinstance(model.sample(2, seed=1, temperature=0.5)[0], str)
    assert model.embed(sentences).shape == (2, 3)
    assert np.array_equal(model.embed(sentences)[1:], model.embed(sentences[1:]))
    assert np.array_equal(model.embed(np.array(sentences)), model.embed(sentences))
    assert len(model.reconstruct(sentences)) == 2
    assert model.log_likelihood(sentences, k=3).shape == (2,)
    between = model.interpolate(*sentences, steps=5)
    assert [between[0], between[-1]] == model.reconstruct(sentences)


@pytest.mark.parametrize("rows", [["fine", 3], [], [["a"]], np.zeros((2, 7)), torch.zeros(2, 7)])
def test_rows_that_are_no_sentences_are_refused_in_words(run, rows):
    with pytest.raises(DataError, match="list of strings"):
        run.model.embed(rows)


def test_a_text_is_read_from_a_file_and_from_memory(run, text, tmp_path):
    sentences = text.read_text().splitlines()
    assert np.array_equal(run.model.embed(text), run.model.embed(sentences))
    again = jensen.fit(sentences, out=tmp_path / "memory", latents=3, **SMALL)
    assert again.result["test"]["elbo"]["mean"] == run.result["test"]["elbo"]["mean"]


def test_perplexity_counts_every_token_and_every_end(run, plain):
    for found in (run, plain):
        result = found.result["test"]
        rows = jensen.run.reopen(found.path).frozen("test")
        tokens = int((rows != 0).sum())
        expected = math.exp(-result["log_likelihood"]["mean"] * len(rows) / tokens)
        assert result["perplexity"] == pytest.approx(expected, rel=1e-9)
        assert result["bits_per_dim"] is None
    assert plain.result["test"]["log_likelihood"]["kind"] == "exact"
    assert run.result["test"]["log_likelihood"]["kind"] == "lower"


def test_a_run_has_texts_for_pictures(run, plain):
    names = {path.name for path in run.path.iterdir()}
    assert {"inputs.txt", "samples.txt", "reconstructions.txt", "curves.png"} <= names
    assert not (plain.path / "reconstructions.txt").exists()


def test_word_dropout_and_aggressive_training_resume_to_the_bit(text, tmp_path):
    options = {**SMALL, "model": "sentence-vae", "latents": 3, "word_dropout": 0.5, "aggressive": 20, "free_bits": 0.1}
    whole = jensen.fit(text, out=tmp_path / "whole", checkpoint_every=10, **options)
    assert not jensen.fit(text, out=tmp_path / "parts", checkpoint_every=10, stop_after=15, **options).finished
    parts = jensen.resume(tmp_path / "parts")
    files = [(found.path / "model.safetensors").read_bytes() for found in (whole, parts)]
    assert files[0] == files[1]
    assert whole.result["test"] == parts.result["test"]


def test_the_command_line_prints_sentences(run, plain, cli, tmp_path):
    code, out, _ = cli("sample", run.path, "-n", 3, "--greedy")
    assert code == 0 and len(out.splitlines()) == 3
    code, out, _ = cli("sample", plain.path, "-n", 2, "--temperature", "0.7", "--json")
    assert code == 0 and len(json.loads(out)["sentences"]) == 2
    code, out, _ = cli("interpolate", run.path, "the cat sees it.", "a dog likes it!", "--steps", 4)
    assert code == 0 and len(out.splitlines()) == 4
    code, out, _ = cli("reconstruct", run.path, "--out", tmp_path / "again.txt")
    assert code == 0 and not out and (tmp_path / "again.txt").exists()
    code, _, error = cli("evaluate", run.path)
    assert code == 0 and "perplexity ≤" in error
    assert "perplexity =" in cli("evaluate", plain.path)[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "--out", "new.png"), "must end in .txt"),
        (("sample", "--temperature", "0"), "positive number"),
        (("interpolate", "a", "b", "--steps", "1"), "two ends"),
        (("interpolate", "a", "b", "--label", "3"), "not conditioned on labels"),
    ],
)
def test_misuse_is_named(run, cli, arguments, message):
    code, _, error = cli(arguments[0], run.path, *arguments[1:])
    assert code == (1 if "--label" in arguments else 2) and message in " ".join(error.split())


def test_a_model_without_latents_has_no_codes(plain):
    with pytest.raises(JensenError, match="no latents"):
        plain.model.embed(["the cat sees it."])


def test_data_and_model_must_suit_each_other(text, tmp_path):
    with pytest.raises(OptionError, match="--model sentence-vae"):
        jensen.fit(text, model="vae", out=tmp_path / "a")
    with pytest.raises(OptionError, match="sentence-vae cannot model digits"):
        jensen.fit("digits", model="sentence-vae", out=tmp_path / "b")
    with pytest.raises(DataError, match="binarisation"):
        jensen.fit(text, model="sentence-vae", binarisation="threshold", out=tmp_path / "c")


def test_a_picture_may_be_interpolated_too(tmp_path):
    digits = jensen.fit("digits", out=tmp_path / "digits", steps=3, samples=2, hidden=[8])
    rows = jensen.data.open_source("digits").rows
    between = digits.model.interpolate(rows[0], rows[1], steps=4)
    assert between.shape == (4, 8, 8)
    torch.testing.assert_close(torch.as_tensor(between[[0, 3]]), torch.as_tensor(digits.model.reconstruct(rows[:2])))
    with pytest.raises(OptionError, match="temperature"):
        digits.model.sample(2, temperature=0.5)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_n_grams_add_up_to_one(order):
    rows = torch.tensor([[4, 5, 2, 0], [4, 4, 6, 5], [6, 2, 0, 0]])
    model = NGrams(rows, order, vocabulary=8)
    for context in itertools.product((1, 4, 5, 6, 7), repeat=order - 1):
        total = sum(model.probability(context, token, 0.7) for token in range(2, 8))
        assert total == pytest.approx(1, abs=1e-12)
    every = [[*words, 2, *[0] * (2 - n)] for n in range(3) for words in itertools.product((3, 4, 5, 6, 7), repeat=n)]
    every += [list(words) for words in itertools.product((3, 4, 5, 6, 7), repeat=3)]
    assert float(model.log_prob(torch.tensor(every), 0.7).exp().sum()) == pytest.approx(1, abs=1e-12)


def test_a_longer_memory_helps_where_there_is_something_to_remember():
    rows = torch.tensor([[4, 5, 4, 6, 2], [7, 5, 7, 6, 2]] * 50)
    scores = [float(ngram(rows, rows, rows, order, 8).mean()) for order in (1, 2, 3)]
    assert scores[0] < scores[1] < scores[2] < -math.log(2) + 0.05
    with pytest.raises(OptionError):
        NGrams(rows, 0, 8)


def test_aggressive_inference_trains_the_posterior_alone(text):
    splits = jensen.data.prepare(jensen.data.open_source(text))
    model = build("sentence-vae", splits.schema, 100, latents=2, units=8, embedding=4).model
    objective = objectives.AggressiveInference(objectives.ELBO(), steps=10, every=5)
    x = splits.frozen("train")[:7]
    for step, alone in ((0, False), (1, True), (5, False), (9, True), (11, False)):
        model.zero_grad()
        objective(model, x, None, step).loss.backward()
        assert all((p.grad is None) == alone for p in model.likelihood.parameters())
        assert all(p.grad is not None for p in model.posterior.parameters())
        assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(OptionError):
        objectives.AggressiveInference(objectives.ELBO(), steps=0)
    with pytest.raises(CompositionError, match="one prior"):
        objective(torch.nn.Linear(2, 2), x)


@pytest.mark.parametrize("turned", [False, True])
def test_a_bound_is_compared_with_an_exact_number_and_the_note_says_which_side_errs(run, plain, turned, cli):
    first, second = (plain, run) if turned else (run, plain)
    found = jensen.compare(first.path, second.path)
    kinds = [number["kind"] for number in found["log_likelihood"]["numbers"]]
    assert kinds == (["exact", "lower"] if turned else ["lower", "exact"]) and "elbo" not in found
    means = [number["mean"] for number in found["log_likelihood"]["numbers"]]
    assert found["log_likelihood"]["difference"] == pytest.approx(means[1] - means[0], abs=1e-9)
    # Of second - first the bound is too low: it makes the difference too large where it comes first.
    side = "no less" if turned else "no more"
    assert f"the true difference is {side} than the one shown" in found["note"]
    assert f"errs in favour of {plain.path}" in found["note"] and f"that of {run.path} a lower bound" in found["note"]
    code, _, err = cli("compare", first.path, second.path)
    assert code == 0 and side in " ".join(err.split())


def test_what_is_found_in_a_text_is_said_in_words(text):
    splits = prepare(open_source(text), text=TextOptions("word"))
    found = describe_data(splits)
    expected = "small: 162 sentences of at most 8 words and marks, ends included; a vocabulary of 19 words and marks"
    assert found.startswith(expected) and "values" not in found


@pytest.fixture(scope="module")
def tiny():
    """The model for sentences of one word, up to three times, with one latent, far from its start."""
    splits = prepare(open_source(["a", "a a", "a a a"] * 20), text=TextOptions("word", max_length=3))
    assert (splits.schema.levels, splits.schema.size) == (5, 3)
    model = build("sentence-vae", splits.schema, 60, latents=1, units=6, embedding=4).model.double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        # q(z|x) depends on x a little and is wider than the prior, so that no weight is large.
        model.posterior.net.last.weight.mul_(0.2)
        model.posterior.net.last.bias.copy_(torch.tensor([0.2, 1.3]))
    ended = [[*words, 2, *[0] * (2 - n)] for n in range(3) for words in itertools.product((3, 4), repeat=n)]
    rows = ended + [list(words) for words in itertools.product((3, 4), repeat=3)]
    return model.eval().requires_grad_(False), torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("training", [True, False])
def test_products_may_be_rounded_and_sums_are_not(run, training):
    likelihood, x = (
        run.model.vae.likelihood,
        run.model.model_values(["the cat sees it.", "a dog finds a red ball!"] * 40),
    )
    likelihood.train(training)
    z = torch.linspace(-1, 1, 3 * len(x)).reshape(-1, 3)
    with seeded(0):
        exact = likelihood(z).log_prob(x)
    with seeded(0), networks_in(conditionals_of(likelihood), "bf16"):
        rounded = likelihood(z).log_prob(x)
        part = likelihood(z[:64]).log_prob(x[:64]), likelihood(z[16:]).log_prob(x[16:])
    likelihood.eval()
    assert rounded.dtype == torch.float32 and 0 < (rounded - exact).abs().max() < 0.2
    if not training:
        assert torch.equal(part[0][16:], part[1][:48])


def test_the_probabilities_of_all_sentences_add_up_to_one_and_samples_have_them(tiny):
    model, rows = tiny
    p = testing.quadrature(model, rows).exp()
    assert len(rows) == 1 + 2 + 4 + 8 and float(p.sum()) == pytest.approx(1, abs=1e-6)
    at_zero = model.decode(torch.zeros(1, 1, 1).double()).log_prob(rows).exp()[0]
    assert float((p - at_zero).abs().sum()) > 0.1  # z says something
    n = 20_000
    with seeded(1):
        counts = (model.sample(n)[:, None] == rows).all(-1).double().sum(0)
    assert counts.sum() == n
    assert ((counts - n * p) / (n * p * (1 - p)).sqrt()).abs().max() < 4


def test_the_bounds_of_a_sentence_lie_below_its_probability_and_come_near_it(tiny):
    model, rows = tiny
    exact, k = testing.quadrature(model, rows), 5000
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None, None].expand(-1, len(rows), 1)
    log_q = model.posterior(rows).log_prob(z)
    elbo = (log_q.exp() * (model.log_joint(rows, z) - log_q)).sum(0) * (z[1, 0, 0] - z[0, 0, 0])
    assert (elbo < exact - 1e-3).all()
    with seeded(2):
        bound = objectives.ELBO(k=k)(model, rows).bound
        log_weight = model.draw(rows, k=k).log_weight
        weighted = objectives.IWAE(k=k)(model, rows).bound
    assert ((bound - elbo).abs() < 4 * log_weight.std(0) / k**0.5).all()
    error = (log_weight - log_weight.logsumexp(0) + math.log(k)).exp().std(0) / k**0.5
    assert (error < 0.05).all()
    assert (weighted < exact + 4 * error).all() and (weighted > exact - 4 * error - 0.01).all()
