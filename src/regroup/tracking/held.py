"""Whether an output that dvc.lock names is here: in the project's folder, or in DVC's cache."""

from __future__ import annotations

import json
from configparser import ConfigParser
from configparser import Error as ConfigError
from pathlib import Path

from regroup.journal.digests import DIGESTS, dvc_digest
from regroup.journal.locked import LockedOutput


def is_held(root: Path, output: LockedOutput) -> bool:
    """Whether the bytes of an output are here.

    DVC's cache is trusted to hold what its names say, as DVC does; what lies in the project's folder is
    compared by its digest. A folder is in the cache if its listing and every file of it are.

    Args:
        root: the project's root.
        output: as dvc.lock has it.
    """
    return _is_cached(_cache(root), output.md5) or _is_in_place(root, output)


def _is_in_place(root: Path, output: LockedOutput) -> bool:
    path = root / output.path
    try:
        return path.exists() and dvc_digest(path, root / DIGESTS).md5 == output.md5
    except OSError:
        return False


def _is_cached(cache: Path, md5: str) -> bool:
    entry = cache / "files/md5" / md5[:2] / md5[2:]
    if not entry.is_file() or not md5.endswith(".dir"):
        return entry.is_file()
    try:
        listing = json.loads(entry.read_bytes())
        return all(_is_cached(cache, file["md5"]) for file in listing)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _cache(root: Path) -> Path:
    """Folder of DVC's cache: `cache.dir` of the project's settings, the local ones first."""
    for name in ("config.local", "config"):
        config = ConfigParser(interpolation=None)
        try:
            config.read(root / ".dvc" / name, encoding="utf-8")
            folder = config.get("cache", "dir", fallback="")
        except (ConfigError, UnicodeDecodeError):
            continue
        if folder:
            return root / ".dvc" / Path(folder).expanduser()
    return root / ".dvc/cache"
