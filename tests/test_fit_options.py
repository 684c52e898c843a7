"""Options of a fit that concern where, how long, how often and how exactly it computes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import jensen
import jensen.cli
from jensen import hardware, run
from jensen.errors import FileFormatError, OptionError, RunError

TINY = {"steps": 4, "samples": 2, "hidden": (8,)}


@pytest.fixture
def cli(cli, monkeypatch, tmp_path):
    """The command line in a folder with a small table."""
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", np.random.default_rng(0).normal(size=(60, 3)))
    return cli


def test_several_seeds_differ_in_their_noise_alone(tmp_path):
    done = run.fit_seeds("digits", 3, out=tmp_path / "s", seed=5, **TINY)
    assert done.finished and [r.path.name for r in done.runs] == ["seed-5", "seed-6", "seed-7"]
    test = done.summary["test"]["elbo"]
    values = [r.result["test"]["elbo"]["mean"] for r in done.runs]
    assert test["values"] == values and len(set(values)) == 3
    assert test["mean"] == pytest.approx(np.mean(values)) and test["sd"] == pytest.approx(np.std(values, ddof=1))
    same = jensen.fit("digits", out=tmp_path / "one", seed=6, **TINY)
    assert same.result["test"]["elbo"]["mean"] == values[1]
    digests = {json.loads((r.path / "data.json").read_text())["sha256"]["test"] for r in done.runs}
    assert len(digests) == 1


def test_several_seeds_are_resumed_where_they_stopped(tmp_path):
    whole = run.fit_seeds("digits", 2, out=tmp_path / "whole", **TINY)
    asked = iter(range(1000))
    part = run.fit_seeds("digits", 2, out=tmp_path / "part", should_stop=lambda: next(asked) == 5, **TINY)
    assert not part.finished and len(part.runs) == 2
    with pytest.raises(RunError):
        run.fit_seeds("digits", 2, out=tmp_path / "part", **TINY)
    done = run.resume_seeds(tmp_path / "part")
    assert done.summary["test"] == whole.summary["test"]
    again = run.resume_seeds(tmp_path / "part")
    assert again.summary["test"] == whole.summary["test"]


@pytest.mark.parametrize(("model", "options"), [("autoencoder", ["--hidden", "8"]), ("pixelcnn", ["--width", "4"])])
def test_seeds_of_models_without_a_bound(model, options, tmp_path, cli):
    few = ["--steps", "3", "--batch-size", "20", *options]
    code, out, err = cli(
        "fit", "digits", "--model", model, "--seeds", "2", "--out", str(tmp_path / "s"), "--json", *few
    )
    assert code == 0 and "2 runs)" in err, err
    name = {"autoencoder": "reconstruction", "pixelcnn": "log_likelihood"}[model]
    assert list(json.loads(out)["test"]) == [name]


def test_seeds_that_make_no_sense(tmp_path):
    for seeds in (1, 0, -3):
        with pytest.raises(OptionError, match="--seeds"):
            run.fit_seeds("digits", seeds, out=tmp_path / "s", **TINY)
    x = np.random.default_rng(0).normal(size=(60, 3))
    memory = run.fit_seeds(x, 2, out=tmp_path / "m", **TINY)
    assert memory.finished
    with pytest.raises(RunError, match="memory"):
        run.resume_seeds(tmp_path / "m")
    assert run.resume_seeds(tmp_path / "m", x).finished
    (tmp_path / "m" / "seeds.json").write_text('{"seeds": "x"}')
    with pytest.raises(FileFormatError):
        run.resume_seeds(tmp_path / "m", x)


def test_several_seeds_are_of_one_data_set(tmp_path, monkeypatch):
    for name, count in (("a", 60), ("b", 80)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "d.npy", np.random.default_rng(0).normal(size=(count, 5)))
    monkeypatch.chdir(tmp_path / "a")
    asked = iter(range(1000))
    run.fit_seeds("d.npy", 2, out=tmp_path / "s", should_stop=lambda: next(asked) == 2, **TINY)
    monkeypatch.chdir(tmp_path / "b")
    done = run.resume_seeds(tmp_path / "s")
    assert done.finished and len({each.result["data"]["n_test"] for each in done.runs}) == 1
    other = run.fit(tmp_path / "b" / "d.npy", out=tmp_path / "other", **TINY)
    shutil.rmtree(tmp_path / "s" / "seed-1")
    other.path.rename(tmp_path / "s" / "seed-1")
    with pytest.raises(RunError, match="other data"):
        run.resume_seeds(tmp_path / "s")


def test_several_fits_that_are_refused_leave_no_folder(tmp_path, cli):
    for wrong in (["nosuch.npy"], ["t.npy", "--network", "conv"]):
        code, _, err = cli("fit", *wrong, "--seeds", "2", "--out", "s")
        assert code != 0 and "exists already" not in err and not (tmp_path / "s").exists()


def test_a_run_that_failed_belongs_to_nobody(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("jensen.run.fitting.draw_inputs", fail)
    with pytest.raises(KeyboardInterrupt):
        jensen.fit("digits", out=tmp_path / "run", **TINY)
    with pytest.raises(RunError) as error:
        jensen.fit("digits", out=tmp_path / "run", **TINY)
    assert "exists already" in str(error.value) and "process" not in str(error.value)


def test_seeds_from_the_command_line(cli):
    code, out, err = cli("fit", "t.npy", "--seeds", 2, "--steps", 3, "--hidden", 8, "--samples", 2, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["test"]["elbo"]["runs"] == 2 and "standard deviation of 2 runs" in err
    code, out, err = cli("fit", "--resume", document["run"])
    assert code == 0 and "standard deviation of 2 runs" in err
    for verb in (["evaluate"], ["check"], ["sample"], ["classify"], ["fit-prior"], ["compare", document["run"]]):
        code, _, err = cli(*verb, document["run"])
        assert code == 1 and f"such as {document['run']}/seed-0" in err
    assert cli("fit", "t.npy", "--seeds", 2, "--profile")[0] == 2
    assert cli("fit", "--resume", document["run"], "--seeds", 2)[0] == 2
    assert cli("fit", "--resume", document["run"], "--stop-after", 2)[0] == 2


def test_a_model_without_a_bound_keeps_to_a_budget_as_well(tmp_path):
    done = jensen.fit("digits", model="autoencoder", out=tmp_path / "run", time_budget=0.5, hidden=(8,))
    assert done.finished and done.step > 1


@pytest.mark.parametrize("text", ["", "abc", "-3s", "0", "10 weeks", "1e3"])
def test_budgets_that_are_no_time(cli, text):
    code, _, err = cli("fit", "t.npy", "--time-budget", text)
    assert code == 2 and "Traceback" not in err


def test_a_budget_decides_the_steps_before_the_first_one(cli):
    code, out, err = cli("fit", "t.npy", "--time-budget", "2s", "--hidden", 8, "--samples", 2, "--json")
    assert code == 0, err
    steps = json.loads(out)["steps"]
    config = json.loads(Path(json.loads(out)["run"], "config.json").read_text())
    assert steps == config["training"]["steps"] >= 1 and "fits into 2 s" in err
    assert cli("fit", "t.npy", "--time-budget", "2s", "--steps", 3)[0] == 2


def test_a_profile_names_the_bottleneck(cli):
    code, _, err = cli("fit", "t.npy", "--steps", 5, "--hidden", 8, "--samples", 2, "--profile", "--out", "p")
    assert code == 0 and "Most of the time" in err
    profile = json.loads(Path("p/profile.json").read_text())
    assert {"feed", "forward", "backward", "optimiser", "sync", "evaluation"} <= set(profile["seconds"])
    assert all(seconds >= 0 for seconds in profile["seconds"].values())
    assert max(profile["seconds"], key=profile["seconds"].get) in profile["sentence"]


def test_devices_that_are_not_here(cli):
    for name in ("abacus", "cuda:99", ""):
        code, _, err = cli("fit", "t.npy", "--device", name)
        assert code == 2 and "--device" in err and "Traceback" not in err


def test_no_compiler_is_said_before_training(cli, monkeypatch):
    hardware.can_compile.cache_clear()
    monkeypatch.setenv("CXX", "/no/such/compiler")
    try:
        code, _, err = cli("fit", "t.npy", "--compile", "on", "--steps", 3)
        assert code == 2 and "compiler" in err
        assert not hardware.can_compile(torch.device("cpu"))
    finally:
        hardware.can_compile.cache_clear()


def test_how_it_was_computed_is_part_of_the_run(tmp_path):
    done = jensen.fit("digits", out=tmp_path / "r", precision="bf16", average=0.5, patience=50, **TINY)
    config = json.loads((done.path / "config.json").read_text())
    assert config["training"]["precision"] == "bf16" and config["training"]["compiled"] is False
    assert config["training"]["average"] == 0.5 and config["training"]["patience"] == 50
    assert "CPU" in json.loads((done.path / "environment.json").read_text())["device"]


def test_a_compiled_run_is_not_resumed_without_a_compiler(tmp_path, monkeypatch):
    path = jensen.fit("digits", out=tmp_path / "r", stop_after=2, **TINY).path
    config = json.loads((path / "config.json").read_text())
    config["training"]["compiled"] = True
    (path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(run.fitting, "can_compile", lambda device: False)
    with pytest.raises(RunError, match="compiler"):
        jensen.resume(path)
