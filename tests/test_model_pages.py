"""The pages of the models: each has a formula and a paper, and says what was measured."""

import re
import subprocess
import sys

import numpy as np
import pytest
from benchmarks import model_pages, model_text

import jensen
from jensen import zoo

NUMBER = {"mean": -20.256, "se": 0.31, "k": 500, "ess": 12.3, "kind": "lower"}
MADE_UP = {
    "model": "iwae",
    "asked": "digits",
    "data": "digits",
    "time_budget": 60.0,
    "seed": 3,
    "machine": {"date": "2001-02-03", "commit": "abc1234", "gpu": None, "cpu": "a cpu", "threads": 1, "torch": "9.9"},
    "found": "digits: 8×8 = 64 values per row",
    "choices": [["posterior", "q(z|x) normal", "by default", "--posterior"]],
    "parameters": 12345,
    "steps": 1000,
    "best_step": 900,
    "seconds": 59.6,
    "test": {"log_likelihood": NUMBER, "elbo": {**NUMBER, "mean": -21.5}, "bits_per_dim": 0.456},
    "kl": 9.87,
    "active": 7,
    "baselines": {"a mixture": {"mean": -30.0, "se": 0.2, "difference": 9.74, "difference_se": 0.1}},
    "accuracy": None,
    "given": False,
    "pictures": [["iwae-digits-samples.png", "Drawn from the model"]],
    "texts": [],
}
SENTENCES = [f"the {who} {does} {n} times." for who in ("cat", "dog") for does in ("sits", "runs") for n in range(20)]
every_model = pytest.mark.parametrize("name", zoo.MODELS)


@every_model
def test_a_model_has_a_formula_and_a_paper(name):
    assert model_text.formulas(name)
    assert re.search(r"\b(19|20)\d\d\b", model_text.references(name))
    year = re.findall(r"\d{4}", zoo.entry_of(name).paper)[-1]
    papers = (f"{model_text.references(name)} {model_text.explained(name)}", zoo.entry_of(name).paper)
    assert name == "language-model" or year in papers[0] or papers[1].split()[0].strip(",") in papers[0]


@every_model
def test_a_page_shows_formula_options_and_example(name, tmp_path):
    shown = model_pages.page(name, [], tmp_path)
    assert "$`" in shown or "```math" in shown
    assert ":class:" not in shown and ":math:" not in shown and ".. math" not in shown
    assert f"--model {name}" in shown and f'model="{name}"' in shown and "Nothing yet" in shown
    for option, field in model_text.own_options(name).items():
        assert f"| `{model_text.flag(option, field)}` |" in shown
        assert model_text.cell(field.description) in shown
    assert ("| `--no-loadings` | on |" in shown) == (name == "ibp-vae")
    compile(model_text.example(name, "digits"), name, "exec")


def test_a_page_of_a_record_shows_its_numbers_choices_and_pictures(tmp_path):
    shown = model_pages.page("iwae", [MADE_UP], tmp_path)
    for text in (
        r"\log \frac1K \sum_k w_k",
        "| log p(x), a lower bound | ≥ -20.26 ± 0.31 | K = 500, median ESS 12.3 |",
        "| ELBO | ≥ -21.50 ± 0.31 |",
        "| bits/dim | ≤ 0.456 |",
        "| a mixture | -30.00 ± 0.20 | the model is 9.74 ± 0.10 better, paired over rows |",
        "| KL | 9.87 |",
        "| active latents | 7 |",
        "| parameters | 12,345 |",
        "on 2001-02-03 at abc1234: a cpu, 1 threads, torch 9.9.",
        "Seed 3",
        r"| posterior | q(z\|x) normal | by default | `--posterior` |",
        "(../pictures/models/iwae-digits-samples.png)",
        "| `--k` | 8 |",
    ):
        assert text in shown


def test_only_files_that_are_there_are_linked(tmp_path):
    assert "ibp.md" not in model_pages.page("ibp-vae", [], tmp_path)
    (tmp_path / "ibp.md").touch()
    assert "[ibp.md](../ibp.md)" in model_pages.page("ibp-vae", [], tmp_path)


def test_all_pages_are_written_and_listed(tmp_path):
    exact = {**NUMBER, "kind": "exact", "k": None, "ess": None}
    found = {
        "iwae/digits": MADE_UP,
        "pixelcnn/digits": {**MADE_UP, "model": "pixelcnn", "test": {"log_likelihood": exact}},
    }
    model_pages.write_pages(found, tmp_path)
    listed = (tmp_path / "models.md").read_text()
    for name in zoo.MODELS:
        assert f"[{name}](models/{name}.md)" in listed and (tmp_path / f"models/{name}.md").exists()
    assert "| digits | ≥ -20.26 ± 0.31 | bound | 9.9 | 60 |" in listed
    assert "| digits | = -20.26 ± 0.31 | exact |" in listed
    for option in ("--latents", "--free-bits", "--time-budget"):
        assert f"| `{option}` |" in listed


def test_the_blocks_of_python_are_formatted(tmp_path):
    model_pages.write_pages({"iwae/digits": MADE_UP}, tmp_path)
    command = [sys.executable, "-m", "ruff", "format", "--check", "--preview", "--line-length", "120", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@every_model
def test_the_example_runs_and_codes_are_decoded(name, tmp_path, monkeypatch):
    (tmp_path / "sentences.txt").write_text("\n".join(SENTENCES))
    monkeypatch.chdir(tmp_path)
    fit = jensen.fit
    monkeypatch.setattr(jensen, "fit", lambda data, **options: fit(data, steps=5, samples=2, **options))
    made: dict = {}
    exec(model_text.example(name, "digits"), made)
    if "z" in made:
        labels = "3" if name in model_text.LABELLED else None
        np.testing.assert_array_equal(made["model"].decode(made["z"], labels=labels), made["again"])
