"""Saving and loading: a user's own pieces, edited models, and folders that try to run code."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from torch import nn

import jensen
from jensen import VAE, Conditional, declared, families, nets, objectives, priors, testing, train
from jensen.errors import DataError, FileFormatError, JensenError, SpecError
from jensen.files import read_tensors, write_json, write_tensors

SOURCE = Path(jensen.__file__).parent


@declared("mylab.Gated")
class Gated(nn.Module):
    def __init__(self, size: int, out: int, width: int = 8) -> None:
        super().__init__()
        self.value, self.gate, self.last = nn.Linear(size, width), nn.Linear(size, width), nn.Linear(width, out)

    def forward(self, x):
        return self.last(self.value(x) * torch.sigmoid(self.gate(x)))


class Undeclared(Gated):
    pass


def vae(encoder: nn.Module | None = None) -> VAE:
    torch.manual_seed(0)
    return VAE(
        priors.StandardNormal(2),
        Conditional(nets.mlp(2, 6, hidden=(8,)), families.Bernoulli(6)),
        Conditional(encoder or nets.mlp(6, 4, hidden=(8,)), families.Normal(2, families.PredictedScale())),
    )


X = (torch.rand(20, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()


def same(a, b) -> bool:
    return np.array_equal(a.embed(X), b.embed(X)) and np.array_equal(a.sample(5, seed=3), b.sample(5, seed=3))


def test_a_model_comes_back(tmp_path):
    model = vae()
    train.fit(model, objectives.ELBO(), X, steps=5)
    jensen.save(model, tmp_path / "m")
    assert same(jensen.load(tmp_path / "m"), jensen.Fitted(model))
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]


def test_a_users_own_declared_network_comes_back_with_modules_and_is_refused_without(tmp_path):
    model = vae(Gated(6, 4, width=5))
    train.fit(model, objectives.ELBO(), X, steps=5)
    jensen.save(model, tmp_path / "m")
    with pytest.raises(SpecError, match=r"modules=\{\"mylab.Gated\": Gated\}"):
        jensen.load(tmp_path / "m")
    assert same(jensen.load(tmp_path / "m", modules={"mylab.Gated": Gated}), jensen.Fitted(model))
    with pytest.raises(SpecError, match="own 'VAE'"):
        jensen.load(tmp_path / "m", modules={"mylab.Gated": Gated, "VAE": Gated})


def test_an_undeclared_network_trains_and_save_says_what_to_add(tmp_path):
    model = vae(Undeclared(6, 4))
    assert train.fit(model, objectives.ELBO(), X, steps=5).finished
    with pytest.raises(SpecError, match=r"@jensen.declared\(\"mylab.Undeclared\"\)"):
        jensen.save(model, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    with pytest.raises(SpecError, match="declared"):
        jensen.fit(X, out=tmp_path / "run", model=model, steps=2)
    assert not (tmp_path / "run").exists()


def _swap_layer(model: VAE) -> None:
    model.likelihood.net[2] = nn.Tanh()


def _add_layer(model: VAE) -> None:
    model.likelihood.net.append(nn.Identity())


def _swap_prior(model: VAE) -> None:
    model.prior = priors.StandardNormal(3)


def _patch_forward(model: VAE) -> None:
    original = model.likelihood.net.forward
    model.likelihood.net.forward = lambda z: original(z) * 0.5


def _change_noise(model: VAE) -> None:
    model.prior.scale.fill_(2.0)


def _grow(model: VAE) -> None:
    model.posterior.net[1] = nn.Linear(6, 9)
    model.posterior.net[3] = nn.Linear(9, 4)


@pytest.mark.parametrize("edit", [_swap_layer, _add_layer, _swap_prior, _patch_forward, _change_noise, _grow])
def test_an_edited_model_is_noticed(tmp_path, edit):
    model = vae()
    edit(model)
    with pytest.raises(SpecError, match="cannot be saved"):
        jensen.save(model, tmp_path / "m")


def test_a_run_with_a_users_own_model(tmp_path):
    run = jensen.fit(X.numpy(), out=tmp_path / "run", model=vae(Gated(6, 4)), steps=10, samples=5, stop_after=4)
    assert not run.finished
    modules = {"mylab.Gated": Gated}
    with pytest.raises(SpecError, match="modules"):
        jensen.resume(run.path, X.numpy())
    assert jensen.resume(run.path, X.numpy(), modules=modules).finished
    fitted = jensen.load(run.path, modules=modules)
    assert jensen.evaluate(fitted, X.numpy(), k=5).elbo.n == 20


def test_a_users_own_model_that_is_refused_leaves_no_folder_in_the_way_of_a_better_one(tmp_path):
    few = {"out": tmp_path / "run", "steps": 2, "samples": 2}
    with pytest.raises(SpecError, match="cannot draw from itself"):
        jensen.fit(X.numpy(), model=vae(nets.mlp(5, 4, hidden=(8,))), **few)
    assert jensen.fit(X.numpy(), model=vae(), **few).finished


def test_shared_tensors_are_written_once_and_stay_shared(tmp_path):
    shared = torch.randn(100)
    write_tensors(tmp_path / "t.safetensors", {"a": shared, "b": shared, "c": shared[:50], "d": shared.clone()})
    found = read_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(found[k], v) for k, v in {"a": shared, "b": shared, "c": shared[:50], "d": shared}.items())
    assert (tmp_path / "t.safetensors").stat().st_size < 4 * 250 + 600


def test_float64_models_come_back(tmp_path):
    model = vae().double()
    jensen.save(model, tmp_path / "m")
    found = jensen.load(tmp_path / "m").vae
    assert next(found.parameters()).dtype == torch.float64


def test_a_float64_autoencoder_comes_back(tmp_path):
    decoder = Conditional(nets.mlp(2, 6), families.Bernoulli(6))
    autoencoder = jensen.model.Autoencoder(nets.mlp(6, 2), decoder, latents=2).double()
    jensen.save(autoencoder, tmp_path / "m")
    x = torch.ones(3, 6, dtype=torch.float64)
    assert torch.allclose(jensen.load(tmp_path / "m").embed(x), autoencoder.embed(x), atol=1e-12)


def test_the_source_has_no_pickle():
    words = r"torch\.load\(|\bimport pickle|\bpickle\.|allow_pickle=True|\beval\(|\bexec\(|joblib|yaml\.load"
    banned = re.compile(words)
    found = [
        f"{path}: {line.strip()}"
        for path in SOURCE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if banned.search(line) and "model.eval()" not in line and ".eval()" not in line
    ]
    assert found == []
    assert banned.search("x = torch.load(path)") and banned.search("import pickle")  # the search itself works


AUDIT = """
import sys
canaries = []
watched = ("pickle.find_class", "os.system", "subprocess.Popen", "exec", "compile", "socket.connect", "os.exec",
           "os.posix_spawn", "os.startfile")
