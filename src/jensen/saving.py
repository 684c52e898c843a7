"""Models as folders: plain data and tensors, from which nothing is ever run."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from torch import Tensor, nn

from .data import Schema
from .errors import FileFormatError, RunError, SpecError
from .evaluation import device_of, dtype_of, evaluation_mode, evidence_of
from .files import at_home, read_json, read_tensors, write_json, write_tensors
from .fitted import Fitted
from .noise import seeded
from .roles import Given
from .spec import Spec, build, describe, own_names, parse
from .train import TrainOptions

__all__ = ["FORMAT", "SEVERAL", "Config", "describe_model", "load", "read_config", "rebuild", "refuse_several", "save"]

FORMAT: Literal[1] = 1
SEVERAL = "seeds.json"
"""The file that makes a folder one of runs with several seeds."""

_DECLARING = (
    "conditional",
    "families",
    "inference",
    "likelihoods",
    "model",
    "nets",
    "objectives",
    "posteriors",
    "priors",
    "schedules",
)
"""The modules whose constructors a file may name."""


def save(model: Any, path: str | Path) -> Path:
    """Writes a model as plain data: ``config.json`` and ``model.safetensors``.

    What was written is built again, and the module tree, every tensor and one seeded draw are compared, so that a
    model that was edited after it was built cannot be saved as something else.

    Arguments:
        model: A :class:`Fitted` or a model; all its parts are declared.
        path: The folder; it is made if need be.

    Raises:
        FileFormatError: If the folder holds a model already.
        SpecError: If a part is not declared, or the model is not what its declarations build.
    """
    fitted = model if isinstance(model, Fitted) else Fitted(model)
    folder = at_home(path)
    if (folder / "config.json").exists():
        raise FileFormatError(f"{folder} holds a saved model already; choose another folder.")
    describe_model(fitted.vae, folder)
    write_tensors(folder / "model.safetensors", fitted.vae.state_dict())
    if fitted.schema is not None:
        data = {"format": FORMAT, "protocol": fitted.protocol, "schema": fitted.schema.model_dump(mode="json")}
        labels = {"labels": {"names": list(fitted.label_names)}} if fitted.label_names else {}
        key = {"key": fitted.key} if fitted.key is not None else {}
        write_json(folder / "data.json", data | labels | key)
    return folder


def describe_model(model: Any, folder: Path, extra: Mapping[str, object] | None = None) -> None:
    """Writes ``config.json``, without the weights, after building what it says and comparing it with the model.

    Arguments:
        model: A model.
        folder: The folder.
        extra: More entries of ``config.json``.

    Raises:
        SpecError: If a part is not declared, or the model is not what its declarations build.
    """
    spec, arguments, factories = describe(model)
    _verify(model, spec, arguments, factories)
    if arguments:
        write_tensors(folder / "arguments.safetensors", arguments)
    write_json(folder / "config.json", {"format": FORMAT, "model": spec.model_dump(), **(extra or {})})


def _verify(model: nn.Module, spec: Spec, arguments: Mapping[str, Tensor], names: Mapping[str, Any]) -> None:
    with seeded(0):
        rebuilt = build(spec, arguments, names).to(device_of(model)).to(dtype_of(model))
    here = [(name, type(module)) for name, module in model.named_modules()]
    there = [(name, type(module)) for name, module in rebuilt.named_modules()]
    changed = (
        "its declarations say otherwise, so it was edited after it was built. Build it by constructor calls alone."
    )
    if here != there:
        a, b = next(((a, b) for a, b in zip(here, there, strict=False) if a != b), (here[-1], there[-1]))
        raise SpecError(
            f"the model cannot be saved: at {a[0] or 'the top'} it has {a[1].__name__} where its declaration builds "
            f"{b[1].__name__} at {b[0] or 'the top'}; {changed}"
        )
    try:
        rebuilt.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise SpecError(
            f"the model cannot be saved: its tensors do not fit what its declarations build: {error}"
        ) from error
    if not all(torch.equal(a, b) for a, b in zip(_seeded_draw(model), _seeded_draw(rebuilt), strict=True)):
        raise SpecError(
            f"the model cannot be saved: a seeded draw differs from that of what its declarations build; {changed}"
        )


def _seeded_draw(model: Any) -> tuple[Tensor, ...]:
    try:
        with evaluation_mode(model), seeded(0, "verify"):
            given = _some_given(model)
            x = model.sample(2, given) if evidence_of(model) != "none" else _decoded(model)
            draw = model.draw(x, given)
            return x, draw.log_weight, draw.log_likelihood
    except RuntimeError as error:
        raise SpecError(f"the model cannot be saved: it cannot draw from itself: {error}") from error


def _some_given(model: Any) -> Given:
    """Something that may be known beside two rows."""
    device, size = device_of(model), getattr(model, "conditions", 0)
    condition = torch.eye(max(2, size), dtype=dtype_of(model), device=device)[:2, :size] if size else None
    return Given(condition=condition, index=torch.zeros(2, dtype=torch.long, device=device))


def _decoded(model: Any) -> Tensor:
    """Rows of a model that has no prior to draw codes from."""
    codes = torch.randn(2, model.latent_size, dtype=dtype_of(model), device=device_of(model))
    rows: Tensor = model.decode(codes).sample()
    return rows


def load(path: str | Path, *, modules: Mapping[str, Callable[..., Any]] | None = None) -> Fitted:
    """Reads a model from a run or a folder that :func:`save` wrote; on the CPU, in evaluation mode, without data.

    Nothing in the folder is ever run: files hold names, numbers and tensors, and a name is looked up among jensen's own
    and in ``modules`` only.

    Arguments:
        path: The folder.
        modules: The user's own declared classes and builders by the names they were declared with.

    Raises:
        FileFormatError: If a file is missing or damaged.
        RunError: If the folder is a run whose training has not come to its end, or holds several runs.
        SpecError: If the description names something unknown or does not fit the tensors.
    """
    folder = at_home(path)
    if not folder.is_dir():
        raise FileFormatError(f"there is no folder {folder}; expected a run, such as runs/digits.")
    refuse_several(folder)
    vae = rebuild(folder, read_config(folder).model, modules)
    if not isinstance(vae, nn.Module) or not hasattr(vae, "draw"):
        raise SpecError(f"{folder / 'config.json'} describes a {type(vae).__name__}, which is not a model.")
    if (folder / "checkpoints").exists() and not (folder / "model.safetensors").exists():
        kept = (folder / "checkpoints" / "latest").is_file()
        remedy = f"Go on with: {to_resume(folder)}" if kept else "It has no checkpoint either: fit anew."
        raise RunError(f"{folder} is not finished, so it has no model yet. {remedy}")
    state = read_tensors(folder / "model.safetensors")
    vae.to(next((t.dtype for t in state.values() if t.is_floating_point()), torch.float32))
    try:
        vae.load_state_dict(state)
    except RuntimeError as error:
        raise SpecError(f"the tensors in {folder} do not fit its description: {error}") from error
    if not (folder / "data.json").exists():
        return Fitted(vae)
    schema, protocol, label_names, key = _read_schema(folder / "data.json")
    return Fitted(vae, schema, protocol, label_names, key=key)


def to_resume(folder: Path) -> str:
    """The command that goes on with a run, as a shell takes it.

    Example:
        >>> to_resume(Path("my runs") / "a")
        "jensen fit --resume 'my runs/a'"
    """
    text = str(folder)
    return f"jensen fit --resume {shlex.quote('./' + text if text.startswith('-') else text)}"


def refuse_several(folder: Path) -> None:
    """Refuses the folder of several runs where one is wanted, naming the first.

    Raises:
        RunError: If the folder holds runs with several seeds.
    """
    if (folder / SEVERAL).is_file():
        runs = sorted(folder.glob("seed-*"), key=lambda path: (len(path.name), path.name))
        first = f" Name one of them, such as {runs[0]}." if runs else f" Go on with: {to_resume(folder)}"
        raise RunError(f"{folder} holds runs with several seeds, which are models of their own.{first}")


class Config(BaseModel):
    """What ``config.json`` holds: a model, and for a run also how it is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = FORMAT
    model: JsonValue
    objective: JsonValue = None
    training: TrainOptions | None = None
    checkpoint_every: int | None = Field(None, ge=1)
    options: JsonValue = None


