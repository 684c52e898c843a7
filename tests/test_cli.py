"""The command line: one paragraph and an exit code for every mistake, one JSON object on request, no escape bytes."""

import io
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import jensen
import jensen.cli
from jensen.cli.use import tell_sentences
from jensen.errors import MemoryShortError

TINY = ("--steps", "3", "--samples", "2", "--hidden", "8")


@pytest.fixture
def refused(cli):
    """Runs a command that must fail with a code and one paragraph; the paragraph."""

    def call(code, *args):
        found, out, err = cli(*args)
        assert found == code, err
        assert out == "" and "Traceback" not in err and "unforeseen" not in err
        message = err[err.rfind("jensen: ") :]
        assert message.startswith("jensen: ") and message.count("\n") == 1
        return message

    return call


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder with small data, a finished run ``good``, one on other data ``grey``, and an unfinished ``part``."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    np.save(folder / "t.npy", rng.normal(size=(40, 3)))
    np.save(folder / "u.npy", rng.integers(0, 256, (40, 4, 4)).astype(np.uint8))
    here = os.getcwd()
    os.chdir(folder)
    try:
        tiny = {"steps": 3, "samples": 2, "hidden": [8]}
        jensen.fit("t.npy", out="good", **tiny)
        jensen.fit("u.npy", out="grey", **tiny)
        jensen.fit("t.npy", out="part", stop_after=2, **tiny)
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def place(template, tmp_path, monkeypatch):
    """A fresh copy of the template as the working folder."""
    shutil.copytree(template, tmp_path / "w")
    for name in ("good", "grey", "part"):
        record = json.loads((tmp_path / "w" / name / "data.json").read_text())
        record["reference"] = record["reference"].replace(str(template), str(tmp_path / "w"))
        (tmp_path / "w" / name / "data.json").write_text(json.dumps(record))
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


def verbs(run):
    return [
        ("evaluate", run, "-k", "2"),
        ("sample", run, "-n", "2", "--out", "s.npy"),
        ("embed", run, "--out", "e.npy"),
        ("reconstruct", run, "--out", "r.npy"),
        ("compare", run, "good"),
        ("compare", "good", run),
    ]


# -- misuse ----------------------------------------------------------------------------------------------------------

WHOLE = [
    "latents", "k", "kl-warmup", "steps", "batch-size", "validate-every", "checkpoint-every", "stop-after", "seed",
    "data-seed", "samples",
]  # fmt: skip
REAL = ["noise", "beta", "free-bits", "epochs", "learning-rate"]


