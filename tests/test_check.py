"""The page: it names each planted fault, and is silent on healthy models."""

import json
import math
import shutil
import time
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

import jensen
from jensen import VAE, Conditional, families, nets, objectives, priors, testing
from jensen.data import open_source, prepare
from jensen.diagnose import GradientNoise, Measured, Page, objective_faults, probe_labels, weight_faults
from jensen.diagnose.budget import measure_pace
from jensen.diagnose.parts import PARTS
from jensen.diagnose.sentences import findings
from jensen.errors import DataError, FileFormatError, OptionError, RunError
from jensen.model import Autoencoder, Explicit
from jensen.noise import seeded
from jensen.roles import Draw, Estimate
from jensen.run.prior import fit_prior_run
from jensen.saving import read_config

QUICK = tuple(name for name in PARTS if name not in ("annealed", "bracket", "gaps", "gradients"))
SMALL = {"rows": 150, "samples": 1000, "parts": QUICK}
FEWER = {**SMALL, "samples": 50}


@pytest.fixture(scope="module")
def digits():
    splits = prepare(open_source("digits"), binarisation="threshold")
    return {name: splits.frozen(name) for name in ("train", "valid", "test")}, splits.labels


def train(model, x, objective=None, steps=1200, seed=0):
    """A short training, with a rate that falls to zero so that encoder and decoder settle."""
    objective = objective or objectives.ELBO()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with seeded(seed):
        for step in range(steps):
            rows = x[torch.randint(len(x), (100,))]
            optimizer.zero_grad()
            objective(model, rows, step=step).loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def image_model(posterior="diagonal", latents=6, seed=0):
    with seeded(seed):
        family = {
            "diagonal": families.Normal(latents, scale=families.PredictedScale()),
            "full": families.FullNormal(latents),
        }[posterior]
        size = sum(torch.Size(shape).numel() for shape in family.parameter_shapes)
        encoder = Conditional(nn.Sequential(nn.Flatten(), nets.mlp(64, size, (64,))), family, event_dims=2)
        decoder = Conditional(nets.mlp(latents, 64, (64,)), families.Bernoulli((8, 8)))
        return VAE(priors.StandardNormal(latents), decoder, encoder)


@pytest.fixture(scope="module")
def trained(digits):
    return train(image_model(), digits[0]["train"])


def linear(latents=2, noise=0.5, seed=0):
    weight = torch.randn(5, latents, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return testing.LinearGaussian(weight, noise)


def table(n=600, seed=1, source=None):
    with seeded(seed):
        return (source or linear()).evidence.sample((n,))


def topics(page):
    return {finding.topic for finding in page.faults}


# -- healthy models --------------------------------------------------------------------------------------------------


def exact():
    return linear().model, table(), None, objectives.ELBO(closed_form_kl=False)


def exact_narrow_noise():
    source = linear(latents=4, noise=0.1, seed=3)
    return source.model, table(source=source), None, None


def learnt_table():
    x = table(1000).float()
    with seeded(0):
        encoder = Conditional(nets.mlp(5, 2, ()), families.Normal(2, scale=families.PerDimensionScale(2)))
        model = VAE(priors.StandardNormal(2), Conditional(nets.mlp(2, 5, ()), families.Normal(5)), encoder)
    return train(model, x, steps=1500), table(600, seed=2).float(), None, objectives.ELBO()


def learnt_images(digits, posterior, objective, steps=1200):
    rows, labels = digits
    model = train(image_model(posterior), rows["train"], objective, steps)
    return model, rows["test"], (rows["train"], labels["test"], labels["train"]), objective


HEALTHY = {
    "exact posterior": lambda digits: exact(),
    "exact posterior, little noise": lambda digits: exact_narrow_noise(),
    "factor analysis": lambda digits: learnt_table(),
    "digits": lambda digits: learnt_images(digits, "diagonal", objectives.ELBO()),
    "digits, IWAE, briefly": lambda digits: learnt_images(digits, "diagonal", objectives.IWAE(k=5), steps=600),
    "digits, full covariance, IWAE": lambda digits: learnt_images(digits, "full", objectives.IWAE(k=20)),
    "digits, β = 3": lambda digits: learnt_images(digits, "diagonal", objectives.ELBO(beta=3.0)),
}


LONG = ("digits, full covariance, IWAE", "digits, β = 3")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in HEALTHY]
)
def test_a_healthy_model_is_met_with_silence(name, digits):
    model, x, known, objective = HEALTHY[name](digits)
    more = {} if known is None else dict(zip(("train", "labels", "train_labels"), known, strict=True))
    page = jensen.check(model, x, objective=objective, **more, **SMALL)
    assert page.faults == [], str(page)
    missing = {"features", "information_gap", "disentanglement"} | (set() if known else {"labels"})
    assert set(page.skipped) == missing, page.skipped
    json.dumps(page.to_json(), allow_nan=False)