def read_config(folder: Path) -> Config:
    """The ``config.json`` of a folder.

    Raises:
        FileFormatError: If it is damaged, or of a format that this version does not read.
    """
    path = folder / "config.json"
    document = read_json(path)
    if isinstance(document, dict) and document.get("format") != FORMAT:
        raise FileFormatError(
            f"{path} has format {document.get('format')!r}; this version reads format {FORMAT}. Use the "
            "version of jensen that wrote it."
        )
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its top"
        raise FileFormatError(f"{path} is not a description of a model: at {where}, {first['msg']}.") from error


def rebuild(folder: Path, document: object, modules: Mapping[str, Callable[..., Any]] | None) -> Any:
    """Builds what a description in a folder says, with the tensors that lie beside it."""
    for name in _DECLARING:
        importlib.import_module(f"{__package__}.{name}")
    own = own_names()
    clash = sorted(set(own) & set(modules or {}))
    if clash:
        raise SpecError(f"modules may not replace jensen's own {clash[0]!r}; declare yours under another name.")
    path = folder / "arguments.safetensors"
    with seeded(0):
        return build(parse(document), read_tensors(path) if path.exists() else {}, {**own, **(modules or {})})


def _read_schema(path: Path) -> tuple[Schema, str, list[str], str | None]:
    document = read_json(path)
    try:
        names = [str(name) for name in document.get("labels", {}).get("names", [])]
        key = document.get("key")
        return Schema.model_validate(document["schema"]), str(document["protocol"]), names, key and str(key)
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(f"{path} does not describe data: {error}") from error