@pytest.mark.parametrize("option", [*WHOLE, *REAL, "hidden"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e308", "abc", "", "5,", "0x10"])
def test_numbers_that_are_none_or_out_of_range(place, refused, option, value):
    assert f"--{option}" in refused(2, "fit", "t.npy", f"--{option}={value}", "--out", "new")
    assert not (place / "new").exists()


@pytest.mark.parametrize("option", WHOLE)
def test_fractions_are_not_rounded(place, refused, option):
    assert "whole number" in refused(2, "fit", "t.npy", f"--{option}", "1.5", "--out", "new")


@pytest.mark.parametrize("option", [*WHOLE, *REAL])
def test_huge_numbers(place, refused, option):
    if option != "stop-after":
        refused(2, "fit", "t.npy", f"--{option}", str(10**30), "--out", "new")
    refused(2, "fit", "t.npy", f"--{option}", "9" * 5000, "--out", "new")


@pytest.mark.parametrize(
    "args",
    [
        ("fitt",),
        ("--bogus",),
        ("fit", "t.npy", "--bogus", "3"),
        ("fit",),
        ("fit", "t.npy", "u.npy"),
        ("fit", "t.npy", "--latents"),
        ("fit", "t.npy", "--latents", "2", "--latents", "3"),
        ("fit", "t.npy", "--likelihood", "cauchy"),
        ("fit", "t.npy", "--steps", "3", "--epochs", "2"),
        ("fit", "t.npy", "--steps", "3", "--kl-warmup", "3"),
        ("fit", "t.npy", "--free-bits", "1", "--posterior", "full"),
        ("fit", "t.npy", "--network", "conv"),
        ("fit", "u.npy", "--noise", "1", "--likelihood", "discretized-logistic"),
        ("fit", "u.npy", "--likelihood", "bernoulli"),
        ("fit", "--resume", "part", "--latents", "3"),
        ("fit", "--resume", "part", "--out", "new"),
        ("fit", "--resume", "part", "--download"),
        ("fit", "--resume", ""),
        ("sample",),
        ("sample", "good", "-n", "0"),
        ("sample", "good", "-n", str(10**30)),
        ("sample", "good", "--out", "a.txt"),
        ("sample", "good", "--out", ""),
        ("sample", "good", "--seed", "1.5"),
        ("embed", "good"),
        ("embed", "good", "--out", "a.png"),
        ("embed", "good", "--out", "a.npy", "--split", "dev"),
        ("evaluate", "good", "-k", "x"),
        ("evaluate", "good", "-k", "0"),
        ("evaluate", "good", "-k", "-5"),
        ("compare", "good"),
        ("compare", "good", "grey", "part"),
    ],
)
def test_misuse_exits_with_2(place, refused, args):
    before = sorted(place.iterdir())
    refused(2, *args)
    assert sorted(place.iterdir()) == before


def test_the_environment_is_checked_like_flags(place, refused, monkeypatch):
    monkeypatch.setenv("JENSEN_FIT_LATENTS", "abc")
    assert "JENSEN_FIT_LATENTS" in refused(2, "fit", "t.npy", "--out", "new")


def test_a_verb_with_a_hyphen_has_variables_that_a_shell_can_set(place, refused, monkeypatch):
    monkeypatch.setenv("JENSEN_FIT_PRIOR_STEPS", "abc")
    assert "JENSEN_FIT_PRIOR_STEPS" in refused(2, "fit-prior", "good")


@pytest.mark.parametrize("values", [2**46, 2**62])
def test_networks_that_do_not_fit_into_memory_are_refused(place, refused, monkeypatch, values):
    monkeypatch.setattr("jensen.run.fitting.choose", lambda *_, **__: torch.empty(values))
    assert "out of memory" in refused(1, "fit", "t.npy", "--out", "new")
    assert not (place / "new").exists()
    with pytest.raises(MemoryShortError, match="smaller networks"):
        jensen.fit(place / "t.npy", out=place / "new")


def test_flags_go_before_the_environment(place, cli, monkeypatch):
    monkeypatch.setenv("JENSEN_FIT_LATENTS", "2")
    assert "2 latents" in cli("fit", "t.npy", *TINY, "--out", "a")[2]
    assert "1 latent " in cli("fit", "t.npy", *TINY, "--latents", "1", "--out", "b")[2]


def test_what_is_on_is_put_out_by_its_own_variable(place, refused, monkeypatch):
    monkeypatch.setenv("JENSEN_FIT_NO_SKIP", "1")
    assert "set JENSEN_FIT_SKIP=false instead" in refused(2, "fit", "t.npy", "--out", "new")


def test_a_run_is_resumed_whatever_the_environment_says(place, cli, refused, monkeypatch):
    monkeypatch.setenv("JENSEN_FIT_LATENTS", "2")
    monkeypatch.setenv("JENSEN_FIT_OUT", "elsewhere")
    assert cli("fit", "--resume", "part")[0] == 0
    assert json.loads(Path("part/config.json").read_text())["training"]["steps"] == 3
    assert "--latents cannot be changed" in refused(2, "fit", "--resume", "part", "--latents", "2")


def test_advice_can_be_pasted_into_a_shell(place, cli, refused):
    (place / "part").rename("my part")
    assert "jensen fit --resume 'my part'" in refused(1, "evaluate", "my part")
    assert "jensen fit --resume 'my part'" in cli("fit", "--resume", "my part", "--stop-after", "2")[2]
    assert "--stop-after must be at least 1; got -5" in refused(2, "fit", "--resume", "my part", "--stop-after", "-5")


def test_the_home_of_a_user_has_a_short_name_everywhere(place, cli, monkeypatch):
    monkeypatch.setenv("HOME", str(place / "home"))
    (place / "home" / "data" / "rows").mkdir(parents=True)
    shutil.copy("t.npy", "home/data/rows/rows.npy")
    monkeypatch.setenv("JENSEN_DATA", "~/data")
    assert cli("fit", "rows", *TINY, "--out", "~/run")[0] == 0
    assert cli("sample", "home/run", "--out", "~/s.npy")[0] == 0
    assert Path("home/s.npy").exists() and not Path("~").exists()


def test_the_home_of_nobody_is_a_name_like_any_other(place, cli, monkeypatch):
    code, _, error = cli("fit", "t.npy", *TINY, "--out", "~nobody-here/run")
    assert code == 0 and Path("~nobody-here/run").is_dir(), error
    assert cli("sample", "~nobody-here/run", "--out", "~nobody-here/s.npy")[0] == 0
    monkeypatch.setenv("JENSEN_DATA", "~nobody-here/data")
    assert cli("fit", "digits", *TINY, "--out", "run")[0] == 0
    monkeypatch.setenv("HOME", str(place))
    assert jensen.load("~/run").schema.name == "digits"


def test_a_reader_of_few_letters_gets_json_too(place, monkeypatch):
    shutil.copy("t.npy", "猫.npy")
    command = [sys.executable, "-m", "jensen", "fit", "猫.npy", *TINY, "--out", "new", "--json"]
    found = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True)
    assert json.loads(found.stdout)["data"]["name"] == "猫"


def test_a_reader_of_few_letters_gets_sentences_too(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="")
    monkeypatch.setattr(sys, "stdout", narrow)
    tell_sentences("run", ["Grüße."], None, json=False)
    narrow.seek(0)
    assert narrow.read() == "Gr\\xfc\\xdfe.\n"


# -- data and places -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing.npy", "nobody", "", ".", "good", "bad.npy", "x" * 300])
def test_data_that_cannot_be_opened_exit_with_1(place, refused, name):
    (place / "bad.npy").write_bytes(b"\x93NUMPY garbage")
    refused(1, "fit", name, "--out", "new")
    assert not (place / "new").exists()


def test_places_that_cannot_be_used(place, refused):
    for out in ("good", "t.npy", "t.npy/x", "/proc/nowhere/x", "y" * 300):
        refused(1, "fit", "t.npy", *TINY, "--out", out)
    np.save("s.npy", np.zeros(1))
    for out in ("s.npy", "no/such/folder/s.npy", "y" * 300 + ".npy"):
        for verb in ("sample", "embed", "reconstruct"):
            refused(1, verb, "good", "--out", out)
    assert np.load("s.npy").shape == (1,)


def test_names_with_brackets_and_dollars(place, cli):
    shutil.copy("t.npy", "a[red]$\\frac{$_[bold].npy")
    code, _, err = cli("fit", "a[red]$\\frac{$_[bold].npy", *TINY, "--out", "new")
    assert code == 0 and "a[red]$\\frac{$_[bold]: 3 = 3" in err
    assert "a[red]$\\frac{$_[bold]; binarisation none" in cli("evaluate", "new", "-k", "2")[2]


def test_splits_of_different_shapes_are_named_wherever_they_are_given(place, refused):
    rows = np.load("t.npy")
    np.savez("bad.npz", train=rows, valid=rows, test=rows[:, :2])
    for command in (("fit", "bad.npz"), ("embed", "good", "bad.npz", "--out", "e.npy")):
        assert "the test rows of bad have shape (2,)" in refused(1, *command)


def test_a_file_without_a_name_of_its_own(place, cli):
    shutil.copy("t.npy", ".t.npy")
    assert cli("fit", ".t.npy", *TINY)[0] == 0
    assert [path.name for path in (place / "runs").iterdir()] == ["data"]


def test_names_that_are_not_utf_8(place, refused):
    odd = os.fsdecode(b"m\xfcller")
    shutil.copy("t.npy", f"{odd}.npy")
    (place / odd).mkdir()
    shutil.copy("t.npy", f"{odd}/t.npy")
    for args in ((f"{odd}.npy",), (f"{odd}/t.npy",), (f"{odd}.npy", "--seeds", "2")):
        assert "not UTF-8" in refused(1, "fit", *args, "--out", "new") and not (place / "new").exists()
    assert "not UTF-8" in refused(1, "fit", "t.npy", *TINY, "--out", f"{odd}-run")


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["missing", "t.npy", ".", "", "/dev/null", "x" * 300, "part"])
def test_what_is_no_finished_run(place, refused, run):
    for args in verbs(run):
        refused(1, *args)
    if run not in ("part", ""):
        refused(1, "fit", "--resume", run)


