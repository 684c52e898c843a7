"""The files under src/jensen: imports between them run one way."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import jensen

SOURCE = Path(jensen.__file__).parent


def part(path: Path) -> str:
    """The module or package right under ``jensen`` in which a file lies."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The other parts that a file imports, wherever in it."""
    package = ("jensen", *path.relative_to(SOURCE).parts[:-1])
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            before = package[: len(package) - node.level + 1] if node.level else ()
            module = (*before, *(node.module.split(".") if node.module else ()))
            names = [(*module, alias.name) for alias in node.names]
        else:
            continue
        found |= {name[1] for name in names if name[0] == "jensen" and len(name) > 1}
    return found - {part(path)}


def order(imports: dict[str, set[str]]) -> list[str]:
    return list(TopologicalSorter(imports).static_order())


def test_imports_between_parts_run_in_no_circle():
    imports: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        if part(path) not in ("__init__", "__main__"):
            imports.setdefault(part(path), set()).update(imported(path))
    order(imports)
    assert imports["evaluation"] and "fitted" not in imports["diagnose"]
    with pytest.raises(CycleError):
        order({**imports, "errors": {"cli"}})
    seen_by = {name for name, others in imports.items() if "testing" in others}
    assert seen_by <= {"cli"}, "testing is for tests alone"
