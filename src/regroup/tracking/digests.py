"""Digests of files and folders, the same as DVC writes into dvc.lock."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Digest:
    """What a file or a folder contained."""

    md5: str
    """Hex MD5 of a file (32 characters); of a folder's listing, with `.dir` appended (36 characters)."""
    size: int
    """Bytes, of all files."""


def dvc_digest(path: Path) -> Digest:
    """Digest of a file, or of a folder and everything below it, as in dvc.lock.

    Raises:
        OSError: the path does not exist or cannot be read.
    """
    if not path.is_dir():
        return _file_digest(path)
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    digests = {name: _file_digest(files[name]) for name in sorted(files)}
    listing = [{"md5": digest.md5, "relpath": name} for name, digest in digests.items()]
    md5 = hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    return Digest(f"{md5}.dir", sum(digest.size for digest in digests.values()))


def _file_digest(path: Path) -> Digest:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return Digest(md5, file.tell())