def test_an_unfinished_run_says_how_to_finish_it(place, refused, cli):
    assert "jensen fit --resume part" in refused(1, "evaluate", "part")
    assert cli("fit", "--resume", "part")[0] == 0
    assert cli("evaluate", "part", "-k", "2")[0] == 0


def halve(content):
    return content[: len(content) // 2]


DAMAGE = {
    "empty": lambda content: b"",
    "half": halve,
    "list": lambda content: b"[]",
    "object": lambda content: b"{}",
    "null": lambda content: b"null",
    "number": lambda content: b"3",
    "NaN": lambda content: b"NaN",
    "deep": lambda content: b"[" * 100_000,
    "no text": lambda content: b"\xff\xfe",
}


@pytest.mark.parametrize("name", ["config.json", "data.json", "result.json", "model.safetensors", "scores.safetensors"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_runs_never_give_a_stack_trace(place, cli, name, damage):
    path = place / "good" / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    codes = []
    for args in (*verbs("good"), ("fit", "--resume", "good")):
        for made in ("s.npy", "e.npy", "r.npy"):
            (place / made).unlink(missing_ok=True)
        code, _, err = cli(*args)
        assert code in (0, 1) and "unforeseen" not in err and (code == 0 or "jensen: " in err), (args, err)
        codes.append(code)
    assert 1 in codes


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("schema", "dtype"), "x"),
        (("schema", "dtype"), "object"),
        (("schema", "event_shape"), [0]),
        (("schema", "event_shape"), []),
        (("schema", "scale"), [0.0, 1.0, 1.0]),
        (("schema", "scale"), [1.0]),
        (("schema", "kind"), "binned"),
        (("schema", "seed"), "x"),
        (("reference",), 3),
        (("key",), 3),
        (("sha256",), "x"),
        (("sha256", "test"), "x"),
        (("protocol",), None),
    ],
)
def test_entries_of_the_wrong_type(place, cli, where, value):
    document = json.loads((place / "good" / "data.json").read_text())
    inner = document
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    (place / "good" / "data.json").write_text(json.dumps(document))
    for args in verbs("good"):
        code, _, err = cli(*args)
        assert code in (0, 1) and "unforeseen" not in err, err


