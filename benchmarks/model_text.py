"""What the page of a model says without a measurement: its formula, its papers, its options, how it is used."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import cache
from typing import Any, Literal, get_args, get_origin

from jensen import zoo
from jensen.zoo.options import FitOptions

SECTIONS = ("References", "Arguments", "Returns", "Raises", "Example")
SENTENCES = "sentences.txt"
FEW = 500
FEW_ROWS = FEW * 10 // 8  # a tenth each is held out for validation and test
"""How many rows bayesian-decoder gets, whose weights are uncertain where rows are few."""

SHELL: dict[str, list[str]] = {
    "vae": [
        "jensen traverse {run} --out traversal.png",
        "jensen fit {data} --model vae --latents 2 --out runs/two",
        "jensen map runs/two --out map.png",
    ],
    "autoencoder": ["jensen classify {run} --labels 100", "jensen fit-prior {run}  # now it can be sampled"],
    "beta-vae": ["jensen traverse {run} --out traversal.png"],
    "beta-tcvae": ["jensen traverse {run} --out traversal.png"],
    "conditional-vae": ["jensen sample {run} --label 3 --out threes.png"],
    "bayesian-decoder": ["jensen reconstruct {run} --deviation --out uncertainty.png"],
    "sentence-vae": ['jensen interpolate {run} "He tried the latch." "It was late."'],
    "language-model": ["jensen sample {run} -n 10 --temperature 0.7"],
}
PYTHON: dict[str, list[str]] = {
    "vae": ["walk = jensen.traverse(model, x)", "print(walk.latents, walk.rows.shape)"],
    "beta-vae": ["walk = jensen.traverse(model, x)", "print(walk.latents, walk.rows.shape)"],
    "beta-tcvae": ["walk = jensen.traverse(model, x)", "print(walk.latents, walk.rows.shape)"],
    "autoencoder": ["classifier = jensen.encoder_classifier(model, n_classes=10)  # to train on; a torch module"],
    "iwae": ["print(jensen.evaluate(model, x, k=5000).log_likelihood)"],
    "semi-supervised-vae": ['print(run.result["accuracy"]["test"]["mean"])', "classes = z[:, :10]  # as one-hot"],
    "ladder-vae": ["print(z.shape)  # all groups side by side, from the top"],
    "ibp-vae": [
        "values = model.model_values(x)",
        "print(jensen.diagnose.features_in_use(model.vae, values))",
        "features = jensen.diagnose.dictionary(model.vae)",
    ],
    "bayesian-decoder": ["print(model.reconstruct(x, deviation=True).max())  # the least certain value"],
    "stick-breaking-vae": ["pieces = model.vae.prior.unpack(torch.from_numpy(z))  # they add up to 1"],
    "sentence-vae": ['print(model.interpolate("He tried the latch.", "It was late.", steps=6))'],
    "language-model": ["print(model.sample(5, temperature=0.7))"],
    "pixelcnn": ["print(model.log_likelihood(x))  # exact"],
    "vq-vae": ["print(z.shape)  # the vector of a code at each place"],
}
LATENTLESS, LABELLED, SAMPLELESS = ("language-model", "pixelcnn"), ("conditional-vae",), ("autoencoder",)
UNCHECKED = (*SAMPLELESS, *LATENTLESS, *LABELLED, "semi-supervised-vae")


def is_text(name: str) -> bool:
    """Whether a model is of sentences."""
    return "tokens" in zoo.entry_of(name).kinds


def commands(name: str, data: str) -> str:
    """The commands that fit a model and use it."""
    data, run = (SENTENCES if is_text(name) else data), f"runs/{name}"
    lines = [f"jensen fit {data} --model {name} --out {run}"]
    if name not in SAMPLELESS:
        lines += [f"jensen evaluate {run}", f"jensen sample {run} -n 16" + ("" if is_text(name) else " --out new.png")]
    lines += [line.format(run=run, data=data) for line in SHELL.get(name, [])]
    if name not in UNCHECKED:
        lines.append(f"jensen check {run}")
    return "\n".join(lines)


def example(name: str, data: str) -> str:
    """The same from Python; it runs."""
    label = ', label="3"' if name in LABELLED else ""
    fitted, given = f'"{SENTENCES if is_text(name) else data}"', label.replace("label", "labels")
    special = PYTHON.get(name, [])
    lines = ["import jensen", ""]
    if any("torch." in line for line in special):
        lines = ["import torch", "", *lines]
    if name == "bayesian-decoder":
        lines.append(f"few = jensen.data.open_source({fitted}).rows[:{FEW_ROWS}]")
        fitted = "few"
    kind = "reconstruction" if name in SAMPLELESS else "log_likelihood"
    lines += [
        f'run = jensen.fit({fitted}, model="{name}", out="runs/{name}")',
        f'print(run.result["test"]["{kind}"]["mean"])  # nats per row that was held out',
        f'model = jensen.load("runs/{name}")',
    ]
    if name in SAMPLELESS:
        lines.append(f"x = model.read({fitted}).rows[:16]")
    else:
        lines.append(f"x = model.sample(16, seed=0{label})  # in the units of the data")
    if name not in LATENTLESS:
        lines += [f"z = model.embed(x{given})", f"again = model.reconstruct(x{given})"]
    return "\n".join([*lines, *special])


def build_text(name: str) -> str:
    """The docstring of the function that builds a model."""
    entry = zoo.entry_of(name)
    return inspect.getdoc(importlib.import_module(f"jensen.zoo.{entry.module}").build) or ""


def sections(text: str) -> dict[str, str]:
    """The parts of a docstring by their headings; the text itself has none."""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):$", text, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], (inspect.cleandoc(part) for part in parts[2::2]), strict=True))
    return {"": parts[0].strip(), **found}


def named_in(text: str) -> dict[str, Any]:
    """The classes and functions that a docstring refers to, by their names."""
    found = {}
    for path in re.findall(r":(?:class|func):`(jensen\.[\w.]+)`", text):
        module, _, name = path.rpartition(".")
        found[path.removeprefix("jensen.")] = getattr(importlib.import_module(module), name)
    return found


def formulas(name: str) -> list[str]:
    """The formulas of a model, in its own docstring and in those that it refers to."""
    texts = [build_text(name)]
    texts += [_opening(inspect.getdoc(thing) or "") for thing in named_in(texts[0]).values()]
    return [each for text in texts for pair in re.findall(_MATH, text) for each in pair if each]


def references(name: str) -> str:
    """The papers of a model."""
    return " ".join(sections(build_text(name)).get("References", "").split())


def explained(name: str) -> str:
    """What a model is, as Markdown: its docstring, and the formulas of what that refers to, with their first words."""
    own = sections(build_text(name))[""]
    lines = [markdown(own)]
    for title, thing in named_in(own).items():
        lines.append(f"`{title}`: {markdown(_opening(inspect.getdoc(thing) or ''))}")
    return "\n\n".join(lines)


def _opening(text: str) -> str:
    """The first paragraph of a docstring and the displayed formulas that follow it."""
    first, *rest = sections(text)[""].split("\n\n")
    return "\n\n".join([first, *(rest[:1] if rest and rest[0].startswith(".. math::") else [])])


_MATH = re.compile(r":math:`([^`]+)`|^\.\. math:: (.+(?:\n +.+)*)", re.MULTILINE)


def markdown(text: str) -> str:
    """A docstring as Markdown, with formulas as GitHub shows them."""

    def shown(match: re.Match[str]) -> str:
        inline, block = match.groups()
        return f"$`{inline}`$" if inline else f"```math\n{' '.join(block.split())}\n```"

    paragraphs = [part if part.startswith("..") else " ".join(part.split()) for part in text.split("\n\n")]
    text = re.sub(r":(?:class|func|meth):`~?(?:jensen\.)?([^`]+)`", r"`\1`", "\n\n".join(paragraphs))
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    return _MATH.sub(shown, text)


def cell(text: str) -> str:
    """Text that does not end a cell of a table."""
    return text.replace("|", "\\|")


@cache
def owners() -> dict[str, dict[str, type]]:
    """Of each model, the class in which each of its options is described."""
    found: dict[str, dict[str, type]] = {}
    for name, entry in zoo.MODELS.items():
        kind = entry.options_class()
        options = [option for option in kind.model_fields if option != "model"]
        found[name] = {o: next(c for c in kind.__mro__ if o in inspect.get_annotations(c)) for o in options}
    return found


def is_peculiar(name: str, option: str) -> bool:
    """Whether an option is of this model, and of one other at most."""
    owner = owners()[name][option]
    return owner is not FitOptions and sum(owner in each.values() for each in owners().values()) <= 2


def flag(option: str, field: Any) -> str:
    """What is written on the command line to set an option, or to turn off one that is on."""
    return f"--{'no-' if field.default is True else ''}{option.replace('_', '-')}"


def options_table(fields: dict[str, Any]) -> list[str]:
    """Options with their defaults and what they mean, as lines of a table."""
    lines = ["| option | default | what it is |", "|---|---|---|"]
    for name, field in fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        choices = [str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
        text = f"{field.description} One of {', '.join(choices)}." if choices else field.description
        default = "from the data" if field.default is None else {"True": "on", "False": "off"}.get(str(field.default))
        lines.append(f"| `{flag(name, field)}` | {default or field.default} | {cell(text)} |")
    return lines


def own_options(name: str) -> dict[str, Any]:
    """The options that are peculiar to a model."""
    fields = zoo.entry_of(name).options_class().model_fields
    return {option: fields[option] for option in owners()[name] if is_peculiar(name, option)}


def shared_options() -> dict[type, dict[str, Any]]:
    """The options that several models have, by the class that describes them; last those of every fit."""
    found: dict[type, dict[str, Any]] = {}
    for name, entry in zoo.MODELS.items():
        for option, owner in owners()[name].items():
            if not is_peculiar(name, option):
                found.setdefault(owner, {})[option] = entry.options_class().model_fields[option]
    found[FitOptions] = found.pop(FitOptions)
    return found
