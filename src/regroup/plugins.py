"""What plugs in by file: a room is a package, and every module in it is one thing of its kind.

A module is found by listing the folder; none is named in a registry. Those whose name begins with `_` are
shared by the others. A module (or a folder, where one file is not enough) says what it may be told:

    class Options(Settings):
        weight: float = Field(default=0.1, ge=0, le=1)

Without `Options` it takes none. What else a room asks of its modules, the room's `__init__` says.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from pydantic import Field

from regroup.errors import RegroupError, shown
from regroup.settings import Settings, parse, read_yaml

Entry = TypeVar("Entry", bound=Settings)

_KINDS = frozenset({".py", ".csv", ".json", ".txt", ".yaml", ".yml"})
"""Endings of the files that a plugin may be made of: its code, and data that it reads."""


class NoOptions(Settings):
    """Of what takes none."""


class Use(Settings):
    """A plugin that a file names, and what the file tells it; `Room.options` checks that."""

    name: str
    options: dict[str, bool | Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Room:
    """One package of plugins.

    Attributes:
        package: its name, e.g. `regroup.objectives`.
        word: what one of its modules is called in messages, e.g. `objective`.
        functions: what each of its modules has.
    """

    package: str
    word: str
    functions: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What the room is called in files: the package's last name."""
        return self.package.rpartition(".")[2]

    @cached_property
    def folder(self) -> Path:
        """Where its modules lie."""
        # the package itself is not imported: listing names must not cost an import of torch
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise RegroupError(f"{self.package}: no such package; is the project installed (`make env`)?")
        return Path(next(iter(spec.submodule_search_locations)))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every module by name, sorted; nothing is imported."""
        files = (path.stem for path in self.folder.glob("*.py"))
        folders = (path.parent.name for path in self.folder.glob("*/__init__.py"))
        return tuple(sorted(name for name in {*files, *folders} if not name.startswith("_")))

    def check(self, name: str) -> None:
        """Refuse a name that no module has.

        Raises:
            RegroupError: names the one that was probably meant, and all there are.
        """
        _check(name, self.names, self.word)

    def named(self, value: object, where: str) -> str:
        """What a file says as the name of a module.

        Args:
            value: as read.
            where: the file and key, which messages begin with.

        Raises:
            RegroupError: no text, or a name that no module has.
        """
        if not isinstance(value, str):
            raise RegroupError(f"{where}: {shown(value)} is no name of a {self.word}")
        try:
            self.check(value)
        except RegroupError as error:
            raise RegroupError(f"{where}: {error}") from None
        return value

    def file(self, name: str) -> Path:
        """Where a module begins, for messages."""
        own = self.folder / f"{name}.py"
        return own if own.is_file() else self.folder / name / "__init__.py"

    def load(self, name: str) -> ModuleType:
        """Import a module of this room.

        Raises:
            RegroupError: there is none of this name, it cannot be imported, or it lacks one of the functions.
        """
        self.check(name)
        try:
            module = importlib.import_module(f"{self.package}.{name}")
        except RegroupError:
            raise
        except Exception as error:
            raise RegroupError(f"{self.file(name)}: cannot be imported: {_in_words(error)}") from error
        if missing := [one for one in self.functions if not callable(getattr(module, one, None))]:
            raise RegroupError(
                f"{self.file(name)}: has no function `{missing[0]}`; `{self.package}` says what a "
                f"{self.word} has"
            )
        return module

    def options(self, name: str, values: Mapping[str, Any], *, where: str | None = None) -> Settings:
        """What a module is told, checked by its own `Options`, every default filled in.

        Args:
            name: of the module.
            values: as written in a file.
            where: what messages begin with; None: the name.

        Raises:
            RegroupError: no such module, one whose `Options` are no `Settings`, or an option that is unknown,
                ill-typed or out of range.
        """
        model = getattr(self.load(name), "Options", NoOptions)
        if not (isinstance(model, type) and issubclass(model, Settings)):
            raise RegroupError(
                f"{self.file(name)}: `Options` is no class of `Settings` (`regroup.settings`); derive it "
                "from that, with a range for each number"
            )
        return parse(model, dict(values), where or name)

    def files(self, name: str) -> tuple[Path, ...]:
        """The files of this room that a module is made of: its own, and all that they import.

        Data files are its own if they lie in its folder, or beside it and are named like it. The room's
        `__init__` is among them: importing a module runs it.

        Raises:
            RegroupError: there is none of this name.
        """
        self.check(name)
        found: set[Path] = set()
        waiting = [*self._own_files(""), *self._own_files(name)]
        while waiting:
            file = waiting.pop()
            if file not in found:
                found.add(file)
                if file.suffix == ".py":
                    waiting += [one for module in self._imported(file) for one in self._own_files(module)]
        return tuple(sorted(found))

    def digest(self, name: str) -> str:
        """SHA-256 of `files`: it changes when, and only when, the code of this module does.

        What it imports from other packages is not in it: stages declare that themselves.
        """
        total = hashlib.sha256()
        for file in self.files(name):
            # not by where it lies, and not by how git writes its lines
            content = file.read_bytes().replace(b"\r\n", b"\n")
            total.update(f"{file.relative_to(self.folder).as_posix()}\0{len(content)}\0".encode())
            total.update(content)
        return total.hexdigest()

    def _own_files(self, module: str) -> Iterator[Path]:
        """Files of `module`, a dotted name below this package (empty: the package's own `__init__`)."""
        path = self.folder.joinpath(*module.split(".")) if module else self.folder
        if not module:
            yield path / "__init__.py"
        elif path.with_suffix(".py").is_file():
            # data of its name may lie beside it
            yield from (file for file in path.parent.glob(f"{path.name}.*") if file.suffix in _KINDS)
        elif (path / "__init__.py").is_file():
            yield from (file for file in path.rglob("*") if file.suffix in _KINDS)

    def _imported(self, file: Path) -> Iterator[str]:
        """Modules below this package that a file imports, as dotted names below it."""
        parts = file.relative_to(self.folder).with_suffix("").parts
        here = ".".join([self.package, *parts[:-1]])  # what one dot means in this file
        try:
            names = _imported_names(file.read_bytes(), here)
        except (SyntaxError, ValueError) as error:
            raise RegroupError(f"{file}: cannot be read as Python: {_in_words(error)}") from None
        for name in names:
            if name == self.package or name.startswith(f"{self.package}."):
                yield name.removeprefix(self.package).removeprefix(".")


class Shelf(Generic[Entry]):
    """A folder of YAML files, each one thing of its kind, found by listing: data where a `Room` has code.

    A file whose name begins with `_` is none of them.
    """

    def __init__(self, folder: Path, word: str, model: type[Entry]) -> None:
        """Describe it; nothing is read.

        Args:
            folder: where the files lie.
            word: what one of them is called in messages, e.g. `source`.
            model: what a file says.
        """
        self.folder, self.word, self.model = folder, word, model
        self._read: dict[str, Entry] = {}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every file by its stem, sorted."""
        return tuple(sorted(path.stem for path in self.folder.glob("[!_.]*.yaml")))

    def check(self, name: str) -> None:
        """Refuse a name that no file has.

        Raises:
            RegroupError: names the one that was probably meant, and all there are.
        """
        _check(name, self.names, self.word)

    def path(self, name: str) -> Path:
        """The file of `name`; errors as `check`."""
        self.check(name)
        return self.folder / f"{name}.yaml"

    def load(self, name: str) -> Entry:
        """What the file of `name` says, read once.

        Raises:
            RegroupError: there is none of this name, or a key in it is unknown, missing or ill-typed.
        """
        if name not in self._read:
            path = self.path(name)
            self._read[name] = parse(self.model, read_yaml(path), path)
        return self._read[name]


def _check(name: str, names: Sequence[str], word: str) -> None:
    if name in names:
        return
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    known = ", ".join(names) or "none yet"
    raise RegroupError(f"{name}: no such {word}{hint}; there are {known}")


def _in_words(error: Exception) -> str:
    """An error of a plugin's own code, and the place in it."""
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename or 'its text'}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


@cache
def _imported_names(source: bytes, here: str) -> tuple[str, ...]:
    """Dotted names of all that a source imports; one dot means `here`. A name may be a module, or of one."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = here.rsplit(".", node.level - 1)[0]
                base = f"{above}.{base}" if base else above
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(found)