def test_a_checkpoint_every_no_steps(place, refused):
    path = place / "part" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "checkpoint_every": 0}))
    assert "checkpoint_every" in refused(1, "fit", "--resume", "part")


def test_data_that_changed_since_the_fit(place, refused, cli):
    np.save("t.npy", np.load("t.npy") + 1e-3)
    assert "SHA-256" in refused(1, "evaluate", "good")
    assert "SHA-256" in refused(1, "fit", "--resume", "part")
    (place / "t.npy").unlink()
    assert "there is no file" in refused(1, "embed", "good", "--out", "e.npy")
    assert cli("sample", "good", "--out", "s.npy")[0] == 0


def test_data_that_have_moved_are_given_anew(place, refused, cli):
    shutil.move("t.npy", "moved.npy")
    for command in (("embed", "good", "--out", "e.npy"), ("evaluate", "good"), ("fit", "--resume", "part")):
        message = refused(1, *command)
        assert f"the data of {'part' if 'part' in command else 'good'} cannot be opened" in message
    assert "jensen fit PATH --resume part" in message
    assert "SHA-256" in refused(1, "fit", "u.npy", "--resume", "part")
    assert cli("evaluate", "good", "moved.npy", "-k", "2")[0] == 0


def test_where_data_have_moved_to_is_told_once(place, refused, cli):
    shutil.move("t.npy", "moved.npy")
    code, _, err = cli("fit", "moved.npy", "--resume", "part", "--stop-after", "2")
    assert code == 0 and "Go on with: jensen fit --resume part" in err
    assert cli("fit", "--resume", "part")[0] == 0
    assert cli("evaluate", "part", "-k", "2")[0] == 0
    assert "jensen fit PATH --resume good makes it known" in refused(1, "embed", "good", "--out", "e.npy")
    assert cli("fit", "moved.npy", "--resume", "good")[0] == 0
    assert cli("embed", "good", "--out", "e.npy")[0] == 0 and len(np.load("e.npy")) == 4


