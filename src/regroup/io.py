"""Atomic writes and digests: an output file is either whole or absent."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regroup.errors import RegroupError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the block succeeds.

    Parent folders are made. If the block raises, the temporary file is removed and whatever stood at `path`
    before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; outputs are as readable as any other file of the user
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8 with Unix line ends."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; floats keep every digit, NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        RegroupError: the file is missing or is not JSON; the message names it and the place.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RegroupError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RegroupError(f"{path}: not valid JSON ({error})") from None


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_SEAL = b"regroup: sealed\n"


def seal(path: Path) -> None:
    """Append the digest of a file's content to it, so that `read_sealed` can tell whether it is whole."""
    digest = bytes.fromhex(sha256(path))
    with path.open("ab") as file:
        file.write(_SEAL + digest)


def write_sealed(path: Path, content: bytes) -> None:
    """Write what may be made again, such as a cache, atomically and with its digest."""
    write_bytes(path, content + _SEAL + hashlib.sha256(content).digest())


def read_sealed(path: Path) -> memoryview | None:
    """Content of a sealed file, mapped into memory; None if it is not there or is not what was written.

    Whoever gets None makes the content again: a cache must never change a result, whatever befell its file.
    """
    end = len(_SEAL) + 32
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):  # not there, or empty
        return None
    body, tail = content[:-end], content[-end:]
    return body if tail == _SEAL + hashlib.sha256(body).digest() else None


def source_digest(*names: str) -> str:
    """Hex SHA-256 of the source of modules and packages of `regroup`; it tells what other code has made.

    Args:
        names: below `src/regroup`, such as `model` (every `.py` file in it) or `captions/tokens.py`.
    """
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for name in names:
        files = sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name]
        for file in files:
            content = file.read_bytes()
            digest.update(f"{file.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
