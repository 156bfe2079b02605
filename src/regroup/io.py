"""Atomic writes and digests: an output file is either whole or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regroup.errors import WRITING, RegroupError, check_regular, os_words


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the block succeeds.

    Parent folders are made. If the block raises, the temporary file is removed and whatever stood at `path`
    before is still there.

    Raises:
        OSError: it cannot be written; the error names `path`, also where the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    # a name may have 255 bytes, so the temporary one must not be longer than the last
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp")
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
    except Exception as error:
        _name_the_file(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _name_the_file(error: Exception, path: Path) -> None:
    """Say which file a failed write is about: Python does not, and libraries speak in riddles.

    Raises:
        OSError: the disk is full, and the error is a library's own for that.
    """
    if isinstance(error, OSError) and error.errno in WRITING and error.filename is None:
        error.filename = str(path)
    elif isinstance(error, RegroupError) or getattr(error, "errno", None) is not None:
        return
    elif "No space left" in str(error) or _is_full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def _is_full(path: Path) -> bool:
    disk = os.statvfs(path.parent)
    return disk.f_blocks > 0 and disk.f_bavail == 0


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def text_bytes(content: str) -> bytes:
    r"""Text as UTF-8.

    What UTF-8 has no place for, the bytes of file names in another encoding, becomes `\udcXX`, which JSON
    reads back as it was.
    """
    return content.encode(errors="backslashreplace")


def json_bytes(value: Any) -> bytes:
    """`value` as indented JSON; floats keep every digit, NaN is refused."""
    return text_bytes(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8 with Unix line ends; see `text_bytes`."""
    write_bytes(path, text_bytes(content))


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as JSON, atomically; see `json_bytes`."""
    write_bytes(path, json_bytes(value))


def write_changed(files: Mapping[Path, Any], among: Iterable[Path]) -> list[Path]:
    """Write JSON files, and remove what lies beside them and is none of them.

    A file that says the same already is not touched, so what depends on it need not run again.

    Args:
        files: what each says.
        among: those that are there; the ones that `files` does not have go.

    Returns:
        Those that were written.
    """
    contents = {path: json_bytes(value) for path, value in files.items()}
    for path in set(among) - set(contents):
        path.unlink()
    written = []
    for path, content in contents.items():
        if not path.is_file() or path.read_bytes() != content:
            write_bytes(path, content)
            written.append(path)
    return written


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        RegroupError: the file is missing or is not JSON; the message names it and the place.
    """
    try:
        check_regular(path)
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RegroupError(f"{path}: no such file") from None
    except OSError as error:
        raise RegroupError(f"{path}: {os_words(error)}") from None
    except ValueError as error:  # not JSON, not UTF-8, or a number of thousands of digits
        raise RegroupError(f"{path}: not valid JSON ({error})") from None
    except RecursionError:
        raise RegroupError(f"{path}: lists or mappings are nested too deeply") from None


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
