"""A model as plain data and back: constructor names and their keyword arguments, nothing else."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from torch import Tensor

from .errors import JensenError, SpecError

__all__ = ["Declaration", "Spec", "adopt", "build", "declaration_of", "declare", "declared", "describe", "own_names"]

T = TypeVar("T", bound=Callable[..., Any])

_OWN: dict[str, Callable[..., Any]] = {}
"""jensen's own constructors by name, filled as its modules are imported; users' classes never enter."""


@dataclass(frozen=True)
class Declaration:
    """What built an object: the constructor, its public name and the arguments it was given."""

    name: str
    factory: Callable[..., Any]
    arguments: dict[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Node(_Strict):
    """One constructor call of a :class:`Spec`."""

    name: str
    arguments: dict[str, JsonValue]


class Spec(_Strict):
    """An ordered list of constructor calls; each may refer to earlier ones, and the last is the object."""

    format: Literal[1] = 1
    nodes: list[Node]


def declared(name: str) -> Callable[[T], T]:
    r"""Marks a class or builder function as something a saved model may name.

    The keyword arguments of each call are remembered on what it returns, so that the object can be written as plain
    data and built again. Arguments may be numbers, strings, lists, tensors and declared objects.

    Arguments:
        name: The public name in files, such as ``"mylab.Encoder"``. It is a label, never an import path.

    Raises:
        SpecError: If the target takes ``*args``, which cannot be written by keyword.

    Example:
        >>> from torch import nn
        >>> @declared("mylab.Affine")
        ... class Affine(nn.Module):
        ...     def __init__(self, width: int) -> None:
        ...         super().__init__()
        ...         self.linear = nn.Linear(width, width)
        >>> declaration_of(Affine(3)).arguments
        {'width': 3}
    """

    def mark(target: T) -> T:
        signature = _signature(target)
        if any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
            raise SpecError(f"{name} takes *args, which cannot be recorded; give each argument a name.")
        marked: Callable[..., Any]
        if isinstance(target, type):
            marked = _mark_class(name, target, signature)
        else:
            marked = _mark_function(name, target, signature)
        if target.__module__.split(".")[0] == "jensen":
            _OWN[name] = marked
        return cast(T, marked)

    return mark


def _signature(target: Callable[..., Any]) -> inspect.Signature:
    if not isinstance(target, type):
        return inspect.signature(target)
    constructor = _constructor(target)
    if constructor in (object.__init__, torch.nn.Module.__init__):
        # These take anything and use nothing.
        return inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)])
    return inspect.signature(constructor)


def _constructor(cls: type) -> Callable[..., None]:
    return cast(Callable[..., None], getattr(cls, "__init__"))  # noqa: B009 (mypy mistrusts cls.__init__)


def _mark_class(name: str, cls: type, signature: inspect.Signature) -> type:
    original = _constructor(cls)

    @functools.wraps(original)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        # A subclass that is not declared itself must not pass for its parent.
        if type(self) is cls:
            object.__setattr__(self, "_declaration", _bind(name, cls, signature, (self, *args), kwargs))

    type.__setattr__(cls, "__init__", construct)
    return cls


def _mark_function(name: str, function: T, signature: inspect.Signature) -> T:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        object.__setattr__(result, "_declaration", _bind(name, wrapper, signature, args, kwargs))
        return result

    return cast(T, wrapper)


def _bind(
    name: str, factory: Any, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Declaration:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    if isinstance(factory, type):
        arguments.pop(next(iter(signature.parameters)))  # self
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(parameter.name, {}))
    return Declaration(name, factory, arguments)


def declaration_of(value: object) -> Declaration | None:
    """The declaration of an object, or None where its class or builder carries no :func:`declared`."""
    return cast(Declaration | None, getattr(value, "_declaration", None))


def adopt(name: str, factory: Callable[..., Any]) -> None:
    """Lets files name a constructor that cannot be marked, such as one of torch's distributions."""
    _OWN[name] = factory


def declare(value: object, name: str, arguments: dict[str, Any]) -> None:
    """Remembers on an object which adopted constructor builds it, and from what."""
    object.__setattr__(value, "_declaration", Declaration(name, _OWN[name], arguments))


def own_names() -> Mapping[str, Callable[..., Any]]:
    """The library's own constructors by name, as far as their modules have been imported."""
    return dict(_OWN)


