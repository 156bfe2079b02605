"""Who reads and writes which paths now (`.dvc/tmp/rwlock`), so that no stage runs twice at once.

DVC writes `{"pid", "cmd"}` for each path, and asks whether such a PID exists: a zombie does, so does a PID
that is another process by now, and on another host or in another container a PID means nothing. Here `cmd`
ends with the name of a lease below `.dvc/tmp/owners`, which tells the living from the dead; an entry without
one, by another DVC, is judged by what /proc says. The file stays readable for DVC. Paths are noted from the
project's root as well, because a container may see the project elsewhere.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dvc.repo.experiments.utils
import dvc.rwlock
from dvc.lock import LockError
from dvc.log import logger

from regroup.errors import RegroupError, os_words
from regroup.lease import Lease, LeaseBusyError, acquire, holder, sweep
from regroup.safe_dvc.lockfile import write_file
from regroup.safe_dvc.locks import make_lock
from regroup.safe_dvc.processes import process_lives

OWNERS = "owners"
_NAME = re.compile(r" \[owner ([0-9a-f]{32})\]$")
_logger = logger.getChild(__name__)

Info = dict[str, Any]


class BusyError(LockError):
    """A living process reads or writes what this one wants to write."""

    def __init__(self, message: str, is_free: Callable[[], bool]) -> None:
        """`is_free`: whether they have gone."""
        super().__init__(message)
        self._is_free = is_free

    def wait(self) -> None:
        """Until it is free; says now and then whom this process waits for."""
        told = -600.0
        while not self._is_free():
            if time.monotonic() - told >= 600:
                told = time.monotonic()
                _logger.warning("waiting: %s", self)
            time.sleep(0.5)


def install() -> None:
    """Replace DVC's function."""
    dvc.rwlock.rwlock = rwlock
    dvc.repo.experiments.utils.rwlock = rwlock


@contextmanager
def rwlock(
    tmp_dir: str, _fs: object, cmd: str, read: Sequence[str], write: Sequence[str], hardlink: bool
) -> Iterator[None]:
    """As DVC's function of this name: hold paths for the block.

    Raises:
        BusyError: a living process has them.
        LeaseLostError: meanwhile this process was taken for dead, and another one took them.
    """
    table = _Table.of(Path(tmp_dir), hardlink)
    new_read = [path for path in dict.fromkeys(read) if path not in table.reads]
    new_write = [path for path in dict.fromkeys(write) if path not in table.writes]
    if new_read or new_write:
        table.take(cmd, new_read, new_write)
    try:
        yield
    finally:
        if new_read or new_write:
            table.give_back(new_read, new_write)


@dataclass
class _Table:
    """One rwlock file, and what this process has in it."""

    folder: Path
    hardlink: bool
    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    lease: Lease | None = None
    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def of(cls, folder: Path, hardlink: bool) -> _Table:
        return _tables.setdefault(folder, cls(folder, hardlink))

    @property
    def path(self) -> Path:
        return self.folder / "rwlock"

    def take(self, cmd: str, read: list[str], write: list[str]) -> None:
        self._join()
        info = {"pid": os.getpid(), "cmd": f"{cmd} [owner {self.name}]"}
        with self._edit() as (readers, writers):
            if blockers := self._blockers(readers, writers, read, write):
                raise BusyError("; ".join(blockers), lambda: not self._look(read, write))
            for path in self._names(write):
                writers[path] = info
            for path in self._names(read):
                readers.setdefault(path, []).append(info)
        self.reads.update(read)
        self.writes.update(write)

    def give_back(self, read: list[str], write: list[str]) -> None:
        self.reads.difference_update(read)
        self.writes.difference_update(write)
        with self._edit() as (readers, writers):
            for path in self._names(write):
                if path in writers and self._is_mine(writers[path]):
                    del writers[path]
            for path in self._names(read):
                kept = [info for info in readers.pop(path, ()) if not self._is_mine(info)]
                readers |= {path: kept} if kept else {}
        assert self.lease is not None
        self.lease.confirm()

    def _join(self) -> None:
        """Become an owner that others can tell to be alive, until this process ends."""
        if self.lease is not None:
            return
        owners = self.folder / OWNERS
        for place in (self.folder, owners):
            sweep(place)
        if owners.is_dir():
            for path in [path for path in owners.iterdir() if re.fullmatch("[0-9a-f]{32}", path.name)]:
                if path.is_file() and holder(path, stale_after=24 * 3600) is None:
                    _bury(path)
        stack = ExitStack()
        try:
            self.lease = stack.enter_context(acquire(owners / self.name))
        except RegroupError as error:
            raise LockError(str(error)) from None
        atexit.register(stack.close)

    def _look(self, read: list[str], write: list[str]) -> list[str]:
        return self._blockers(*_parse(self.path), read, write)

    def _blockers(
        self, readers: dict[str, list[Info]], writers: dict[str, Info], read: list[str], write: list[str]
    ) -> list[str]:
        """The living that are in the way, and where; all notes of those found dead are dropped."""
        found: dict[str, str] = {}
        dead: list[Info] = []
        living = _Living(self.path)

        def look(path: str, info: Info) -> None:
            if self._is_mine(info) or info in dead:
                return
            if living(info):
                found.setdefault(_describe(info, self.folder), path)
            else:
                dead.append(info)

        wanted_to_write = self._names(write)
        wanted = wanted_to_write + self._names(read)
        for path, info in writers.items():
            if _overlaps(path, wanted):
                look(path, info)
        for path, infos in readers.items():
            if _overlaps(path, wanted_to_write):
                for info in infos:
                    look(path, info)
        for path in [path for path, info in writers.items() if info in dead]:
            del writers[path]
        for path, infos in list(readers.items()):
            if any(info in dead for info in infos):
                kept = [info for info in readers.pop(path) if info not in dead]
                readers |= {path: kept} if kept else {}
        return [f"{path} is in use by {whom}" for whom, path in found.items()]

    def _is_mine(self, info: Info) -> bool:
        return _owner(info) == self.name

    def _names(self, paths: Iterable[str]) -> list[str]:
        """Each path as DVC gives it, and from the project's root."""
        root = f"{self.folder.parent.parent}{os.sep}"
        inside = [path.removeprefix(root) for path in paths if path.startswith(root)]
        return [*paths, *inside]

    @contextmanager
    def _edit(self) -> Iterator[tuple[dict[str, list[Info]], dict[str, Info]]]:
        with make_lock(f"{self.path}.lock", tmp_dir=str(self.folder), hardlink_lock=self.hardlink, wait=True):
            readers, writers = _parse(self.path, say=True)
            try:
                yield readers, writers
            finally:
                notes = json.dumps({"write": writers, "read": readers})
                try:
                    write_file(self.path, lambda file: file.write(notes), durable=False)
                except OSError as error:
                    raise LockError(f"{self.path}: {os_words(error)}") from None


