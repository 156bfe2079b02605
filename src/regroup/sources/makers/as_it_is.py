"""A file that no archive holds: put in its place as it came."""

from __future__ import annotations

import shutil
from pathlib import Path

from regroup.io import atomic_path


def make(file: Path, folder: Path, *, progress: bool = False) -> str:
    """Copy the file into the folder, under its own name."""
    with atomic_path(folder / file.name) as temporary:
        shutil.copyfile(file, temporary)
    return f"{folder / file.name}: {file.stat().st_size:,} bytes"