# -- planted faults --------------------------------------------------------------------------------------------------


def test_a_decoder_that_ignores_z_is_named(trained, digits):
    model = image_model()
    model.load_state_dict(trained.state_dict())
    with torch.no_grad():
        next(p for p in model.likelihood.parameters() if p.ndim == 2).zero_()
    page = jensen.check(model, digits[0]["test"], **FEWER)
    assert "collapse" in topics(page)
    assert any("ignores z" in fault.found for fault in page.faults)


class Posterior(nn.Module):
    """Another posterior in the place of a trained one."""

    def __init__(self, posterior, factor=1.0, shift=0.0, permute=False):
        super().__init__()
        self.posterior, self.factor, self.shift, self.permute = posterior, factor, shift, permute

    def forward(self, x, given=None):
        q = self.posterior(x.roll(1, 0) if self.permute else x)
        base = torch.distributions.Normal(q.mean + self.shift, self.factor * q.stddev, validate_args=False)
        return torch.distributions.Independent(base, 1, validate_args=False)


def replaced(model, **how):
    return VAE(model.prior, model.likelihood, Posterior(model.posterior, **how)).eval()


@pytest.mark.parametrize(("factor", "word"), [(1.5, "too wide"), (1 / 1.5, "too narrow")])
def test_posterior_deviations_that_are_off_are_named(trained, digits, factor, word):
    page = jensen.check(replaced(trained, factor=factor), digits[0]["test"], **FEWER)
    assert "posterior" in topics(page)
    assert any(word in fault.found for fault in page.faults)
    assert page.scale.best == pytest.approx(1 / factor, rel=0.15)


def test_labels_that_are_permuted_against_the_rows_are_named(trained, digits):
    rows, labels = digits
    mixed = {name: part[torch.randperm(len(part), generator=torch.Generator().manual_seed(1))] for name, part in
             labels.items()}  # fmt: skip
    found = {"labels": mixed["test"], "train": rows["train"], "train_labels": mixed["train"]}
    page = jensen.check(trained, rows["test"], **found, **FEWER)
    assert topics(page) == {"labels"} and "permuted" in page.faults[0].meaning


def test_labels_too_one_sided_to_tell_are_no_fault():
    x, labels = table(300), torch.zeros(300, dtype=torch.long)
    labels[100:110] = labels[0] = 1
    found = {"labels": labels[:100], "train": x[100:], "train_labels": labels[100:]}
    page = jensen.check(linear().model, x[:100], parts=("labels",), **found)
    assert page.faults == [] and any("do not say: 99%" in note.found for note in page.findings)