def describe(value: object) -> tuple[Spec, dict[str, Tensor], dict[str, Callable[..., Any]]]:
    """Writes an object as plain data.

    Returns:
        The spec, the tensors that its arguments hold, and the constructors it names.

    Raises:
        SpecError: If the object or one of its parts is not declared, or an argument is of a kind files cannot hold.

    Example:
        >>> from jensen import schedules
        >>> spec, tensors, _ = describe(schedules.Linear(0.0, 1.0, steps=100))
        >>> spec.nodes[-1].arguments
        {'start': 0.0, 'end': 1.0, 'steps': 100}
    """
    writer = _Writer()
    writer.node(value, "the model")
    return Spec(nodes=writer.nodes), writer.tensors, writer.factories


class _Writer:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.factories: dict[str, Callable[..., Any]] = {}
        self._index: dict[int, int] = {}
        self._names: dict[int, str] = {}

    def node(self, value: object, where: str) -> int:
        if id(value) in self._index:
            return self._index[id(value)]
        declaration = declaration_of(value)
        if declaration is None:
            kind = type(value).__name__
            raise SpecError(
                f"{where} is a {kind}, which carries no declaration, so it cannot be written to a file. Put "
                f'@jensen.declared("mylab.{kind}") above class {kind} (or above the function that builds it), and '
                f'later read the file with jensen.load(path, modules={{"mylab.{kind}": {kind}}}).'
            )
        arguments = {
            key: self._value(item, f"argument {key!r} of {declaration.name}")
            for key, item in declaration.arguments.items()
        }
        if self.factories.setdefault(declaration.name, declaration.factory) is not declaration.factory:
            raise SpecError(f"two different constructors are both declared as {declaration.name!r}; rename one.")
        self.nodes.append(Node(name=declaration.name, arguments=arguments))
        self._index[id(value)] = len(self.nodes) - 1
        return len(self.nodes) - 1

    def _value(self, value: Any, where: str) -> JsonValue:
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(float(value))}
        if isinstance(value, list | tuple):
            return [self._value(item, f"{where}[{i}]") for i, item in enumerate(value)]
        if isinstance(value, Tensor):
            key = self._names.setdefault(id(value), f"argument.{len(self._names)}")
            self.tensors[key] = value.detach()
            return {"tensor": key}
        return {"ref": self.node(value, where)}


_REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    JensenError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What constructors raise when a file gives them arguments of the wrong kind."""


def build(spec: Spec, tensors: Mapping[str, Tensor], names: Mapping[str, Callable[..., Any]]) -> Any:
    """Builds the object that a spec describes; only constructors in ``names`` can be called.

    Raises:
        SpecError: If a name is unknown, a reference points forward, or a constructor refuses its arguments.
    """
    built: list[Any] = []
    for node in spec.nodes:
        factory = names.get(node.name)
        if factory is None:
            short = node.name.rpartition(".")[2]
            raise SpecError(
                f"this file names {node.name!r}, which is not one of jensen's own. If it is yours, pass "
                f'jensen.load(path, modules={{"{node.name}": {short}}}); code is never read from the file.'
            )
        arguments = {key: _read(value, built, tensors, node.name) for key, value in node.arguments.items()}
        try:
            inspect.signature(factory).bind(**arguments)
            built.append(factory(**arguments))
        except _REFUSALS as error:
            raise SpecError(f"{node.name} refuses the arguments in this file: {error}") from error
    if not built:
        raise SpecError("the file describes no object at all: its list of nodes is empty.")
    return built[-1]


def _read(value: JsonValue, built: list[Any], tensors: Mapping[str, Tensor], where: str) -> Any:
    if isinstance(value, list):
        return [_read(item, built, tensors, where) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"ref": int(index)} if len(value) == 1 and 0 <= index < len(built):
            return built[index]
        case {"tensor": str(key)} if len(value) == 1 and key in tensors:
            return tensors[key]
        case {"float": "inf" | "-inf" | "nan" as text} if len(value) == 1:
            return float(text)
    raise SpecError(f"an argument of {where} is neither a plain value nor a reference to something earlier: {value!r}.")


def parse(document: object) -> Spec:
    """Checks that a JSON document is a spec.

    Raises:
        SpecError: If it is not.
    """
    try:
        return Spec.model_validate(document, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SpecError(f"the model description is not valid at {where or 'its top'}: {first['msg']}.") from error