def test_data_known_by_name_are_looked_for_in_jensen_data(place, refused):
    path = place / "good" / "data.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "reference": "rows-of-mine"}))
    message = refused(1, "evaluate", "good")
    assert "set JENSEN_DATA to the folder that holds rows-of-mine" in message and "PATH" not in message


def test_several_seeds_go_on_with_data_of_another_name(place, refused, cli):
    assert cli("fit", "t.npy", *TINY, "--seeds", "2", "--out", "s")[0] == 0
    shutil.move("t.npy", "renamed.npy")
    shutil.rmtree("s/seed-1")
    assert "jensen fit PATH --resume s makes it known" in refused(1, "fit", "--resume", "s")
    assert cli("fit", "renamed.npy", "--resume", "s")[0] == 0
    assert cli("compare", "s/seed-0", "s/seed-1")[0] == 0
    assert json.loads((place / "s" / "seeds.json").read_text())["data"] == str(place / "renamed.npy")
    shutil.rmtree("s/seed-1")
    assert cli("fit", "--resume", "s")[0] == 0


@pytest.mark.parametrize("verb", ["embed", "reconstruct", "traverse", "map"])
def test_a_split_is_one_of_the_runs_own_rows(place, refused, verb):
    assert "--split valid" in refused(2, verb, "good", "t.npy", "--split", "valid", "--out", "e.npy")
    assert not (place / "e.npy").exists()


def test_going_on_is_advised_only_where_it_can_be_done(place, refused, cli):
    for args in (("fit", "t.npy", "--out", "part"), ("compare", "part", "good")):
        assert "jensen fit --resume part" in refused(1, *args)
    shutil.rmtree("part/checkpoints")
    assert cli("fit-prior", "good", "--components", "2", "--steps", "2", "--out", "new")[0] == 0
    for args in (("fit", "t.npy", "--out", "part"), ("fit-prior", "good", "--out", "new")):
        message = refused(1, *args)
        assert message.endswith("Choose another --out.\n") and "--resume" not in message
    for args in (("compare", "part", "good"), ("compare", "good", ".")):
        assert "Name one that is" in refused(1, *args)
    assert "there is no run nosuch" in refused(1, "compare", "nosuch", "good")


def test_results_that_are_damaged_are_measured_again(place, refused, cli):
    fit_prior = ("fit-prior", "--components", "2", "--steps", "2")
    assert cli(*fit_prior, "good", "--out", "a")[0] == 0
    for run in ("good", "a"):
        (place / run / "result.json").write_text("[]")
    for verb in ("evaluate", "fit-prior"):
        assert "Measure again with: jensen fit --resume good" in refused(1, verb, "good")
        assert "Restore it" in refused(1, verb, "a")
    assert cli("fit", "--resume", "good")[0] == 0
    assert cli(*fit_prior, "good", "--out", "b")[0] == 0


