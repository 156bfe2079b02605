"""Which modules of this project a script imports, directly or not, found without running it."""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"

CARRIERS = (
    "stage.py",
    "study.py",
    "params.py",
    "resolved.py",
    "variants.py",
    "variants_file.py",
    "settings.py",
    "plugins.py",
    "errors.py",
    "io.py",
    "lease.py",
    "owner.py",
    "journal/",
    "run_facts.py",
)
"""They carry values which DVC tracks by key or in the files of `resolve`, or write what others made or
what is no output of DVC: neither declared nor followed."""

BY_DIGEST = (
    "regroup.objectives",
    "regroup.adaptation",
    "regroup.heads",
    "regroup.backbones",
    "regroup.tasks",
)
"""Rooms whose modules a run names: the file that `resolve` writes for it has their digests. Those of any
other room count as imported where the room stands."""


def imported_modules(script: Path) -> set[str]:
    """Modules that `script` may import, as paths below `src/regroup`; carriers are left out."""
    found: set[Path] = set()
    waiting = list(_imports(script))
    while waiting:
        file = waiting.pop()
        if file not in found and not _carrier(file):
            found.add(file)
            waiting.extend(_imports(file))
    return {_name(file) for file in found if file.name != "__init__.py"}


def is_carrier(name: str) -> bool:
    """Whether a module, as a path below `src/regroup`, is one of them."""
    # the settings of a package are carriers too: params.yaml has their values
    return name.startswith(CARRIERS) or name.endswith("/settings.py")


def _name(file: Path) -> str:
    return file.relative_to(SOURCE / "regroup").as_posix()


def _carrier(file: Path) -> bool:
    return is_carrier(_name(file))


@cache
def _imports(file: Path) -> frozenset[Path]:
    tree = ast.parse(file.read_text())
    unused = {node for branch in _type_checking(tree) for node in ast.walk(branch)}
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node not in unused:
            # a name may be a module itself, or one that the package takes from a module
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
            names.update(_lazy_homes(node))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Room":
            names.update(_plugins(node))
    return frozenset(path for name in names for path in _files(name))


def _plugins(room: ast.Call) -> set[str]:
    """Modules that a room finds by listing."""
    package = room.args[0]
    if not isinstance(package, ast.Constant) or package.value in BY_DIGEST:
        return set()
    folder = SOURCE.joinpath(*package.value.split("."))
    return {f"{package.value}.{path.stem}" for path in folder.glob("*.py")}


def _files(name: str) -> list[Path]:
    parts = name.split(".")
    if parts[0] != "regroup":
        return []
    stems = [SOURCE.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    candidates = [file for stem in stems for file in (stem / "__init__.py", stem.with_suffix(".py"))]
    return [file for file in candidates if file.is_file()]


def _lazy_homes(node: ast.ImportFrom) -> set[str]:
    """Modules behind the names that some packages import when they are first used."""
    if node.module not in ("regroup.model", "regroup.objectives"):
        return set()
    homes = import_module(node.module)._HOMES
    return {f"{node.module}.{homes[alias.name]}" for alias in node.names if alias.name in homes}


def _type_checking(tree: ast.Module) -> list[ast.If]:
    branches = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    return [node for node in branches if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"]
