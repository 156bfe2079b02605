"""How images and their captions lie in files: a module each, named by `captions` of the task `retrieval`.

A module has

- `SOURCE`: the raw data it reads, by its name under `sources:` in params.yaml;
- `SPLITS`: names of the splits there are, and how many images each has as published; None: not known;
- `read(root, split) -> Corpus`: the images of a split; whether their files are there is looked at later, for
  those that are used.

Bad files are a `RegroupError` that names the file and the remedy.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from regroup.errors import RegroupError
from regroup.plugins import Room

LAYOUTS = Room("regroup.tasks._captions", "layout of captions", ("read",))

_NAMED = 5


@dataclass(frozen=True)
class Captioned:
    """An image and its captions.

    Attributes:
        id: of the image, a number or a name.
        path: its file.
        captions: id and text of each.
        coco: its id among COCO's images, by which training knows it; None: none of COCO's.
    """

    id: int | str
    path: Path
    captions: tuple[tuple[int, str], ...]
    coco: int | None = None


@dataclass(frozen=True)
class Corpus:
    """The images of a split.

    Attributes:
        file: that has the captions.
        name: of the protocol.
        images: in the order of their ids; some may have no caption.
    """

    file: Path
    name: str
    images: tuple[Captioned, ...]


def check_there(paths: Iterable[Path], file: Path) -> None:
    """Check that images are there, with one listing of each folder.

    Raises:
        RegroupError: says how many are missing and names the first.
    """
    paths = list(paths)
    folders: dict[Path, frozenset[str]] = {}
    missing = []
    for path in paths:
        folder = path.parent
        if folder not in folders:
            # names only; a look at every file of a folder on the network takes minutes
            folders[folder] = frozenset(os.listdir(folder) if folder.is_dir() else ())  # noqa: PTH208
        if path.name not in folders[folder]:
            missing.append(path)
    if missing:
        named = ", ".join(path.name for path in missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        raise RegroupError(
            f"{missing[0].parent}: {len(missing)} of the {len(paths)} images of {file} are missing"
            f" ({named}); fetch the images again or use the caption file that belongs to them"
        )


def no_file(file: Path, what: str) -> RegroupError:
    """What to say where the captions of a layout are not there."""
    return RegroupError(f"{file}: no such file; {what}")