def test_rows_of_another_shape_are_refused(place, refused):
    for verb in ("embed", "reconstruct"):
        assert "shape" in refused(1, verb, "good", "u.npy", "--out", "e.npy")


def test_runs_that_do_not_compare(place, refused):
    assert "not comparable" in refused(1, "compare", "good", "grey")


# -- results ---------------------------------------------------------------------------------------------------------


def strict(text):
    def no(name):
        raise AssertionError(f"{name} is not JSON")

    assert text.count("\n") == 1
    return json.loads(text, parse_constant=no)


@pytest.mark.parametrize("data", ["t.npy", "u.npy", "tiny.npy"])
def test_json_of_fit_and_evaluate(place, cli, data):
    np.save("tiny.npy", np.random.default_rng(0).normal(size=(5, 2)))
    code, out, _ = cli("fit", data, *TINY, "--out", "new", "--json")
    assert code == 0
    code, again, _ = cli("evaluate", "new", "-k", "2", "--json")
    assert code == 0
    for document in (strict(out), strict(again)):
        assert {"schema_version", "run", "steps", "seconds", "examples_per_second"} <= set(document)
        assert {"name", "protocol", "event_shape", "n_train", "n_valid", "n_test"} <= set(document["data"])
        assert {"elbo", "log_likelihood", "bits_per_dim"} <= set(document["test"])
        assert {"kl_per_latent", "active_latents", "baselines"} <= set(document)
        measure = document["test"]["elbo"]["measure"]
        assert document["baselines"]
        for row in document["baselines"].values():
            assert {"mean", "se", "difference", "difference_se"} <= set(row) and row["measure"] == measure
            own = document["test"]["log_likelihood"]["mean"]
            assert own - row["mean"] == pytest.approx(row["difference"], abs=1e-6)
    assert strict(out)["test"] == strict(again)["test"]
    assert strict(out)["test"]["elbo"]["precision"] == "fp32"


def test_networks_may_compute_in_bf16(place, cli):
    _, exact, _ = cli("evaluate", "good", "-k", "2", "--json")
    _, rounded, _ = cli("evaluate", "good", "-k", "2", "--precision", "bf16", "--json")
    before, after = (strict(text)["test"]["log_likelihood"] for text in (exact, rounded))
    assert after["precision"] == "bf16" and 0 < abs(after["mean"] - before["mean"]) < 0.1
    assert "networks in bf16" in cli("evaluate", "good", "-k", "2", "--precision", "bf16")[2]


def test_a_density_on_a_grid_is_in_the_users_units_beside_baselines_of_its_measure(place, cli):
    np.save("wide.npy", np.load("u.npy").astype(int) * 3)
    results = []
    for data in ("u.npy", "wide.npy"):
        code, out, err = cli("fit", data, *TINY, "--likelihood", "normal", "--out", data + "-run", "--json")
        assert code == 0, err
        results.append(strict(out))
        assert {row["measure"] for row in results[-1]["baselines"].values()} == {"density"}
        assert results[-1]["test"]["bits_per_dim"] is None
        code, again, err = cli("evaluate", data + "-run", "-k", "2", "--json")
        assert code == 0, err
        assert strict(again)["test"] == results[-1]["test"]
    # The rows are three times as wide, and the model sees about the same: a density differs by log 3 for each value.
    first, second = (result["test"]["elbo"]["mean"] for result in results)
    assert first - second == pytest.approx(16 * math.log(3), abs=6)


def test_json_of_the_other_verbs(place, cli):
    for args in (
        ("sample", "good", "--out", "s.npy"),
        ("embed", "good", "--out", "e.npy"),
        ("reconstruct", "good", "--out", "r.png"),
        ("compare", "good", "good"),
        ("doctor",),
    ):
        code, out, err = cli(*args, "--json")
        assert code == 0, err
        assert strict(out)["schema_version"] == 1


