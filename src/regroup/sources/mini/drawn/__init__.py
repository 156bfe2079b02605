"""The sources that the drawn world has: a module each, named like the source.

A module has `write(folder, world)`: it draws all splits into `folder`, laid out as the source's archive
unpacks. The same world gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from regroup.plugins import Room
from regroup.sources.settings import WorldParams

DRAWN = Room("regroup.sources.mini.drawn", "drawn source")


def draw_dataset(name: str, folder: Path, world: WorldParams) -> None:
    """Draw all splits of a source into `folder`, laid out as its archive unpacks.

    Raises:
        RegroupError: the drawn world has no such source.
    """
    DRAWN.load(name).write(folder, world)
