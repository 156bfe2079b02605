"""Digests of files and folders, the same as DVC writes into dvc.lock."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from regroup.io import read_sealed, write_sealed


@dataclass(frozen=True)
class Digest:
    """What a file or a folder contained."""

    md5: str
    """Hex MD5 of a file (32 characters); of a folder's listing, with `.dir` appended (36 characters)."""
    size: int
    """Bytes, of all files."""


DIGESTS = Path(".state/digests")
"""Where a project remembers the digests of large files."""

LARGE = 32_000_000
"""From this size on, a file's digest is remembered: hashing 20 GB of shards takes longer than some stages."""


def dvc_digest(path: Path, remembered: Path | None = None) -> Digest:
    """Digest of a file, or of a folder and everything below it, as in dvc.lock.

    Args:
        path: a file or folder.
        remembered: folder of the digests of large files, found by path, size and time of the last change (by
            which DVC too tells whether a file must be hashed again); None hashes everything.

    Raises:
        OSError: the path does not exist or cannot be read.
    """
    if not path.is_dir():
        return _file_digest(path, remembered)
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    digests = {name: _file_digest(files[name], remembered) for name in sorted(files)}
    listing = [{"md5": digest.md5, "relpath": name} for name, digest in digests.items()]
    md5 = hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    return Digest(f"{md5}.dir", sum(digest.size for digest in digests.values()))


def _file_digest(path: Path, remembered: Path | None) -> Digest:
    stat = path.stat()
    if remembered is None or stat.st_size < LARGE:
        return _hash(path)
    key = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}"
    note = remembered / hashlib.sha256(key.encode()).hexdigest()
    if (known := read_sealed(note)) is not None:
        return Digest(bytes(known).decode(), stat.st_size)
    digest = _hash(path)
    write_sealed(note, digest.md5.encode())
    return digest


def _hash(path: Path) -> Digest:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return Digest(md5, file.tell())