def test_every_choice_names_its_option_and_its_reason(place, cli):
    _, out, err = cli("fit", "u.npy", *TINY, "--out", "new")
    assert out == ""
    for what in ("likelihood", "prior", "posterior", "networks", "training", "objective", "binarisation"):
        line = next(line for line in err.splitlines() if line.startswith(f"{what}: "))
        assert "; --" in line


def test_no_escape_bytes_without_a_terminal(place, cli):
    for args in (
        ("fit", "t.npy", *TINY, "--out", "n"),
        ("evaluate", "good"),
        ("--help",),
        ("fit", "--help"),
        ("fitt",),
    ):
        _, out, err = cli(*args)
        assert "\x1b" not in out + err


def test_a_stopped_fit_says_how_to_go_on(place, cli):
    code, out, err = cli("fit", "t.npy", *TINY, "--stop-after", "1", "--out", "n", "--json")
    assert code == 0 and strict(out)["finished"] is False and "jensen fit --resume n" in err


def test_samples_are_a_function_of_the_seed(place, cli):
    for out, seed in (("a.npy", 1), ("b.npy", 1), ("c.npy", 2)):
        assert cli("sample", "grey", "-n", "3", "--seed", seed, "--out", out)[0] == 0
    a, b, c = (np.load(f"{name}.npy") for name in "abc")
    assert a.dtype == np.uint8 and np.array_equal(a, b) and not np.array_equal(a, c)


# -- processes -------------------------------------------------------------------------------------------------------


def run(*args, **options):
    return subprocess.run([sys.executable, "-m", "jensen", *args], capture_output=True, text=True, **options)


def test_a_process_refuses_as_the_function_does(place):
    found = run("fit", "t.npy", "--latents", "abc")
    assert found.returncode == 2 and found.stderr.startswith("jensen: ") and found.stdout == ""
    found = run("fit", "missing.npy")
    assert found.returncode == 1 and found.stderr.startswith("jensen: ") and found.stdout == ""


def test_a_reader_that_goes_away_causes_no_noise(place):
    command = f"{sys.executable} -m jensen evaluate good -k 2 --json | head -c 1"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert found.stdout == "{" and "Traceback" not in found.stderr and "Exception" not in found.stderr
    with open(os.devnull) as nothing:
        closed = run("evaluate", "good", "-k", "2", stdin=nothing)
    assert closed.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="needs a shell with pipes")
def test_a_closed_pipe_does_not_stop_a_training(place):
    command = f"{sys.executable} -m jensen fit t.npy --out new {' '.join(TINY)} 2>&1 | head -c 1"
    subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (place / "new" / "result.json").exists() and (place / "new" / "samples.png").exists()


def test_no_colour_where_none_is_wanted(place):
    found = run("evaluate", "good", "-k", "2", env={**os.environ, "NO_COLOR": "1", "FORCE_COLOR": ""})
    assert found.returncode == 0 and "\x1b" not in found.stdout + found.stderr


def test_help_does_not_import_torch():
    code = "import sys, jensen.cli; sys.argv = ['jensen', '--help']\ntry: jensen.cli.main()\nexcept SystemExit: pass\n"
    found = subprocess.run(
        [sys.executable, "-c", code + "assert 'torch' not in sys.modules"], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr


def test_a_model_that_loses_to_a_baseline_is_told_so(place, cli):
    x = np.random.default_rng(0).normal(size=(200, 1)) * np.ones((1, 6))
    np.save("line.npy", x + 0.01 * np.random.default_rng(1).normal(size=(200, 6)))
    _, _, message = cli("fit", "line.npy", *TINY, "--out", "short")
    told = " ".join(message.split())
    assert "note: better on these test rows than the model:" in told
    assert "probabilistic PCA. Look at curves.png" in told
