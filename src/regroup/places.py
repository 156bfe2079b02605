"""Whether DVC can work in the project's folder: said before a stage has done its work for nothing."""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OUTPUTS = ("data", "runs", "reports")
"""Folders that hold a profile's outputs, each in a folder of the profile's name."""

_DEEPER = (
    "data/{}/raw",
    *(f"reports/{{}}/{kind}" for kind in ("curves", "dissection", "metrics")),
)


@dataclass(frozen=True)
class Fault:
    """A place, and why no run can start there, with the remedy."""

    place: str
    detail: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.place}: {self.detail}"


def place_faults(profile: str, root: Path = Path()) -> Iterator[Fault]:
    """What keeps a run of `profile` in the project at `root` from starting.

    Folders of outputs that are links, which DVC refuses once the output is made; no git repository around;
    folders that cannot be written to. A folder that is no DVC project has no faults: stages may run without.
    """
    if not (root / ".dvc").exists() and not (root / ".dvc").is_symlink():
        return
    for place in (".dvc", *_folders(profile)):
        path = root / place
        if path.is_symlink():
            yield Fault(
                place, f"is a link to {path.readlink()}, and DVC refuses what lies behind one; {_REMEDY}"
            )
        elif path.exists() and not os.access(path, os.W_OK | os.X_OK):
            yield Fault(place, "cannot be written to; see its owner and mode, and how its disk is mounted")
    if not _without_git(root) and not any(
        (up / ".git").exists() for up in (root.absolute(), *root.absolute().parents)
    ):
        yield Fault(
            ".git",
            "no git repository; DVC looks for one: `git init`, or clone the project instead of unpacking an"
            " archive of it, or do without: `dvc config --local core.no_scm true`",
        )


_REMEDY = (
    "remove the link, and mount the other disk's folder there (`mount --bind`), or clone the project to that"
    " disk; `dvc cache dir --local FOLDER` moves the cache, and `root` of a source says where its data lies"
)


def _folders(profile: str) -> list[str]:
    return [
        *OUTPUTS,
        *(f"{folder}/{profile}" for folder in OUTPUTS),
        *(folder.format(profile) for folder in _DEEPER),
    ]


def _without_git(root: Path) -> bool:
    """Whether DVC is told to do without git."""
    config = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        config.read([root / ".dvc/config", root / ".dvc/config.local"], encoding="utf-8")
        return config.getboolean("core", "no_scm", fallback=False)
    except (configparser.Error, UnicodeDecodeError, ValueError):
        return False  # DVC will have its own words about it
