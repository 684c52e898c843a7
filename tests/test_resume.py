"""A run that is stopped, or killed, and resumed is the run that never stopped, to the last byte."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

import jensen
from jensen import VAE, Conditional, families, nets, objectives, priors, train
from jensen.errors import JensenError, NonFiniteError, RunError
from jensen.files import read_json, read_tensors, sha256, write_json
from jensen.train import Checkpoints

# 1437 training rows in batches of 100 make 15 steps an epoch; the warm-up of the KL ends at step 20.
OPTIONS = {
    "steps": 40,
    "batch_size": 100,
    "samples": 5,
    "hidden": (16,),
    "kl_warmup": 20,
    "validate_every": 7,
    "checkpoint_every": 10,
}


def digest(folder: Path) -> dict[str, str]:
    last = (folder / "checkpoints" / "latest").read_text().strip()
    names = ["model.safetensors", "metrics.jsonl", "scores.safetensors", f"checkpoints/{last}/manifest.json"]
    names += [f"checkpoints/{last}/{part}.safetensors" for part in ("model", "optimizer", "anchor", "best")]
    names += [name for name in [f"checkpoints/{last}/average.safetensors"] if (folder / name).exists()]
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    # The state of a checkpoint marks how far the journals have come, and clock values have no fixed length.
    state = json.loads((folder / f"checkpoints/{last}/state.json").read_text())
    state["journal"].pop("timing")
    found.pop(f"checkpoints/{last}/manifest.json")
    return {**found, "state": json.dumps(state)}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert jensen.fit("digits", out=folder, **OPTIONS).finished
    return digest(folder)


def fresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jensen", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    "stop",
    [1, 15, 39, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (14, 18, 22, 30))],
    ids="after {}".format,
)
def test_stop_and_resume_in_a_fresh_process(tmp_path, uninterrupted, stop):
    folder = tmp_path / "run"
    stopped = jensen.fit("digits", out=folder, stop_after=stop, **OPTIONS)
    assert not stopped.finished and stopped.step == stop
    done = fresh("fit", "--resume", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 40
    assert digest(folder) == uninterrupted


def test_many_stops_in_one_process(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    jensen.fit("digits", out=folder, stop_after=3, **OPTIONS)
    for stop in (4, 15, 16, 31, 39):
        jensen.resume(folder, stop_after=stop)
    assert jensen.resume(folder).finished
    assert digest(folder) == uninterrupted
    assert jensen.resume(folder).finished  # resuming a finished run changes nothing
    assert digest(folder) == uninterrupted


VARIANTS = {
    "bf16": {"precision": "bf16", "average": 0.9, "clip": 1.0},
    "faulty": {"learning_rate": 10.0, "kl_warmup": 0},
    "compiled": {"compile": "on"},
    "compiled bf16": {"compile": "on", "precision": "bf16"},
    "patient": {"patience": 2, "kl_warmup": 3, "validate_every": 2, "learning_rate": 0.05},
}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """A function from a variant to the digest of a run of it that is never stopped."""
    found: dict[str, dict[str, str]] = {}

    def whole(variant: str) -> dict[str, str]:
        if variant not in found:
            folder = tmp_path_factory.mktemp("wholes") / "run"
            jensen.fit("digits", out=folder, **{**OPTIONS, **VARIANTS[variant]})
            found[variant] = digest(folder)
        return found[variant]

    return whole


STOPS = (1, 14, 15, 18, 20, 22, 30, 39)


def run_with_a_stop(folder: Path, options: dict, stop: int) -> None:
    """A fit that is stopped and finished in a fresh process."""
    jensen.fit("digits", out=folder, stop_after=stop, **options)
    done = fresh("fit", "--resume", str(folder))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("variant", ["bf16", "patient"])
def test_guards_average_and_precision_resume_to_the_bit(tmp_path, variant):
    options = {**OPTIONS, **VARIANTS[variant]}
    assert jensen.fit("digits", out=tmp_path / "whole", **options).finished
    run_with_a_stop(tmp_path / "parts", options, 18)
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")


def test_a_run_that_went_back_to_older_weights_resumes_to_the_bit(tmp_path):
    options = {**OPTIONS, "steps": 200, **VARIANTS["faulty"]}
    with pytest.raises(NonFiniteError) as whole:
        jensen.fit("digits", out=tmp_path / "whole", **options)
    assert jensen.fit("digits", out=tmp_path / "parts", stop_after=18, **options).step == 18
    assert jensen.resume(tmp_path / "parts", stop_after=25).step == 25
    with pytest.raises(NonFiniteError) as parts:
        jensen.resume(tmp_path / "parts")
    assert str(whole.value) == str(parts.value) and "went back" in str(whole.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's parts warn one another
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("variant", ["bf16", "compiled", "compiled bf16"])
def test_every_way_of_computing_resumes_to_the_bit(tmp_path, wholes, variant, stop):
    options = {**OPTIONS, **VARIANTS[variant]}
    run_with_a_stop(tmp_path / "parts", options, stop)
    assert digest(tmp_path / "parts") == wholes(variant)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)])
def test_a_signal_saves_and_says_how_to_resume(tmp_path, number, code):
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "jensen",
        "fit",
        "digits",
        "--out",
        str(folder),
        "--steps",
        "100000",
        "--hidden",
        "16",
        "--samples",
        "2",
        "--validate-every",
        "50",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        metrics = folder / "metrics.jsonl"
        wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, process)
        process.send_signal(number)
        _, message = process.communicate(timeout=60)
    assert process.returncode == code, message
    assert f"jensen fit --resume {folder}" in message
    assert "Traceback" not in message
    step = int((folder / "checkpoints" / "latest").read_text().split("-")[1])
    assert jensen.resume(folder, stop_after=step + 2).step == step + 2


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process ended early"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


@pytest.mark.slow
def test_kill_at_random_moments_of_saving(tmp_path, uninterrupted):
    # With a checkpoint after each step and a large network nearly all the time goes into saving.
    options = {**OPTIONS, "hidden": (700, 700), "checkpoint_every": 1}
    whole = tmp_path / "whole"
    jensen.fit("digits", out=whole, **options)
    rng = random.Random(0)
    for kill in range(10):
        folder = tmp_path / f"killed-{kill}"
        jensen.fit("digits", out=folder, stop_after=1, **options)
        command = [sys.executable, "-m", "jensen", "fit", "--resume", str(folder)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, text=True) as process:
            latest = folder / "checkpoints" / "latest"
            wait_for(lambda latest=latest: latest.read_text() != "step-00000001\n", process)
            time.sleep(rng.uniform(0.0, 0.3))
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert process.returncode == -signal.SIGKILL, "the process ended before it was killed"
        resumed = fresh("fit", "--resume", str(folder))
        assert resumed.returncode == 0, resumed.stderr
        assert digest(folder) == digest(whole)


def test_a_crash_between_saving_and_the_next_step_is_undone(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    jensen.fit("digits", out=folder, stop_after=25, **OPTIONS)
    # Lines that were written after the last checkpoint, as a killed process leaves them.
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 28, "half a li')
    jensen.resume(folder)
    assert digest(folder) == uninterrupted


def test_the_second_fit_in_a_folder_is_refused_and_the_owner_named(tmp_path):
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "jensen",
        "fit",
        "digits",
        "--out",
        str(folder),
        "--steps",
        "100000",
        "--hidden",
        "16",
        "--validate-every",
        "50",
        "--checkpoint-every",
        "50",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, text=True) as process:
        wait_for(lambda: (folder / "checkpoints" / "latest").exists(), process)
        with pytest.raises(RunError, match=f"process {process.pid}"):
            jensen.resume(folder)
        with pytest.raises(RunError, match=f"process {process.pid}"):
            jensen.fit("digits", out=folder)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert jensen.resume(folder, stop_after=1).step >= 1  # a dead owner does not block


def tiny() -> VAE:
    torch.manual_seed(0)
    return VAE(
        priors.StandardNormal(2),
        Conditional(nets.mlp(2, 6, (4,)), families.Bernoulli(6)),
        Conditional(nets.mlp(6, 4, (4,)), families.Normal(2, families.PredictedScale())),
    )


def test_a_new_training_does_not_mix_its_checkpoints_with_those_of_another(tmp_path):
    options = {"steps": 8, "batch_size": 16, "checkpoints": Checkpoints(tmp_path, every=2)}
    x = (torch.rand(64, 6, generator=torch.Generator().manual_seed(0)) < 0.3).float()

    train.fit(tiny(), objectives.ELBO(), x, **options)
    with pytest.raises(RunError, match="resume=True"):
        train.fit(tiny(), objectives.ELBO(), x, **options)
    assert train.fit(tiny(), objectives.ELBO(), x, resume=True, **options).finished


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("selection"),
        lambda state: state.update(guard={"skipped": "text"}),
        lambda state: state.update(recent="text"),
        lambda state: state.update(journal=[]),
    ],
)
def test_a_state_of_another_form_is_named(tmp_path, damage):
    jensen.fit("digits", out=tmp_path / "run", stop_after=3, **OPTIONS)
    for folder in (tmp_path / "run" / "checkpoints").glob("step-*"):
        state, manifest = read_json(folder / "state.json"), read_json(folder / "manifest.json")
        damage(state)
        write_json(folder / "state.json", state)
        manifest["state.json"]["sha256"] = sha256(folder / "state.json")
        write_json(folder / "manifest.json", manifest)
    with pytest.raises(JensenError, match="damaged"):
        jensen.resume(tmp_path / "run")


def test_a_model_in_double_precision_resumes(tmp_path):
    x = (torch.rand(64, 6, generator=torch.Generator().manual_seed(0)) < 0.3).double()
    found = []
    for stops in ((None,), (7, None)):
        model = tiny().double()
        options = {"steps": 20, "batch_size": 16, "checkpoints": Checkpoints(tmp_path / str(len(stops)))}
        for number, stop in enumerate(stops):
            train.fit(model, objectives.ELBO(), x, stop_after=stop, resume=number > 0, **options)
        found.append(model.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_data_that_have_moved_keep_their_name_and_their_units(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(60, 5))
    (tmp_path / "data" / "foo").mkdir(parents=True)
    np.save(tmp_path / "data" / "foo" / "rows.npy", x)
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path / "data"))
    few = {"steps": 6, "samples": 2, "hidden": (4,), "validate_every": 3}
    whole = jensen.fit("foo", out=tmp_path / "whole", **few)
    jensen.fit("foo", out=tmp_path / "part", stop_after=4, **few)
    np.save(tmp_path / "elsewhere.npy", x)
    part = jensen.resume(tmp_path / "part", tmp_path / "elsewhere.npy")
    assert part.result["data"]["protocol"] == whole.result["data"]["protocol"]
    assert jensen.compare(tmp_path / "whole", tmp_path / "part")["elbo"]["difference"] == 0
    splits = {name: np.round(x[i::3] * 8) for i, name in enumerate(("train", "valid", "test"))}
    np.savez(tmp_path / "own.npz", **splits)
    np.savez(tmp_path / "large.npz", **{name: 1024 * rows for name, rows in splits.items()})
    jensen.fit(tmp_path / "own.npz", out=tmp_path / "own", stop_after=4, **few)
    with pytest.raises(RunError, match="units"):
        jensen.resume(tmp_path / "own", tmp_path / "large.npz")


def test_the_new_place_of_images_is_that_of_their_files(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 6)).astype(np.uint8)
    (tmp_path / "old").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "old" / f"{number:02}.png")
    run = jensen.fit(tmp_path / "old", out=tmp_path / "run", stop_after=1, steps=3, samples=2, hidden=(4,))
    (tmp_path / "old").rename(tmp_path / "new")
    assert not jensen.resume(run.path, tmp_path / "new", stop_after=2).finished
    assert read_json(run.path / "files.json")["folder"] == str(tmp_path / "new")
    assert jensen.resume(run.path).finished


def test_a_run_on_one_of_several_arrays_goes_on_with_that_array_alone(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 3))
    np.savez(tmp_path / "two.npz", feat=x, other=x + 1)
    np.savez(tmp_path / "one.npz", rows=x)
    np.save(tmp_path / "rows.npy", x)
    few = {"steps": 6, "samples": 2, "hidden": (4,)}
    run = jensen.fit(tmp_path / "two.npz", key="feat", out=tmp_path / "run", stop_after=1, **few)
    (tmp_path / "two.npz").unlink()
    for step, data in enumerate((tmp_path / "one.npz", tmp_path / "rows.npy", x, None), start=2):
        assert jensen.resume(run.path, data, stop_after=step).step == step


def test_a_fit_that_is_refused_leaves_no_folder_unless_it_can_go_on(tmp_path, monkeypatch):
    few = {"steps": 3, "samples": 2, "hidden": (4,)}
    for where, error, left in (
        ("draw_inputs", RunError("no pictures"), False),
        ("draw_inputs", MemoryError(), False),
        ("draw_results", RunError("no pictures"), True),
    ):
        monkeypatch.setattr(f"jensen.run.fitting.{where}", Mock(side_effect=error))
        with pytest.raises(JensenError, match=r"no pictures|out of memory"):
            jensen.fit("digits", out=tmp_path / "run", **few)
        assert (tmp_path / "run").exists() == left
        monkeypatch.undo()
    assert jensen.resume(tmp_path / "run").finished


def test_the_seconds_of_all_calls_add_up(tmp_path):
    folder = tmp_path / "run"
    jensen.fit("digits", out=folder, stop_after=3, **OPTIONS)
    for stop in (5, None):
        run = jensen.resume(folder, stop_after=stop)
    lines = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
    calls = {line["call"]: line["seconds"] for line in lines}
    assert len(calls) == 3 and run.result["seconds"] == pytest.approx(sum(calls.values()))
    assert [line["step"] for line in lines if line["call"] == lines[0]["call"]][-1] == 3
    seen = sum({line["call"]: line["seconds"] * line["examples_per_second"] for line in lines}.values())
    pace = pytest.approx(seen / run.result["seconds"])
    assert run.result["examples_per_second"] == pace and jensen.resume(folder).result["examples_per_second"] == pace


def test_rows_from_memory_are_given_again(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 5))
    options = {"steps": 12, "samples": 3, "hidden": (8,), "validate_every": 4}
    jensen.fit(x, out=tmp_path / "whole", **options)
    jensen.fit(x, out=tmp_path / "parts", stop_after=5, **options)
    with pytest.raises(RunError, match="from memory"):
        jensen.resume(tmp_path / "parts")
    with pytest.raises(RunError, match="SHA-256"):
        jensen.resume(tmp_path / "parts", x + 1)
    assert jensen.resume(tmp_path / "parts", x).finished
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a run"):
        jensen.resume(tmp_path)
    with pytest.raises(RunError, match="not a run"):
        jensen.resume(tmp_path / "nowhere")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 5))
    for name, hidden in (("a", (8,)), ("b", (9,))):
        jensen.fit(x, out=tmp_path / name, stop_after=2, steps=5, samples=2, hidden=hidden)
    shutil.rmtree(tmp_path / "a" / "checkpoints")
    shutil.copytree(tmp_path / "b" / "checkpoints", tmp_path / "a" / "checkpoints")
    with pytest.raises(JensenError, match="not of this model"):
        jensen.resume(tmp_path / "a", x)


def test_compare_pairs_rows_and_refuses_other_protocols(tmp_path):
    for name, options in (
        ("a", {"seed": 0}),
        ("b", {"seed": 1}),
        ("c", {"binarisation": "threshold"}),
        ("d", {"data_seed": 1}),
        ("e", {"likelihood": "normal"}),
        ("f", {"samples": 9}),
    ):
        jensen.fit("digits", out=tmp_path / name, **{**OPTIONS, **options})
    jensen.fit("digits", out=tmp_path / "g", stop_after=3, **OPTIONS)
    result = jensen.compare(tmp_path / "a", tmp_path / "b")
    a, b = (number["mean"] for number in result["elbo"]["numbers"])
    assert result["elbo"]["difference"] == pytest.approx(b - a, abs=1e-9)
    rows = [read_tensors(tmp_path / name / "scores.safetensors") for name in ("a", "b")]
    paired = rows[1]["elbo"] - rows[0]["elbo"]
    assert result["elbo"]["difference_se"] == pytest.approx(float(paired.std() / len(paired) ** 0.5))
    assert rows[0]["keys"].equal(rows[1]["keys"])
    for name, reason in (("c", "protocol"), ("d", "protocol"), ("e", "measure"), ("f", "samples"), ("g", "finished")):
        with pytest.raises(RunError, match=reason):
            jensen.compare(tmp_path / "a", tmp_path / name)


def test_scoring_again_gives_the_same_numbers(tmp_path):
    run = jensen.fit("digits", out=tmp_path / "run", **OPTIONS)
    from jensen.run import evaluate_run

    _, document = evaluate_run(tmp_path / "run", k=OPTIONS["samples"])
    for key in ("test", "kl_per_latent", "active_latents", "baselines", "data", "steps", "seconds"):
        assert document[key] == run.result[key], key


def test_clock_values_stay_out_of_the_metrics(tmp_path):
    jensen.fit("digits", out=tmp_path / "run", **OPTIONS)
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        assert not {"seconds", "examples_per_second", "time"} & set(json.loads(line))
    assert "seconds" in (tmp_path / "run" / "timing.jsonl").read_text()
