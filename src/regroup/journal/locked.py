"""The outputs that a dvc.lock names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from regroup.errors import RegroupError
from regroup.settings import read_yaml


@dataclass(frozen=True)
class LockedOutput:
    """One output: its path from the project's root, its MD5 (`.dir` at the end for a folder), its bytes."""

    path: str
    md5: str
    size: int


def locked_outputs(lock: Path) -> list[LockedOutput]:
    """All of them, sorted by path; none if there is no such file.

    Raises:
        RegroupError: the file is not YAML, or not a dvc.lock.
    """
    content = (read_yaml(lock) or {}) if lock.is_file() else {}
    try:
        outs = [out for stage in content.get("stages", {}).values() for out in stage.get("outs", ())]
        found = [LockedOutput(str(out["path"]), str(out["md5"]), out.get("size", 0)) for out in outs]
    except (AttributeError, KeyError, TypeError):
        raise RegroupError(
            f"{lock}: not as DVC writes it; `git checkout {lock.name}` brings it back"
        ) from None
    return sorted(found, key=lambda out: out.path)
