"""The pages of the models in the docs, from what benchmarks.models has recorded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks import model_text as text
from benchmarks.record import ROOT, made_by, table
from jensen import zoo
from jensen.zoo.options import FitOptions

COMMAND = "python -m benchmarks.models"
SIGNS = {"lower": "≥ ", "exact": "= ", "predictive": "≥ ", "none": ""}
KINDS = {
    "lower": "log p(x), a lower bound",
    "exact": "log p(x), exact",
    "predictive": "log p(x) given the training rows, a lower bound",
    "none": "log p(x\\|z) at the code of x: no bound on log p(x), which is not defined",
}
MORE: dict[str, tuple[str, ...]] = {
    "vae": ("digits.md", "frey.md", "choices.md", "tiny-images.md", "gan.md"),
    "autoencoder": ("classify.md",),
    "iwae": ("jackknife.md", "gradients.md"),
    "ladder-vae": ("ladder.md",),
    "ibp-vae": ("ibp.md",),
    "bayesian-decoder": ("bayesian_decoder.md",),
    "stick-breaking-vae": ("stick-breaking.md", "stick_breaking.md"),
    "sentence-vae": ("sentences.md", "text.md"),
    "language-model": ("sentences.md", "text.md"),
    "pixelcnn": ("pixelcnn.md", "tiny-images.md", "gan.md"),
    "pixel-vae": ("pixelcnn.md",),
    "vq-vae": ("vq.md", "gan.md"),
}


def write_pages(found: dict[str, dict[str, Any]], docs: Path) -> None:
    """Writes models.md and models/NAME.md in a folder.

    Arguments:
        found: What was measured, by ``NAME/DATA``.
        docs: The folder.
    """
    folder = docs / "models"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (docs / "models.md").write_text(index(found), encoding="utf-8")
    for name in zoo.MODELS:
        rows = [row for row in found.values() if row["model"] == name]
        (folder / f"{name}.md").write_text(page(name, rows, docs), encoding="utf-8")


def page(name: str, rows: list[dict[str, Any]], docs: Path = ROOT / "docs") -> str:
    """The page of a model: what it is, how it is used, its options, and what was measured on each data set."""
    entry = zoo.entry_of(name)
    data = rows[0]["asked"] if rows and not text.is_text(name) else "digits"
    lines = [f"# {name}", "", f"{entry.summary[0].upper()}{entry.summary[1:]}. For {entry.data}.", ""]
    lines += [text.explained(name), "", f"References: {text.references(name)}", ""]
    lines += [
        "## Use",
        "",
        "```",
        text.commands(name, data),
        "```",
        "",
        "```python",
        text.example(name, data),
        "```",
        "",
    ]
    lines += options(name)
    if not rows:
        lines += ["## Measured", "", f"Nothing yet: `{COMMAND} --only {name}` measures it.", ""]
    for row in rows:
        lines += measured(row)
    more = [f"[{file}](../{file})" for file in MORE.get(name, ()) if (docs / file).exists()]
    lines += [f"More measurements: {', '.join(more)}.", ""] if more else []
    return "\n".join([*lines, "[All models](../models.md)", ""])


def options(name: str) -> list[str]:
    """The options that are peculiar to a model, and where the others are."""
    own = text.own_options(name)
    lines = ["## Options", ""] + ([*text.options_table(own), ""] if own else [])
    shared = [o for o, owner in text.owners()[name].items() if o not in own and owner is not FitOptions]
    names = ", ".join(f"`--{option.replace('_', '-')}`" for option in shared)
    lines += [
        f"Also {names}." if names else "",
        "[What these are](../models.md#options), and the options of every fit.",
    ]
    return [*lines, ""]


def measured(row: dict[str, Any]) -> list[str]:
    """What was measured on one data set: numbers, what fit chose, pictures and texts."""
    lines = [f"## Measured on {row['data']}", "", f"{row['found']}."]
    lines += ["", *table(["", "test rows, nats/example", ""], numbers(row)), ""]
    budget = f"-budget {row['time_budget'] or 0:g} --only {row['model']}"
    start = " --text" if text.is_text(row["model"]) else f" --data {row['asked']} --time"
    lines += [made_by(COMMAND + start + budget, row["machine"])]
    lines += [f"Seed {row['seed']}; one fit.", "", "What `fit` chose:", ""]
    choices = [[text.cell(part) for part in (c[0], c[1], c[2])] + [f"`{c[3]}`"] for c in row["choices"]]
    lines += [*table(["", "choice", "why", "option"], choices), ""]
    for file, caption in row["pictures"]:
        lines += [f"{caption}:", "", f"![{caption}](../pictures/models/{file})", ""]
    for title, written in row["texts"]:
        lines += [f"{title}:", "", "```", *(line or "(nothing)" for line in written), "```", ""]
    return lines


def numbers(row: dict[str, Any]) -> list[list[str]]:
    """The table of one fit: each number with its standard error over rows, and what it is."""
    test = row["test"]
    number = test.get("log_likelihood") or test["reconstruction"]
    given = " given the label" if row["given"] else ""
    what = KINDS[number["kind"]].replace("log p(x)", f"log p(x){given}", 1)
    detail = f"K = {number['k']}" if number["k"] is not None and number["kind"] not in ("exact", "none") else ""
    detail += f", median ESS {number['ess']:.3g}" if detail and number["ess"] is not None else ""
    lines = [[what, value(number), detail]]
    if test.get("elbo"):
        lines.append(["ELBO", value(test["elbo"]), ""])
    for key, name in (("bits_per_dim", "bits/dim"), ("perplexity", "perplexity")):
        if test.get(key) is not None:
            lines.append([name, f"{ {'exact': '='}.get(number['kind'], '≤') } {test[key]:.4g}", "of the same number"])
    for name, baseline in row["baselines"].items():
        gain = f"{abs(baseline['difference']):.2f} ± {baseline['difference_se'] or 0:.2f}"
        gain = f"the model is {gain} {'better' if baseline['difference'] >= 0 else 'worse'}, paired over rows"
        lines.append([name, f"{baseline['mean']:.2f} ± {baseline['se'] or 0:.2f}", gain])
    if row["accuracy"] is not None:
        found = row["accuracy"]["test"]
        lines.append(
            ["accuracy", f"{found['mean']:.2%} ± {found['se'] or 0:.2%}", f"{row['accuracy']['labels']} labels"]
        )
    lines.append(["KL", "–" if row["kl"] is None else f"{row['kl']:.2f}", ""])
    lines.append(["active latents", "–" if row["active"] is None else str(row["active"]), ""])
    lines.append(["steps", f"{row['steps']:,}", f"the weights after step {row['best_step']:,} were kept"])
    return [*lines, ["seconds of training", f"{row['seconds']:.0f}", ""], ["parameters", f"{row['parameters']:,}", ""]]


def value(number: dict[str, Any]) -> str:
    """A number with its standard error over rows."""
    return f"{SIGNS[number['kind']]}{number['mean']:.2f} ± {number['se'] or 0:.2f}"


def index(found: dict[str, dict[str, Any]]) -> str:
    """The page of all models: a line for each, and the options that several have."""
    lines = []
    for name, entry in zoo.MODELS.items():
        first = [f"[{name}](models/{name}.md)", entry.summary, entry.paper]
        rows = [row for row in found.values() if row["model"] == name]
        lines += [[*first, *short(row)] for row in rows] or [[*first, *["–"] * 5]]
    header = ["model", "what it is", "paper", "data", "log p(x), nats/example", "kind", "KL", "seconds"]
    parts = ["# Models", "", _ABOUT, "", *table(header, lines), "", "## Options", "", _OPTIONS, ""]
    for fields in text.shared_options().values():
        parts += [*text.options_table(fields), ""]
    return "\n".join(parts)


def short(row: dict[str, Any]) -> list[str]:
    """The cells of one fit in the table of all models."""
    number = row["test"].get("log_likelihood") or row["test"]["reconstruction"]
    kinds = {"lower": "bound", "exact": "exact", "predictive": "bound, new rows given the old", "none": "no log p(x)"}
    kind = kinds[number["kind"]] + (", given the label" if row["given"] else "")
    kl = "–" if row["kl"] is None else f"{row['kl']:.1f}"
    return [row["data"], value(number), kind, kl, f"{row['seconds']:.0f}"]


_ABOUT = f"""\
What `jensen models` lists. Each is fitted by `jensen fit DATA --model NAME`, and `jensen fit --model NAME --help` shows
its options. The figures are those of one fit with the defaults in a given time, made by `{COMMAND}`,
on test rows, with the standard error over them; date, machine and seed stand on each page. Networks and steps differ,
so this is a look at each model and no contest: for those, see the measurements that its page links to. Numbers compare
on the same rows only, and a number that is not of log p(x) with none of the others."""
_OPTIONS = """\
A model has the following where its page names them; the last table is of every fit."""
