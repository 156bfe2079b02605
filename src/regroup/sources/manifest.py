"""`manifest.json`: what a source folder holds and where the archive's own layout starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from regroup.errors import RegroupError
from regroup.io import read_json, sha256, write_json
from regroup.sources.settings import SourceKind, SourceName

MANIFEST = "manifest.json"


class Manifest(BaseModel):
    """A source as `manifest.json` records it.

    Attributes:
        root: "." where the files lie beside the manifest, else the absolute folder that is used in place.
        parts: the folders and files of the archive that are present, relative to the root.
        files: number of files in `parts`; `bytes`: their total size.
        digest: SHA-256 over every file's relative path and content, see `digest`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: SourceName
    kind: SourceKind
    root: str
    parts: tuple[str, ...]
    files: int
    bytes: int
    digest: str


def list_files(root: Path, parts: Iterable[str]) -> list[Path]:
    """Files of the parts (folders are walked), sorted by path; hidden files do not count."""
    found: set[Path] = set()
    for part in parts:
        path = root / part
        if path.is_dir():
            found.update(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        elif path.is_file():
            found.add(path)
    return sorted(found)


def digest(root: Path, files: Iterable[Path], *, images: bool) -> str:
    """SHA-256 over the sorted files' relative paths and contents.

    With `images` false only annotation texts (.json, .txt) are read; of other files the size stands for the
    content, so that a folder of 20 GB is summed up in seconds. A picture changed in place to one of the same
    size then goes unseen.
    """
    total = hashlib.sha256()
    for path in files:
        whole = images or path.suffix in {".json", ".txt"}
        content = sha256(path) if whole else str(path.stat().st_size)
        total.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def describe(
    source: SourceName, kind: SourceKind, root: Path, parts: Iterable[str], *, in_place: bool
) -> Manifest:
    """Count and sum up the parts of a source under `root`."""
    parts = tuple(sorted(parts))
    files = list_files(root, parts)
    return Manifest(
        source=source,
        kind=kind,
        root=str(root) if in_place else ".",
        parts=parts,
        files=len(files),
        bytes=sum(path.stat().st_size for path in files),
        digest=digest(root, files, images=not in_place),
    )


def write_manifest(raw_dir: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into `raw_dir`."""
    write_json(raw_dir / MANIFEST, manifest.model_dump(mode="json"))


def read_manifest(raw_dir: Path) -> Manifest:
    """Read the manifest of `raw_dir`.

    Raises:
        RegroupError: there is none, or it is not a manifest.
    """
    path = raw_dir / MANIFEST
    try:
        return Manifest.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise RegroupError(f"{path}: {key}: {first['msg']}; make the source again") from None


def raw_root(raw_dir: Path) -> Path:
    """Folder with the archive's own layout, for the source whose manifest lies in `raw_dir`.

    Raises:
        RegroupError: no manifest, or the folder that it names has gone.
    """
    manifest = read_manifest(raw_dir)
    root = raw_dir if manifest.root == "." else Path(manifest.root)
    if not root.is_dir():
        raise RegroupError(
            f"{raw_dir / MANIFEST}: root: no such folder {root}; set sources.{manifest.source}.root to where"
            " the data is now and make the source again"
        )
    return root