_tables: dict[Path, _Table] = {}


@dataclass
class _Living:
    """Tells living owners from dead ones; asks once for each."""

    path: Path
    known: dict[str, bool] = field(default_factory=dict)

    def __call__(self, info: Info) -> bool:
        key = json.dumps(info, sort_keys=True)
        if key not in self.known:
            self.known[key] = self._ask(info)
            if not self.known[key]:
                cmd = _NAME.sub("", info["cmd"])
                _logger.warning("process %s (`%s`) is gone; what it held is free", info["pid"], cmd)
        return self.known[key]

    def _ask(self, info: Info) -> bool:
        if name := _owner(info):
            return not _bury(self.path.with_name(OWNERS) / name)
        since = self.path.stat().st_mtime if self.path.exists() else time.time()
        return process_lives(info["pid"], info["cmd"], since)


def _bury(owner: Path) -> bool:
    """Remove the lease of a dead owner; False if it lives."""
    with suppress(LeaseBusyError), acquire(owner, wait=0):
        return True
    return False


def _owner(info: Info) -> str | None:
    found = _NAME.search(info["cmd"])
    return found[1] if found else None


def _describe(info: Info, folder: Path) -> str:
    name = _owner(info)
    owner = holder(folder / OWNERS / name) if name else None
    return str(owner) if owner else f"process {info['pid']} (`{info['cmd']}`)"


def _overlaps(path: str, others: Iterable[str]) -> bool:
    return any(
        path == other or path.startswith(other + os.sep) or other.startswith(path + os.sep)
        for other in others
    )


def _parse(path: Path, *, say: bool = False) -> tuple[dict[str, list[Info]], dict[str, Info]]:
    """Readers and writers by path; whatever has another shape than DVC's is left out, and said."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, {}
    except OSError as error:
        raise LockError(f"{path}: {os_words(error)}") from None
    except (ValueError, RecursionError):
        content = None
    whole = content if isinstance(content, dict) else {"write": None}
    writers = {name: info for name, given in _items(whole, "write") if (info := _info(given))}
    readers = {
        name: infos
        for name, given in _items(whole, "read")
        if (
            infos := [info for one in (given if isinstance(given, list) else [given]) if (info := _info(one))]
        )
    }
    if say and {"write": {}, "read": {}} | whole != {"write": writers, "read": readers}:
        _logger.warning("%s is damaged; what can be read of it is kept", path)
    return readers, writers


def _items(content: Mapping[str, Any], key: str) -> Iterable[tuple[str, Any]]:
    part = content.get(key)
    return part.items() if isinstance(part, dict) else ()


def _info(given: Any) -> Info | None:
    """`{"pid": number, "cmd": text}`, or None."""
    if not isinstance(given, dict) or not isinstance(given.get("cmd"), str):
        return None
    try:
        pid = int(given["pid"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return {"pid": pid, "cmd": given["cmd"]}
