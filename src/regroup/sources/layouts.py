"""Which parts of a source's layout are there: what its archives unpack to says its file of `archives/`."""

from __future__ import annotations

from pathlib import Path

from regroup.sources.settings import SOURCES


def is_present(path: Path) -> bool:
    """Whether a file is there, or a folder with anything in it."""
    return any(path.iterdir()) if path.is_dir() else path.is_file()


def present_parts(name: str, root: Path) -> tuple[str, ...]:
    """Parts of the layout that stand under `root`, required and optional."""
    layout = SOURCES.load(name)
    return tuple(part for part in (*layout.required, *layout.optional) if is_present(root / part))