import jensen, torch, numpy
from pathlib import Path
folder = Path(sys.argv[1])
warm = jensen.load(folder)  # imports happen here, before the watch begins
warm.sample(2, seed=0), warm.embed(warm.sample(2, seed=0)); jensen.evaluate(warm, warm.sample(2, seed=0), k=2)
active = [True]
def hook(event, args):
    if active[0] and (event in watched or (event == "open" and "canary" in str(args[0]))):
        canaries.append((event, str(args)[:80]))
sys.addaudithook(hook)
if sys.argv[2] == "control":
    import pickle
    pickle.loads(next(iter((folder / "checkpoints").rglob("evil.pt"))).read_bytes())
else:
    model = jensen.load(folder)
    rows = model.sample(2, seed=0)
    model.embed(rows); model.reconstruct(rows); jensen.evaluate(model, rows, k=2)
active[0] = False
print("\\n".join(map(str, canaries)))
"""


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def planted(folder: Path) -> Path:
    """A run with pickles wherever other libraries would look for them."""
    jensen.fit("digits", out=folder, steps=3, samples=2, hidden=(8,))
    payload = pickle.dumps(Evil(folder / "canary"))
    names = [
        "model.pt",
        "pytorch_model.bin",
        "optimizer.pt",
        "data.pkl",
        "rng_state.pth",
        "model.pkl",
        "evil.pt",
        ".metadata",
        "__init__.py",
        "jensen.py",
    ]
    for parent in (folder, folder / "checkpoints", next((folder / "checkpoints").glob("step-*"))):
        for name in names:
            (parent / name).write_bytes(payload)
    return folder


@pytest.mark.parametrize("mode", ["load", "control"])
def test_loading_runs_nothing_from_the_folder(tmp_path, mode):
    folder = planted(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, str(folder), mode],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder.parent,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    if mode == "control":
        assert "pickle.find_class" in done.stdout  # the hook catches a deliberate unpickle
        assert (folder / "canary").exists()
    else:
        assert done.stdout.strip() == ""
        assert not (folder / "canary").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "data.json"])
@pytest.mark.parametrize("kind", ["pickle", "empty", "truncated", "garbage", "flipped", "missing", "huge header"])
def test_damaged_files_are_refused(tmp_path, name, kind):
    folder = tmp_path / "run"
    jensen.fit("digits", out=folder, steps=3, samples=2, hidden=(8,))
    path = folder / name
    content = path.read_bytes()
    replaced = {
        "pickle": pickle.dumps(Evil(folder / "canary")),
        "empty": b"",
        "truncated": content[: len(content) // 2],
        "garbage": bytes(range(256)) * 4,
        "flipped": content[:9] + b"\xff" + content[10:],
        "huge header": (2**62).to_bytes(8, "little") + content[8:],
    }
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes(replaced[kind])
    if kind == "missing" and name == "data.json":
        assert jensen.load(folder).schema is None
        return
    with pytest.raises(JensenError):
        jensen.load(folder)
    assert not (folder / "canary").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"_target_": "os.system"},
        {"format": 2},
        {"format": "1"},
        {"model": None},
        {"model": {"format": 1, "nodes": []}},
        {"model": {"format": 1, "nodes": [{"name": "os.system", "arguments": {"command": "true"}}]}},
        {
            "model": {
                "format": 1,
                "nodes": [{"name": "nets.mlp", "arguments": {"in_features": 10**30, "out_features": 1}}],
            }
        },
        {"model": {"format": 1, "nodes": [{"name": "schedules.Constant", "arguments": {"value": 1.0}}]}},
    ],
)
def test_descriptions_that_are_not_models_are_refused(tmp_path, change):
    jensen.save(vae(), tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    write_json(tmp_path / "m" / "config.json", {**config, **change})
    with pytest.raises(JensenError):
        jensen.load(tmp_path / "m")


def test_tensors_of_another_model_are_refused(tmp_path):
    jensen.save(vae(), tmp_path / "a")
    jensen.save(vae(Gated(6, 4)), tmp_path / "b")
    (tmp_path / "a" / "model.safetensors").write_bytes((tmp_path / "b" / "model.safetensors").read_bytes())
    with pytest.raises(SpecError, match="do not fit"):
        jensen.load(tmp_path / "a")
    with pytest.raises(FileFormatError, match="no folder"):
        jensen.load(tmp_path / "nowhere")


def test_fitted_speaks_the_users_units(tmp_path):
    run = jensen.fit("digits", out=tmp_path / "run", steps=600, samples=5, hidden=(64,))
    fitted = run.model
    from sklearn.datasets import load_digits

    x = load_digits().images[:70]
    codes, again, new = fitted.embed(x), fitted.reconstruct(x), fitted.sample(16)
    assert codes.shape == (70, 17) and isinstance(codes, np.ndarray)
    assert again.shape == x.shape and again.min() >= 0 and 10 < again.max() <= 16
    assert np.abs(again - x).mean() < np.abs(x - x.mean(0)).mean()
    assert new.shape == (16, 8, 8) and new.dtype == x.dtype and set(np.unique(new)) <= set(range(17))
    assert isinstance(fitted.embed(torch.from_numpy(x)), torch.Tensor)
    assert np.array_equal(fitted.embed(x[:1])[0], codes[0])
    order = np.random.default_rng(0).permutation(70)
    assert np.array_equal(fitted.embed(x[order]), codes[order])
    assert np.array_equal(fitted.reconstruct(x[:37]), again[:37])
    rows = fitted.log_likelihood(x, k=20)
    assert rows.shape == (70,)
    assert np.array_equal(fitted.log_likelihood(x[order], k=20), rows[order])
    assert jensen.evaluate(fitted, x, k=20).log_likelihood.mean == pytest.approx(rows.mean(), abs=1e-9)
    assert not np.array_equal(fitted.sample(4), fitted.sample(4))
    assert np.array_equal(fitted.sample(4, seed=1), fitted.sample(4, seed=1))
    assert np.array_equal(np.rint(fitted.sample(4, mean=True, seed=1)).shape, (4, 8, 8))
    exact = torch.from_numpy(x).bfloat16()  # holds whole numbers up to 256
    assert np.array_equal(fitted.embed(exact).numpy(), codes) and np.array_equal(fitted.embed(x.tolist()), codes)
    ragged, plain = [x[0].tolist(), x[1, :4].tolist()], jensen.Fitted(fitted.vae)
    for bad in (x * 1j, ragged, x.astype(str)):
        with pytest.raises(DataError):
            plain.embed(bad)
    for bad in (x[0], x[:, :4], x + 0.5, x * np.nan, "text", x.astype(str), x[:0], ragged, exact.to_sparse()):
        with pytest.raises(JensenError):
            fitted.embed(bad)
    assert not fitted.vae.training


def test_new_rows_of_a_file_of_several_arrays_are_those_of_the_name_that_was_fitted(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 3))
    np.savez(tmp_path / "two.npz", feat=rows, other=rows + 1)
    np.savez(tmp_path / "one.npz", rows=rows)
    run = jensen.fit(tmp_path / "two.npz", key="feat", out=tmp_path / "run", steps=2, samples=2, hidden=[8])
    jensen.save(run.model, tmp_path / "copy")
    np.savez(tmp_path / "wrong.npz", feats=rows, x=rows + 1, y=rows + 2)
    np.save(tmp_path / "rows.npy", rows)
    for model in (run.model, jensen.load(tmp_path / "copy")):
        for name in ("two.npz", "one.npz", "rows.npy"):
            np.testing.assert_array_equal(model.embed(tmp_path / name), model.embed(rows))
        with pytest.raises(DataError, match=r"no array 'feat'; it has feats, x, y\. .* meant as \.npy"):
            model.embed(tmp_path / "wrong.npz")


def test_which_of_several_arrays_a_model_reads_is_told(tmp_path, caplog):
    rows = np.random.default_rng(0).normal(size=(40, 3))
    np.savez(tmp_path / "known.npz", x=rows, y=rows + 1)
    np.savez(tmp_path / "unknown.npz", a=rows, b=rows + 1)
    model = jensen.fit(rows, out=tmp_path / "run", steps=2, samples=2, hidden=[8]).model
    with caplog.at_level("WARNING", "jensen"):
        np.testing.assert_array_equal(model.embed(tmp_path / "known.npz"), model.embed(rows))
    assert "took the array 'x' of x, y" in caplog.text
    with pytest.raises(DataError, match=r"holds 2 arrays: a, b\. .* save the one that is meant as \.npy"):
        model.embed(tmp_path / "unknown.npz")


def test_every_number_says_what_it_is():
    oracle = testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    number = jensen.evaluate(oracle.model, x, k=20, split="valid").log_likelihood
    fields = number.to_json()
    about = {"unit", "kind", "measure", "split", "protocol", "precision"}
    assert set(fields) == {"mean", "se", "mc_se", "n", "k", "ess"} | about
    assert fields["unit"] == "nats/example" and fields["kind"] == "lower" and fields["measure"] == "density"
    assert fields["split"] == "valid" and fields["n"] == 50 and fields["k"] == 20
    assert number.mean == pytest.approx(float(oracle.log_evidence(x).mean()), abs=1e-9)
    assert json.loads(json.dumps(jensen.evaluate(oracle.model, x[:1], k=1).to_json(), allow_nan=False))


def test_codes_that_the_numbers_of_a_model_cannot_hold_are_refused():
    model = jensen.Fitted(testing.LinearGaussian(torch.eye(3)[:, :2], noise=0.5).model.float())
    with pytest.raises(DataError, match=r"as torch.float32 has values that are not finite"):
        model.decode(np.array([[1e300, 0.0]]))


def test_a_file_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    for write in (lambda path: write_json(path, {}), lambda path: write_tensors(path, {"a": torch.zeros(2)})):
        with pytest.raises(FileFormatError, match="could not write"):
            write(tmp_path / "file" / "under" / "it")

    def full(*_, **__):
        raise safetensors.SafetensorError("I/O error: File too large (os error 27)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(FileFormatError, match=r"could not write .* File too large"):
        write_tensors(tmp_path / "new", {"a": torch.zeros(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("kept", "remedy"), [(True, "Go on with: jensen fit --resume"), (False, "fit anew")])
def test_an_unfinished_run_is_only_said_to_go_on_where_it_can(tmp_path, kept, remedy):
    jensen.save(vae(), tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    (tmp_path / "run" / "checkpoints").mkdir()
    if kept:
        (tmp_path / "run" / "checkpoints" / "latest").write_text("0")
    with pytest.raises(JensenError, match=remedy):
        jensen.load(tmp_path / "run")
