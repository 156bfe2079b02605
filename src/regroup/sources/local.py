"""Kinds that use a folder in place, the user's own or a download's: checked, described, never written to."""

from __future__ import annotations

from pathlib import Path

from regroup.errors import RegroupError
from regroup.sources.layouts import present_parts
from regroup.sources.manifest import Manifest, describe
from regroup.sources.settings import SOURCES, SourceKind


def find_local(name: str, root: Path | None, *, kind: SourceKind = "local") -> tuple[Path, tuple[str, ...]]:
    """The folder that holds the unpacked archive of `name`, and the parts of it that are there.

    The path of a `local` folder is absolute; a download's may lie below the project, wherever that is.

    Raises:
        RegroupError: no root is set, it is no folder, or parts that are needed are missing or empty.
    """
    key, layout = f"sources.{name}.root", SOURCES.load(name)
    if root is None:
        first = (*layout.required, *layout.any_of)[0]
        raise RegroupError(f"{key}: not set; kind `local` needs the folder that holds {first}")
    folder = root.expanduser().absolute() if kind == "local" else root.expanduser()
    if not folder.is_dir():
        raise RegroupError(
            f"{key}: no such folder {folder}; give the folder into which the archive was unpacked"
        )
    parts = present_parts(name, folder)
    missing = [part for part in layout.required if part not in parts]
    if layout.any_of and not set(layout.any_of) & set(parts):
        missing.append(" or ".join(layout.any_of))
    if missing:
        raise RegroupError(
            f"{key}: {folder} has no {', '.join(missing)} (missing or empty); give the folder into which the"
            " archive was unpacked, in its own layout"
        )
    return folder, parts


def describe_local(
    name: str, root: Path | None, *, kind: SourceKind = "local", remembered: Path | None = None
) -> Manifest:
    """Check that `root` holds the unpacked archive of `name` and describe it.

    Args:
        name: the source.
        root: the folder.
        kind: `local` or `download`.
        remembered: file that remembers what the files held when they were last read, see `FileDigests`.

    Raises:
        RegroupError: as `find_local`; or a file cannot be read.
    """
    folder, parts = find_local(name, root, kind=kind)
    return describe(name, kind, folder, parts, in_place=True, remembered=remembered)
