"""The outputs that a dvc.lock names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
        RegroupError: the file is not YAML.
    """
    stages = (read_yaml(lock) or {}).get("stages", {}) if lock.is_file() else {}
    outs = [out for stage in stages.values() for out in stage.get("outs", ())]
    return sorted(
        (LockedOutput(out["path"], out["md5"], out.get("size", 0)) for out in outs), key=lambda out: out.path
    )
