"""Kind `download`: a source's public archives, fetched, unpacked and used in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regroup.errors import RegroupError
from regroup.sources.fetch import download_folder, fetch_all, forget, only_one, read_record, remedy
from regroup.sources.layouts import is_present
from regroup.sources.makers import MAKERS
from regroup.sources.settings import SOURCES, Artefact
from regroup.sources.unpack import check_places, unpack

ARCHIVES = "archives"
"""Folder of the packed files, below a source's folder."""


def missing_artefacts(name: str, folder: Path) -> dict[str, Artefact]:
    """The artefacts of a source of which any part is not there yet, by name.

    Raises:
        RegroupError: there is no such source.
    """
    artefacts = SOURCES.load(name).artefacts
    return {
        key: artefact
        for key, artefact in artefacts.items()
        if not all(is_present(folder / part) for part in artefact.parts)
    }


def download_source(
    name: str,
    *,
    root: Path | None = None,
    url: str | None = None,
    keep_archives: bool = False,
    progress: bool = True,
) -> Path:
    """Fetch and unpack what is missing of a source; returns its folder.

    Where every part is there, nothing is fetched, and nothing written.

    Args:
        name: the source.
        root: the folder, in place of `data/downloads/<name>`.
        url: a mirror or a folder with the archives, see `fetch_all`.
        keep_archives: keep the archives once they are unpacked.
        progress: show progress bars.

    Raises:
        RegroupError: it cannot be downloaded or unpacked.
    """
    folder = download_folder(name, root)
    if missing_artefacts(name, folder):
        with only_one(folder):
            missing = missing_artefacts(name, folder)  # again: another process may have been at it
            for artefact in missing.values():
                check_places(folder, artefact.parts)
            proven = read_record(folder / ARCHIVES)
            paths = fetch_all(missing, folder / ARCHIVES, url=url, progress=progress)
            for key, artefact in missing.items():
                try:
                    _use(paths[key], artefact, folder, progress=progress)
                except RegroupError:
                    if key not in proven:
                        forget(folder / ARCHIVES, key)  # what cannot be used must not count as right
                    raise
                own = paths[key].parent == folder / ARCHIVES
                if own and not keep_archives:
                    paths[key].unlink()
    return folder


def _use(path: Path, artefact: Artefact, folder: Path, *, progress: bool) -> None:
    if artefact.unpack:
        parts = {part: place for part, place in artefact.unpack.items() if not is_present(folder / place)}
        unpack(path, folder, parts, remedy=remedy(path, folder / ARCHIVES), progress=progress)
    if artefact.made_by is not None:
        print(MAKERS.load(artefact.made_by).make(path, folder, progress=progress))


def megabytes(artefacts: Mapping[str, Artefact]) -> tuple[float, float]:
    """About how large artefacts are: to download, and unpacked; those of unknown size count as nothing."""
    packed = sum(artefact.megabytes or 0 for artefact in artefacts.values())
    unpacked = sum(artefact.unpacked_megabytes or artefact.megabytes or 0 for artefact in artefacts.values())
    return packed, unpacked
