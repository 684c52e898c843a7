"""Sentences: vocabularies, files, and the distribution of rows of tokens against enumeration and by hand."""

import itertools
import math

import numpy as np
import pytest
import torch

import jensen
from jensen import likelihoods, nets
from jensen.cli import _model_of
from jensen.data import TextOptions, open_source, prepare
from jensen.data.vocabulary import END, UNKNOWN, build_vocabulary
from jensen.distributions import Sentences, Sequences
from jensen.errors import DataError, JensenError, OptionError, ShapeError, SupportError
from jensen.noise import RowNoise

VOCABULARY, LENGTH = 6, 4


@pytest.fixture(params=[False, True], ids=["", "skip"])
def decoder(request):
    torch.manual_seed(0)
    network = nets.LSTMDecoder(VOCABULARY, 2, embedding=5, hidden=7, skip=request.param).double()
    for parameter in network.parameters():
        parameter.data.mul_(3)  # far from uniform
    return network.eval().requires_grad_(False)


def all_rows():
    """Every row: what ends at each place, and what does not end."""
    others = [UNKNOWN, 4, 5]
    rows = []
    for count in range(LENGTH):
        rows += [[*words, END, *[0] * (LENGTH - count - 1)] for words in itertools.product(others, repeat=count)]
    rows += [list(words) for words in itertools.product(others, repeat=LENGTH)]
    return torch.tensor(rows, dtype=torch.float64)


