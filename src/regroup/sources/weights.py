"""Published weights as files of the stage `weights`."""

from __future__ import annotations

import shutil
from pathlib import Path

from regroup.errors import RegroupError
from regroup.io import atomic_path
from regroup.sources.artefacts import load_catalogue
from regroup.sources.fetch import download_folder, fetch_all, only_one, read_record, write_record
from regroup.sources.settings import Artefact, WeightsParams


def find_weights(names: tuple[str, ...]) -> dict[str, Artefact]:
    """Artefacts by name.

    Raises:
        RegroupError: there is no such artefact.
    """
    known = load_catalogue().artefacts
    if unknown := [name for name in names if name not in known]:
        raise RegroupError(f"weights.artefacts: no weights {unknown[0]!r}; known: {', '.join(known)}")
    return {name: known[name] for name in names}


def fetch_weights(params: WeightsParams, out: Path, *, progress: bool = True) -> dict[str, Path]:
    """Make `out/`: the files, and `downloads.json` with what came from where.

    They are fetched to `root` (`data/downloads/weights`), where a cut transfer goes on later, and copied: a
    checkpoint must not change with a folder that others may write to.

    Returns:
        The path of each file below `out`, by artefact.

    Raises:
        RegroupError: an unknown name, or a file cannot be downloaded.
    """
    artefacts = find_weights(params.artefacts)
    out.mkdir(parents=True, exist_ok=True)
    for stale in set(out.iterdir()) - {out / artefact.file for artefact in artefacts.values()}:
        stale.unlink()
    if not artefacts:
        write_record(out, {})
        return {}
    folder = download_folder("weights", params.root)
    with only_one(folder):
        paths = fetch_all(artefacts, folder, url=params.url, progress=progress)
        record = read_record(folder)
    for name, path in paths.items():
        with atomic_path(out / artefacts[name].file) as temporary:
            shutil.copyfile(path, temporary)
    write_record(out, {name: record[name] for name in artefacts})
    return {name: out / artefact.file for name, artefact in artefacts.items()}
