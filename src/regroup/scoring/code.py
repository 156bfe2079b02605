"""The code that a task's result depends on: its module, and what that imports of this project, to the end."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import regroup
from regroup.tasks import TASKS

_PACKAGE = Path(regroup.__file__).parent
_CARRIERS = frozenset({"errors", "io", "lease", "owner", "plugins", "settings"})
"""They carry values that are written down themselves, or write what others computed."""
_OF_EVERY_TASK = (
    "backbones/__init__.py",
    "seeds.py",
    "sources/manifest.py",
    "scoring/resolve.py",
    "scoring/results.py",
    "scoring/validation.py",
    "training/snapshots.py",
)
"""What the stage `evaluate` does before and after a task runs."""


def code_of(task: str, files: Iterable[Path] = ()) -> dict[str, str]:
    """Digests of a task's own modules, of what they import from the rest of the project, and of more files.

    Raises:
        RegroupError: there is no such task.
    """
    further = sorted(files)
    modules = library(task, further)
    return {
        f"tasks.{task}": TASKS.digest(task),
        "library": _digest((file.relative_to(_PACKAGE).as_posix(), file) for file in modules),
        **({"files": _digest((file.name, file) for file in further)} if further else {}),
    }


def library(task: str, files: Iterable[Path] = ()) -> tuple[Path, ...]:
    """Modules that a task and the stage around it import, directly or not, and the tables beside them.

    The task's own are not among them. A table is a YAML file of a module's name. `settings` of packages are
    left out: the options have their values.

    Args:
        task: which.
        files: further ones that its result depends on; modules among them, which it finds by their names,
            are followed like its own.
    """
    own = {file for file in (*TASKS.files(task), *files) if file.suffix == ".py"}
    found = {_PACKAGE / name for name in _OF_EVERY_TASK} - own
    waiting = [*own, *found]
    while waiting:
        for file in _imports(waiting.pop()):
            if file not in found and file not in own and not _carries(file):
                found.add(file)
                waiting.append(file)
    tables = {file.with_suffix(".yaml") for file in found}
    return tuple(sorted(found | {table for table in tables if table.is_file()}))


def _carries(file: Path) -> bool:
    return file.stem == "settings" or (file.parent == _PACKAGE and file.stem in _CARRIERS)


def _imports(file: Path) -> Iterator[Path]:
    """Files of this project behind the imports in `file`, wherever in it they stand."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # a name may be a module itself, or one that the package takes from a module
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            first, *parts = name.split(".")
            if first == "regroup":
                for depth in range(1, len(parts) + 1):
                    stem = _PACKAGE.joinpath(*parts[:depth])
                    yield from (
                        one for one in (stem.with_suffix(".py"), stem / "__init__.py") if one.is_file()
                    )


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    total = hashlib.sha256()
    for name, file in files:
        content = file.read_bytes().replace(b"\r\n", b"\n")
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()
