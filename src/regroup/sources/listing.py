"""What lies in a folder of raw data: its files with their sizes and times, and a digest of what they hold.

A folder of 120,000 pictures is listed in a second; reading its 20 GB takes minutes. So the digest of a file
is remembered, and the file is read again only if its size or one of its times is another.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

from regroup.errors import RegroupError
from regroup.io import read_sealed, sha256, write_sealed

READERS = 8
"""Files that are read at a time: enough for a disk on the network, harmless for one in the machine."""

_UNSETTLED = 2_000_000_000
"""Nanoseconds: a file may change twice within one tick of a file system's clock."""


class Entry(NamedTuple):
    """A file below a folder: its path from there, with slashes, its size in bytes and its times."""

    path: str
    size: int
    modified: int
    changed: int


def list_entries(root: Path, parts: Iterable[str]) -> list[Entry]:
    """Files of the parts of `root`, sorted by path; folders are walked, hidden files do not count.

    Links are followed, to a folder once.

    Raises:
        RegroupError: a folder cannot be read.
    """
    found: dict[str, Entry] = {}
    for part in parts:
        try:
            for entry in _walk(root / part, part.strip("/"), set()):
                found[entry.path] = entry
        except OSError as error:
            raise RegroupError(
                f"{error.filename or root / part}: cannot be read ({error.strerror})"
            ) from None
    return sorted(found.values(), key=lambda entry: entry.path.split("/"))


def _walk(place: Path, path: str, seen: set[tuple[int, int]]) -> Iterator[Entry]:
    try:
        found = place.stat()
    except FileNotFoundError:  # no such part, or a link to nowhere
        return
    if S_ISREG(found.st_mode):
        yield Entry(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    elif S_ISDIR(found.st_mode) and (found.st_dev, found.st_ino) not in seen:
        seen.add((found.st_dev, found.st_ino))
        for item in place.iterdir():
            if not item.name.startswith(".") or item.is_dir():
                yield from _walk(item, f"{path}/{item.name}", seen)


class FileDigests:
    """SHA-256 of files by path, size and times, kept in a file between runs.

    The kept file has a checksum of its own: what is damaged is made again.
    """

    def __init__(self, root: Path, file: Path | None) -> None:
        """Remember the files below `root` in `file`; None: for this object's life alone."""
        self._root, self._file = root, file
        self._known = {} if file is None else _read(file)

    def of(self, entries: Sequence[Entry]) -> list[str]:
        """The hex digest of each file.

        Raises:
            RegroupError: a file cannot be read.
        """
        stale = [entry for entry in entries if self._known.get(entry.path, ())[:3] != entry[1:]]
        with ThreadPoolExecutor(READERS) as pool:
            fresh = dict(zip([entry.path for entry in stale], pool.map(self._digest, stale), strict=True))
        digests = [fresh.get(entry.path) or self._known[entry.path][3] for entry in entries]
        if stale or len(self._known) != len(entries):
            settled = time.time_ns() - _UNSETTLED
            self._known = {
                entry.path: (entry.size, entry.modified, entry.changed, digest)
                for entry, digest in zip(entries, digests, strict=True)
                if max(entry.modified, entry.changed) < settled
            }
            if self._file is not None:
                _write(self._file, self._known)
        return digests

    def _digest(self, entry: Entry) -> str:
        path = self._root / entry.path
        try:
            return sha256(path)
        except OSError as error:
            raise RegroupError(f"{path}: cannot be read ({error.strerror})") from None


_Known = dict[str, tuple[int, int, int, str]]


def _read(file: Path) -> _Known:
    content = read_sealed(file)
    if content is None:
        return {}
    return {path: tuple(values) for path, values in json.loads(bytes(content)).items()}


def _write(file: Path, known: _Known) -> None:
    write_sealed(file, json.dumps(known).encode())  # ASCII, so that any file name can be written