def test_all_rows_together_have_probability_one(decoder):
    z = torch.tensor([[0.3, -1.0], [2.0, 0.5]], dtype=torch.float64)
    rows = all_rows()
    assert bool(Sentences(VOCABULARY).check(rows).all()) and len(rows) == 1 + 3 + 9 + 27 + 81
    log_p = Sequences(decoder, z[:, None], LENGTH).log_prob(rows)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(2, dtype=torch.float64), atol=1e-12, rtol=0)
    cool = Sequences(decoder, z[:, None], LENGTH).at_temperature(0.5).log_prob(rows)
    torch.testing.assert_close(cool.exp().sum(1), torch.ones(2, dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_log_probability_is_the_product_of_the_steps(decoder):
    z = torch.tensor([[0.3, -1.0]], dtype=torch.float64)
    for row in ([4, 3, 2, 0], [5, 5, 4, 3], [2, 0, 0, 0]):
        state, context = decoder.start(z)
        before, by_hand = torch.tensor([1]), 0.0
        for token in row:
            if token == 0:
                break
            state = decoder.step(decoder.inputs(before) + context, state)
            by_hand += float(decoder.logits(state[0]).log_softmax(-1)[0, token - 2])
            before = torch.tensor([token])
        found = Sequences(decoder, z, LENGTH).log_prob(torch.tensor([row], dtype=torch.float64))
        assert float(found) == pytest.approx(by_hand, abs=1e-12)


def test_latents_reach_the_prediction_past_the_recurrence_where_they_skip_it(decoder):
    for layer in (decoder.begin, decoder.context):
        for parameter in layer.parameters():
            parameter.zero_()
    z = torch.tensor([[0.3, -1.0], [2.0, 0.5]], dtype=torch.float64)
    row = torch.tensor([4, 3, 2, 0], dtype=torch.float64)
    one, other = Sequences(decoder, z, LENGTH).log_prob(row).tolist()
    assert (abs(one - other) > 0.1) == (decoder.last.in_features > decoder.hidden)


def test_samples_have_the_frequencies_of_their_probabilities(decoder):
    z, n = torch.tensor([0.3, -1.0], dtype=torch.float64), 20_000
    p = Sequences(decoder, z, LENGTH)
    torch.manual_seed(1)
    drawn = p.sample((n,))
    rows = all_rows()
    counts = (drawn[:, None] == rows).all(-1).double().sum(0)
    assert counts.sum() == n
    expected = n * p.log_prob(rows).exp()
    likely = expected > 5
    chi = ((counts - expected).square() / expected)[likely].sum()
    degrees = int(likely.sum()) - 1
    assert abs(float(chi) - degrees) < 4 * math.sqrt(2 * degrees)


def test_the_mode_is_greedy_and_cold_samples_are_the_mode(decoder):
    z = torch.randn(3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert not (Sequences(decoder, z, LENGTH).mode == UNKNOWN).any()
    decoder.last.bias[UNKNOWN - 2] = -50.0
    p = Sequences(decoder, z, LENGTH)
    assert p.mode.shape == (3, 5, LENGTH)
    assert torch.equal(p.at_temperature(1e-4).sample(), p.mode) and torch.equal(p.mean, p.mode)


def test_every_row_may_have_its_own_noise(decoder):
    p = Sequences(decoder, torch.zeros(3, 2, 2, dtype=torch.float64), LENGTH)
    with RowNoise([7, 8]):
        both = p.sample()
    one = Sequences(decoder, torch.zeros(3, 1, 2, dtype=torch.float64), LENGTH)
    with RowNoise([8]):
        assert torch.equal(one.sample()[:, 0], both[:, 1])


def test_a_row_is_scored_the_same_beside_any_others():
    torch.manual_seed(0)
    network = nets.LSTMDecoder(300, 8, embedding=16, hidden=64).eval()
    encoder = nets.LSTMEncoder(300, 16, embedding=16, hidden=64).eval()
    rows = torch.randint(3, 300, (128, 20)).float()
    for row, length in enumerate(torch.randint(1, 20, (128,)).tolist()):
        rows[row, length], rows[row, length + 1 :] = END, 0
    z = torch.randn(4, 128, 8)
    other = torch.randperm(128)
    with torch.inference_mode():
        found = Sequences(network, z[:, :64], 20).log_prob(rows[:64])
        mixed = Sequences(network, z[:, other][:, :64], 20).log_prob(rows[other][:64])
        codes, mixed_codes = encoder(rows[:64]), encoder(rows[other][:64])
    here = [(a, b) for b, a in enumerate(other[:64].tolist()) if a < 64]
    assert len(here) > 20
    for a, b in here:
        assert torch.equal(found[:, a], mixed[:, b]) and torch.equal(codes[a], mixed_codes[b])


def test_what_fills_up_a_row_changes_nothing():
    torch.manual_seed(0)
    encoder = nets.LSTMEncoder(10, 3, embedding=4, hidden=6).double()
    short, long = torch.tensor([[5.0, 4.0, 2.0]]), torch.tensor([[5.0, 4.0, 2.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(encoder(short), encoder(long), atol=1e-12, rtol=0)
    other = torch.tensor([[5.0, 4.0, 2.0], [5.0, 4.0, 7.0]])
    assert not torch.equal(encoder(other)[0], encoder(other)[1])


def test_training_and_evaluation_agree_without_dropout(decoder):
    rows, z = all_rows(), torch.zeros(1, 2, dtype=torch.float64)
    evaluated = Sequences(decoder, z, LENGTH, word_dropout=0.9).log_prob(rows)
    trained = Sequences(decoder.train(), z, LENGTH).log_prob(rows)
    torch.testing.assert_close(evaluated, trained, atol=1e-12, rtol=0)


def test_word_dropout_hides_what_is_shown_and_not_what_is_scored(decoder):
    rows, z = all_rows(), torch.zeros(1, 2, dtype=torch.float64)
    decoder.train()
    torch.manual_seed(3)
    hidden = Sequences(decoder, z, LENGTH, word_dropout=1.0).log_prob(rows)
    # All words shown are then the unknown one, so the probabilities at a step are those after unknown words.
    state, context = decoder.start(z)
    log_p, token = [], torch.tensor([1])
    for _ in range(LENGTH):
        state = decoder.step(decoder.inputs(token) + context, state)
        log_p.append(decoder.logits(state[0]).log_softmax(-1)[0])
        token = torch.tensor([UNKNOWN])
    scores = torch.stack(log_p).gather(1, (rows.long() - 2).clamp(min=0).T)
    by_hand = (scores.T * (rows != 0)).sum(1)
    torch.testing.assert_close(hidden, by_hand, atol=1e-12, rtol=0)


def test_a_model_without_latents_scores_and_samples():
    torch.manual_seed(0)
    likelihood = (
        likelihoods.Sequence(nets.LSTMDecoder(VOCABULARY, 0, embedding=4, hidden=5).double(), LENGTH)
        .eval()
        .requires_grad_(False)
    )
    log_p = likelihood(None).log_prob(all_rows())
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-12)
    assert likelihood(None).sample((5,)).shape == (5, LENGTH)


def test_training_starts_at_the_frequencies_of_the_tokens():
    likelihood = likelihoods.Sequence(nets.LSTMDecoder(VOCABULARY, 2, embedding=4, hidden=5), LENGTH)
    likelihood.net.last.weight.data.zero_()
    rows = torch.tensor([[4.0, 4.0, 5.0, 2.0]] * 1000)
    assert likelihood.start_at_marginal(rows)
    p = likelihood.net.logits(torch.zeros(1, 5)).softmax(-1)[0]
    torch.testing.assert_close(p, torch.tensor([0.25, 0.0, 0.5, 0.25]), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "row", [[5, 0, 2, 0], [1, 2, 0, 0], [4.5, 2, 0, 0], [9, 2, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0], [-1, 2, 0, 0]]
)
def test_rows_that_are_no_sentences_are_refused(row):
    likelihood = likelihoods.Sequence(nets.LSTMDecoder(VOCABULARY, 2, embedding=4, hidden=5), LENGTH)
    likelihood.check(all_rows())
    with pytest.raises(SupportError, match="row 1"):
        likelihood.check(torch.tensor([[5.0, 2.0, 0.0, 0.0], row]))
    with pytest.raises(ShapeError, match="4 tokens"):
        likelihood.check(torch.zeros(2, 5))


@pytest.mark.parametrize("arguments", [{"length": 0}, {"length": 3, "word_dropout": 1.5}])
def test_options_out_of_range_are_refused(arguments):
    with pytest.raises(OptionError):
        likelihoods.Sequence(nets.LSTMDecoder(9, 2), **arguments)
    with pytest.raises(OptionError):
        nets.LSTMDecoder(2, 1)
    with pytest.raises(OptionError):
        nets.LSTMEncoder(9, 1, dropout=1.0)


SENTENCES = ["A cat sat.", 'He said, "no, I won\'t (yet)."', "Emoji 😀 and ünïcode…", "Is it?"]


@pytest.mark.parametrize("level", ["word", "char", "byte", "bpe"])
def test_sentences_come_back(level):
    if level == "bpe":
        pytest.importorskip("tokenizers")
    vocabulary = build_vocabulary(2 * SENTENCES, level, 1000)
    rows = vocabulary.encode(SENTENCES, 60)
    assert vocabulary.decode(rows) == SENTENCES
    again = type(vocabulary).model_validate_json(vocabulary.model_dump_json())
    assert again == vocabulary and (again.encode(SENTENCES, 60) == rows).all()
    assert bool(Sentences(vocabulary.count).check(torch.from_numpy(rows).float()).all())


def test_what_occurs_once_is_unknown_where_something_occurs_more_often():
    known = build_vocabulary(["a cat sat", "a cat ran", "a dog sat"], "word", 100)
    assert known.entries == ["a", "cat", "sat"]
    assert build_vocabulary(["some words", "that differ"], "word", 100).entries == ["differ", "some", "that", "words"]
    assert build_vocabulary(["aab", "ac"], "char", 100).entries == ["a"]


def test_a_long_sentence_is_cut_and_has_no_end():
    vocabulary = build_vocabulary(["a b c d"], "word", 100)
    assert vocabulary.encode(["a b c d"], 4).tolist() == [[4, 5, 6, 7]]
    assert vocabulary.encode(["a b c d"], 5).tolist() == [[4, 5, 6, 7, END]]


def test_what_is_not_known_is_counted_and_said(tmp_path):
    path = tmp_path / "few.txt"
    path.write_text("\n".join(f"the word{n} is here" for n in range(50)))
    splits = prepare(open_source(path), text=TextOptions("word", vocabulary=3, max_length=4))
    assert splits.schema.levels == 7 and splits.schema.size == 4
    notes = " ".join(splits.notes)
    assert "5 of 20 test tokens" in notes and "cut after 4 tokens" in notes and "5 of 5 test rows" in notes
    assert splits.user_rows("test").tolist() == ["the <unk> is here"] * 5
    again = prepare(open_source(path), text=TextOptions.of(splits.schema))
    assert again.schema == splits.schema and again.fingerprint("train") == splits.fingerprint("train")


@pytest.mark.parametrize("level", ["word", "char", "byte"])
def test_a_text_that_runs_on_is_cut_into_rows_and_nothing_is_left_out(level, tmp_path):
    path = tmp_path / "novel.txt"
    lines = [" ".join(f"w{(7 * n + m) % 23}é," for m in range(40 + n)) for n in range(9)]
    path.write_text("\n\n".join(lines), encoding="utf-8")
    splits = prepare(open_source(path), text=TextOptions(level, max_length=13, chunks=True))
    rows = torch.cat(list(splits.stored.values()))
    if level != "byte":  # of which one place may be left empty, where a character is of two bytes
        assert int((rows == 0).any(1).sum()) <= 1, "all pieces are full but the last"
    parts = {"word": lambda text: [c for part in text.split() for c in (part[:-1], ",")], "char": list}
    expected = parts.get(level, lambda text: list(text.encode()))("\n".join(lines))
    assert int((rows > END).sum()) == len(expected)
    assert splits.schema.chunks and "13 in a piece" in splits.schema.protocol
    assert not any("cut after" in note for note in splits.notes)
    assert any("cut into" in note and "--chunks" in note for note in splits.notes)
    again = prepare(open_source(path), text=TextOptions.of(splits.schema))
    assert again.schema == splits.schema and again.fingerprint("test") == splits.fingerprint("test")


@pytest.mark.parametrize("level", ["char", "byte"])
def test_pieces_of_the_usual_length_are_found_again(level, tmp_path):
    path = tmp_path / "novel.txt"
    path.write_text("\n".join("äöü x 汉字 "[n % 5 :] * 300 for n in range(12)), encoding="utf-8")
    splits = prepare(open_source(path), text=TextOptions(level, chunks=True))
    again = prepare(open_source(path), text=TextOptions.of(splits.schema))
    assert splits.schema.size == 256 and again.fingerprint("train") == splits.fingerprint("train")


def test_pieces_that_are_not_known_yet_are_refused(tmp_path):
    path = tmp_path / "novel.txt"
    path.write_text("\n".join(f"line {n}" for n in range(30)))
    with pytest.raises(OptionError, match="--level word"):
        prepare(open_source(path), text=TextOptions("bpe", chunks=True))


@pytest.mark.parametrize("wrong", [torch.eye(2).to_sparse(), [np.zeros((2, 3)), np.zeros((2, 4))], [["a"], ["b", "c"]]])
def test_what_is_no_list_of_strings_is_refused(wrong, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"line {n}" for n in range(9)))
    schema = prepare(open_source(tmp_path / "a.txt")).schema
    with pytest.raises(DataError, match="expected a list of strings"):
        schema.model_values(wrong)


def test_no_character_is_cut_in_its_bytes(tmp_path):
    path = tmp_path / "novel.txt"
    path.write_text("\n".join(f"{n} 😀" for n in range(9)), encoding="utf-8")
    with pytest.raises(OptionError, match="--max-length 4 or more"):
        prepare(open_source(path), text=TextOptions("byte", max_length=3, chunks=True))
    splits = prepare(open_source(path), text=TextOptions("byte", max_length=4, chunks=True))
    assert not any("\ufffd" in text for split in splits.stored for text in splits.user_rows(split))


def test_a_run_on_pieces_cuts_a_new_text_likewise(tmp_path):
    small = {"units": 8, "embedding": 4, "samples": 2, "steps": 3, "batch_size": 20}
    path, new = tmp_path / "novel.txt", tmp_path / "new.txt"
    line = "the cat sees a dog and the dog sees a cat near the old house "
    path.write_text("\n".join(line[n % 5 :] * 6 for n in range(12)))
    new.write_text("the cat sees a dog and\nthe dog sees a cat")
    cut = {"chunks": True, "max_length": 4, "data_seed": 3}
    run = jensen.fit(path, model="sentence-vae", out=tmp_path / "run", latents=2, **cut, **small)
    assert "4 in a piece" in run.result["data"]["protocol"]
    pieces = ["the cat sees a", "dog and the dog", "sees a cat"]
    assert np.array_equal(run.model.embed(new), run.model.embed(pieces))
    assert jensen.run.evaluate_run(run.path)[1]["test"] == run.result["test"]


ODD = {
    "empty": b"",
    "blank": b" \n\n\t\n",
    "one line": b"hello there",
    "crlf": b"one two\r\nthree four\r\nfive\r\nsix\r\n",
    "bom": b"\xef\xbb\xbfone two\nthree\nfour\nfive\n",
    "utf-16": "one\ntwo\nthree\nfour".encode("utf-16"),
    "utf-32": "one\ntwo\nthree\nfour".encode("utf-32"),
    "not utf-8": b"caf\xe9 one\ntwo\n\xff\xfe\xfa\nthree four\n\xe9",
    "binary": bytes(range(256)) * 4,
    "emoji": "😀\n👍🏽 ok\nfine 🇫🇷\nyes\n".encode(),
    "long": b"word " * 50_000 + b"\nshort\nline\nother",
    "marks": b"...\n!!!\n???\n---\n",
    "one word": b"same\n" * 30,
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("level", ["word", "char", "byte"])
def test_odd_files_are_read_or_refused_in_words(name, level, tmp_path):
    path = tmp_path / "odd.txt"
    path.write_bytes(ODD[name])
    if name in ("empty", "blank", "one line", "binary", "one word"):
        with pytest.raises(JensenError, match="odd"):
            prepare(open_source(path), text=TextOptions(level))
        return
    splits = prepare(open_source(path), text=TextOptions(level))
    for split in ("train", "valid", "test"):
        rows = splits.frozen(split)
        assert bool(Sentences(splits.schema.levels).check(rows).all())
        assert not any("\ufeff" in text or "\r" in text or "\0" in text for text in splits.user_rows(split))
    assert splits.schema.size <= 257


def test_sentences_have_a_model_of_their_own_where_none_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path))
    monkeypatch.delenv("JENSEN_FIT_MODEL", raising=False)
    for folder, names in {"named": ["a.txt"], "arrays": ["a.txt", "b.npy"], "two": ["a.txt", "b.txt"]}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    (tmp_path / "one.txt").touch()
    for arguments, model in {
        ("fit", "."): "vae",
        ("fit", "--help"): "vae",
        ("fit", "digits", "--epochs", "3"): "vae",
        ("fit", "--json", "my/Sentences.TXT.gz"): "sentence-vae",
        ("fit", "named", "--latents", "3"): "sentence-vae",
        ("fit", "arrays"): "vae",
        ("fit", "two"): "vae",
        ("fit", "digits", "--out", "named"): "vae",
        ("fit", "named", "--model", "language-model"): "language-model",
        ("fit", "named", "--model=vae"): "vae",
    }.items():
        assert _model_of(arguments) == model, arguments
    monkeypatch.setenv("JENSEN_FIT_MODEL", "language-model")
    assert _model_of(("fit", "named")) == "language-model"