def about_labels(seed, rows, *, permuted=False):
    """What is said of codes that tell two labels one deviation apart, and of rows made from them; half are held out."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (rows,), generator=generator)
    codes = torch.randn(rows, 2, generator=generator) + labels[:, None] * torch.tensor([1.0, 0.0])
    x = codes @ torch.randn(2, 5, generator=generator) + 0.5 * torch.randn(rows, 5, generator=generator)
    labels = labels[torch.randperm(rows, generator=generator)] if permuted else labels
    first, held = slice(rows // 2), slice(rows // 2, None)
    means, aside = (probe_labels(part[first], labels[first], part[held], labels[held]) for part in (codes, x))
    (finding,) = findings(Page(about={}, labels={"means": means, "samples": means, "rows": aside}))
    return finding


def test_rows_too_few_to_tell_are_no_fault():
    said = [about_labels(seed, 60) for seed in range(20)]
    assert all(finding.kind == "note" for finding in said)
    assert sum("30 held-out rows do not say" in finding.found for finding in said) > 5


def test_permuted_labels_are_a_fault_where_rows_are_enough():
    for seed in range(3):
        found = about_labels(seed, 1000, permuted=True)
        assert found.kind == "fault" and "permuted" in found.meaning
        assert "are read from codes" in about_labels(seed, 1000).found


def test_codes_that_belong_to_other_rows_are_named(trained, digits):
    rows, labels = digits
    found = {"labels": labels["test"], "train": rows["train"], "train_labels": labels["train"]}
    page = jensen.check(replaced(trained, permute=True), rows["test"], **found, **FEWER)
    assert {"collapse", "labels"} <= topics(page)
    assert any("codes and labels do not belong" in fault.meaning.lower() for fault in page.faults)


def test_a_prior_that_does_not_match_the_codes_is_named(trained, digits):
    class Wide(nn.Module):
        def forward(self, given=None):
            normal = torch.distributions.Normal(torch.zeros(6), torch.full((6,), 4.0), validate_args=False)
            return torch.distributions.Independent(normal, 1, validate_args=False)

    model = VAE(Wide(), trained.likelihood, trained.posterior)
    page = jensen.check(model, digits[0]["test"], **FEWER)
    assert "prior" in topics(page)
    assert "fit-prior" in next(fault for fault in page.faults if fault.topic == "prior").change


def test_a_sign_flipped_in_the_encoder_is_named(trained, digits):
    model = image_model()
    model.load_state_dict(trained.state_dict())
    with torch.no_grad():
        last = [p for p in model.posterior.parameters() if p.ndim == 2][-1]
        last[0].neg_()
    page = jensen.check(model, digits[0]["test"], **FEWER)
    assert "posterior" in topics(page)


class Flawed(VAE):
    """A model whose log-weights combine their parts with other signs."""

    signs = (1, 1, -1)

    def draw(self, x, given=None, k=1):
        draw = super().draw(x, given, k)
        group = draw.groups[0]
        a, b, c = self.signs
        weight = a * draw.log_likelihood + b * group.log_prior + c * group.log_posterior
        return Draw(draw.groups, draw.log_likelihood, drawn_weight=weight)


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        ((1, -1, 1), "sign of log p(z) − log q(z|x) is flipped"),
        ((1, 2, -2), "counted twice"),
        ((-1, -1, 1), "sign of the whole"),
        ((1, 0, 0), "KL, is missing"),
        ((1, 1, 0), "log q(z|x) is missing"),
        ((1, 0, -1), "log p(z) is missing"),
        ((1, 1, 1), "sign of log q(z|x)"),
        ((1, 1, -3), "differ by"),
    ],
)
def test_log_weights_with_a_wrong_sign_are_named(signs, words):
    source = linear()
    model = Flawed(source.model.prior, source.model.likelihood, source.model.posterior)
    x = table(20)
    assert weight_faults(model, x) == []
    model.signs = signs
    faults = weight_faults(model, x)
    assert len(faults) == 1 and words in faults[0].found
    assert "weights" in topics(jensen.check(model, x, rows=20, samples=50, parts=("weights",)))


def test_a_draw_and_a_joint_of_different_models_are_named():
    class Other(VAE):
        def log_joint(self, x, z, given=None):
            return super().log_joint(x, z, given) + 1

    source = linear()
    model = Other(source.model.prior, source.model.likelihood, source.model.posterior)
    assert "log_joint" in weight_faults(model, table(20))[0].found


class KL:
    """An ELBO that reports and charges the KL a number of times."""

    kind, k, period = "lower", 1, 1

    def __init__(self, reported=1.0, charged=1.0):
        self.reported, self.charged = reported, charged
        self.beta = lambda step: 1.0

    def __call__(self, model, x, given=None, step=0):
        estimate = objectives.ELBO()(model, x, given, step)
        kl, reconstruction = estimate.terms["kl"], estimate.terms["reconstruction"]
        loss = (reconstruction + self.charged * kl).mean()
        terms = {"reconstruction": reconstruction, "kl": self.charged * kl}
        return Estimate(loss, -reconstruction - self.reported * kl, terms)


def test_the_scale_of_a_posterior_is_not_judged_by_a_bound_that_it_was_not_trained_by():
    model, x, _, _ = exact()
    for objective in (objectives.MMD(10.0), objectives.BetaTCVAE(rows=600, beta=4.0)):
        page = jensen.check(model, x, objective=objective, parts=("scale",))
        assert page.scale is None and "than a bound" in page.skipped["scale"]
    page = jensen.check(model, x, objective=objectives.ELBO(free_bits=0.5), parts=("scale",))
    assert page.scale is None and "free bits" in page.skipped["scale"]
    aggressive = objectives.AggressiveInference(objectives.ELBO(), steps=10)
    assert jensen.check(model, x, objective=aggressive, parts=("scale",)).scale is not None


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"reported": 2.0}, "counted twice"),
        ({"reported": 0.0}, "left out"),
        ({"reported": -1.0}, "sign were flipped"),
        ({"charged": 2.0}, "charges 2.0"),
        ({"charged": -1.0}, "charges -"),
    ],
)
def test_a_kl_that_is_counted_wrongly_by_the_objective_is_named(trained, digits, how, words):
    x = digits[0]["test"][:64]
    assert objective_faults(KL(), trained, x) == []
    faults = objective_faults(KL(**how), trained, x)
    assert len(faults) == 1 and words in faults[0].found


@pytest.mark.parametrize(
    "objective",
    [
        objectives.ELBO(),
        objectives.ELBO(k=5, beta=4.0),
        objectives.ELBO(free_bits=0.5),
        objectives.ELBO(free_bits_per_group=50.0),
        objectives.ELBO(closed_form_kl=False),
        objectives.ELBO(estimator=objectives.StickingTheLanding()),
        objectives.IWAE(k=5),
        objectives.IWAE(k=50, estimator=objectives.DoublyReparameterised()),
        objectives.MIWAE(groups=2, k=4),
        objectives.Renyi(k=8, alpha=2.0),
    ],
)
def test_sound_objectives_pass(trained, digits, objective):
    assert objective_faults(objective, trained, digits[0]["test"][:64]) == []


# -- the page --------------------------------------------------------------------------------------------------------


def test_all_parts_of_a_small_page():
    source = linear()
    x = table(60)
    factors = (x[:, :2] > 0).long()
    with seeded(0):
        encoder = Conditional(nets.mlp(5, 4, (8,)), families.Normal(2, scale=families.PredictedScale())).double()
    model = VAE(source.model.prior, source.model.likelihood, encoder)
    found = {"train": table(60, seed=3), "labels": factors[:, 0], "train_labels": (table(60, seed=3)[:, 0] > 0).long()}
    page = jensen.check(model, x, factors=factors, objective=objectives.IWAE(k=3), rows=20, samples=40, **found)
    assert set(page.skipped) == {"features"}
    assert set(page.gradients) == {"IWAE, K = 3", "ELBO"}
    assert (
        page.gaps.held_out.amortisation.beyond(0) > 3
        and page.gaps.held_out.best.value > page.gaps.held_out.encoder.value
    )
    exact = float(source.log_evidence(x).mean())
    assert page.weights.elbo.mean < page.weights.bounds[40].mean < exact + 0.1
    assert page.bracket["lower"].mean < page.bracket["upper"].mean + 0.1
    document = page.to_json()
    json.dumps(document, allow_nan=False)
    assert document["schema_version"] == 1 and document["gaps"]["biases"]["amortisation"]


def test_a_fitted_model_is_checked_in_the_users_units(tmp_path):
    with seeded(0):
        v = 100 + 30 * torch.randn(200, 3).double().numpy()
    run = jensen.fit(v, out=tmp_path / "run", steps=30, samples=5, hidden=[8])
    fitted = run.model
    page = jensen.check(fitted, v[:50], rows=50, samples=20, parts=("weights",))
    own = jensen.evaluate(fitted, v[:50], k=20)
    bare = jensen.check(fitted.vae, fitted.model_values(v[:50]), rows=50, samples=20, parts=("weights",))
    assert abs(page.weights.elbo.mean - own.elbo.mean) < 0.5
    assert page.weights.elbo.mean - bare.weights.elbo.mean == pytest.approx(fitted.schema.log_jacobian)
    assert fitted.schema.log_jacobian < -5


def test_options_that_cannot_be_used_are_refused():
    model, x = linear().model, table(20)
    for how in ({"rows": 1}, {"samples": 1}, {"rows": 2.5}, {"samples": 2.5}, {"parts": ("nothing",)}):
        with pytest.raises(OptionError):
            jensen.check(model, x, **how)
    with pytest.raises(DataError, match="labels has 3"):
        jensen.check(model, x, labels=torch.zeros(3, dtype=torch.long))
    with pytest.raises(DataError, match="whole numbers"):
        jensen.check(model, x, labels=torch.zeros(20))


def test_few_rows_give_the_parts_that_they_suffice_for():
    model = linear().model
    with pytest.raises(DataError, match="at least 2 rows"):
        jensen.check(model, table(1))
    for rows in (2, 3, 19):
        page = jensen.check(model, table(rows), samples=5, parts=("weights", "prior"))
        assert page.weights is not None and f"got {rows}" in page.skipped["prior"]


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _few_temperatures(monkeypatch):
    monkeypatch.setattr("jensen.diagnose.parts.TEMPERATURES", 5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    jensen.fit("digits", out=folder, steps=40, samples=3, hidden=[16], latents=3)
    return folder


def test_the_command_prints_a_page(cli, run):
    code, out, err = cli("check", run, "--rows", "12", "--samples", "20")
    assert code == 0 and out == ""
    for text in ("log p(x)", "what the ELBO lacks", "mutual information", "active latents", "sticking", "labels"):
        assert text in err, text
    assert "left out" not in err


def test_the_command_prints_one_object(cli, run):
    code, out, _ = cli("check", run, "--rows", "12", "--samples", "20", "--json")
    document = json.loads(out)
    assert code == 0 and document["run"] == str(run) and document["split"] == "test" and document["n_train"] > 1000
    assert math.isfinite(document["weights"]["elbo"]["mean"]) and document["labels"]["means"]["rows"] == document["n"]


@pytest.mark.slow
def test_a_seed_repeats_the_page(cli, run):
    options = ("--rows", "12", "--samples", "20", "--seed", "3", "--json")
    assert cli("check", run, *options)[1] == cli("check", run, *options)[1]


def test_the_command_refuses_what_it_cannot_do(cli, run, tmp_path):
    assert cli("check", tmp_path / "nothing")[0] == 1
    assert cli("check", run, "--rows", "1")[0] == 2
    assert cli("check", run, "--split", "other")[0] == 2


def test_a_prior_is_fitted_into_a_new_run(cli, run, tmp_path):
    out = tmp_path / "new"
    code, printed, err = cli("fit-prior", run, "--out", out, "--components", "5", "--steps", "200", "--json")
    assert code == 0, err
    old, new = json.loads((run / "result.json").read_text()), json.loads(printed)
    assert new == json.loads((out / "result.json").read_text()) and new["prior"]["kind"] == "mixture"
    gain = new["test"]["elbo"]["mean"] - old["test"]["elbo"]["mean"]
    assert gain > 0 and abs(gain - new["prior"]["gain"]["mean"]) < 4 * new["prior"]["gain"]["se"] + 0.2
    assert type(jensen.load(out).vae.prior).__name__ == "Mixture"
    before, after = (jensen.load(folder).vae.likelihood.state_dict() for folder in (run, out))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert cli("check", out, "--rows", "12", "--samples", "20")[0] == 0
    assert jensen.compare(run, out)["elbo"]["difference"] == pytest.approx(gain)
    # Whether the posterior is too wide is a question to the objective that it was trained by.
    assert read_config(out).objective == read_config(run).objective is not None
    code, _, err = cli("fit-prior", run, "--out", out)
    assert code == 1 and "exists already" in err
    assert "at least 1 step" in cli("fit-prior", run, "--out", tmp_path / "none", "--steps", "0")[2]
    assert not (tmp_path / "none").exists()
    assert cli("fit-prior", run, "--prior", "other")[0] == 2
    assert cli("fit-prior", tmp_path / "nothing")[0] == 1


def test_a_prior_is_fitted_to_the_run_in_the_working_folder(run, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    new, _ = fit_prior_run(".", components=3, steps=50)
    assert new.path == tmp_path / "here-mixture" and new.result["examples_per_second"] > 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("result.json", "[]"),
        ("result.json", '{"steps": [1]}'),
        ("metrics.jsonl", "[]"),
        ("metrics.jsonl", "3"),
        ("timing.jsonl", "{}"),
        ("timing.jsonl", '{"step": 1, "seconds": "x"}'),
    ],
)
def test_a_damaged_run_gets_no_prior_and_no_folder(run, tmp_path, name, content):
    shutil.copytree(run, tmp_path / "old")
    (tmp_path / "old" / name).write_text(content)
    with pytest.raises(FileFormatError, match=name):
        fit_prior_run(tmp_path / "old", components=3, steps=50)
    assert not (tmp_path / "old-mixture").exists()


@pytest.mark.parametrize("name", ["elbo", "log_likelihood"])
def test_bounds_of_another_kind_are_not_compared(run, tmp_path, name):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    assert jensen.compare(run, other)[name]["difference"] == 0
    result = json.loads((other / "result.json").read_text())
    result["test"][name]["kind"] = "estimate"
    (other / "result.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match="the kind of bound"):
        jensen.compare(run, other)


def test_a_bound_that_does_not_depend_on_k_compares_with_any(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    result = json.loads((other / "result.json").read_text())
    for k in (None, 77):
        for name in ("elbo", "log_likelihood"):
            result["test"][name]["k"] = k
        (other / "result.json").write_text(json.dumps(result))
        if k is None:
            assert jensen.compare(run, other)["elbo"]["difference"] == 0
        else:
            with pytest.raises(RunError, match="the number of samples"):
                jensen.compare(run, other)


def test_comparing_pairs_the_rows(run, tmp_path):
    jensen.fit("digits", out=tmp_path / "b", steps=60, samples=3, hidden=[16], latents=3)
    found = jensen.compare(run, tmp_path / "b")["elbo"]
    a, b = found["numbers"]
    assert found["difference"] == pytest.approx(b["mean"] - a["mean"])
    # The rows' own differences are shared, so the error is far below that of two unpaired means.
    assert found["difference_se"] < 0.6 * math.hypot(a["se"], b["se"])


def test_codes_that_barely_vary_are_not_called_active():
    oracle = linear()
    page = jensen.check(oracle.model, table(100), parts=("use",))
    barely = replace(
        page, use=replace(page.use, active=0, active_interval=(0, 0), verdict="spare latents"), findings=[]
    )
    (said,) = [finding.found for finding in findings(barely) if finding.topic == "latents"]
    assert said.startswith("No latent is active") and "falls by" in said
    (said,) = [finding.found for finding in page.findings if finding.topic == "latents"]
    assert said.startswith("2 of 2 latents are active")


def test_an_estimator_without_variance_is_said_to_have_none():
    noise = {
        name: {"encoder": GradientNoise(Measured(value, value / 10, "squared norm"), 1.0, 50)}
        for name, value in (("KL from samples", 1.0), ("sticking the landing", 0.0))
    }
    (note,) = findings(Page(about={}, gradients={"ELBO": noise}))
    assert "sticking the landing has no variance at all" in note.found


# -- time ------------------------------------------------------------------------------------------------------------


class Slow(nn.Module):
    """A decoder that takes its time over every row, as one that predicts pixel by pixel does."""

    def __init__(self, inner, seconds):
        super().__init__()
        self.inner, self.seconds = inner, seconds

    def forward(self, z, given=None):
        time.sleep(self.seconds * z.shape[:-1].numel())
        return self.inner(z, given)


def test_a_slow_model_is_checked_on_less_and_the_page_says_so():
    oracle = linear().model
    slow = VAE(oracle.prior, Slow(oracle.likelihood, 3e-5), oracle.posterior)
    begin = time.monotonic()
    page = jensen.check(slow, table(100), time_budget=4.0)
    taken = time.monotonic() - begin
    assert taken < 60.0, taken  # in full it takes minutes
    assert page.weights is not None and 0 < page.about["shares"]["weights"] < 1
    assert page.annealed is None and "--time-budget" in page.skipped["annealed"]
    (note,) = [finding for finding in page.findings if finding.topic == "time"]
    assert "weights 1/" in note.found and "--time-budget" in note.change and not page.faults


def test_a_posterior_that_is_slow_to_score_is_budgeted_too():
    class SlowToScore(Independent):
        def log_prob(self, value):
            time.sleep(2e-5 * value.shape[:-1].numel())
            return super().log_prob(value)

    class Encoder(nn.Module):
        def forward(self, x, given=None):
            return SlowToScore(Normal(0.5 * x[:, :2], torch.ones(len(x), 2).double()), 1)

    oracle = linear().model
    model = VAE(oracle.prior, oracle.likelihood, Encoder())
    pace = measure_pace(model, table(100))
    assert pace.density > 1e-5 and pace.gradient > 1e-5
    page = jensen.check(model, table(400), parts=("surgery",), time_budget=2.0)
    # 16 s in full; a busy machine may have no time for even the least of it.
    assert "surgery" in page.skipped or (page.about["shares"]["surgery"] < 0.5 and page.surgery.draws < 500)


def test_without_a_budget_or_with_enough_all_is_measured():
    oracle = linear()
    pages = [jensen.check(oracle.model, table(100), parts=("weights", "use"), time_budget=b) for b in (None, 3600.0)]
    assert all(page.about["shares"] == {} and not page.skipped for page in pages)
    assert pages[0].weights.elbo == pages[1].weights.elbo
    with pytest.raises(OptionError, match="positive"):
        jensen.check(oracle.model, table(100), time_budget=0.0)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Explicit(Conditional(nets.mlp(2, 5), families.Normal(5))), "log p.x. is exact"),
        (Autoencoder(nets.mlp(5, 2), Conditional(nets.mlp(2, 5), families.Normal(5)), 2), "no q"),
    ],
)
def test_models_without_a_posterior_are_refused_with_what_to_do_instead(model, reason):
    with pytest.raises(OptionError, match=reason):
        jensen.check(model, torch.zeros(10, 5))
