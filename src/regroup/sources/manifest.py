"""`manifest.json`: what a source folder holds and where the archive's own layout starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from regroup.errors import RegroupError
from regroup.io import read_json, write_bytes, write_json
from regroup.sources.layouts import present_parts
from regroup.sources.listing import FileDigests, list_entries
from regroup.sources.settings import SourceKind

MANIFEST = "manifest.json"


class Manifest(BaseModel):
    """A source as `manifest.json` records it.

    Attributes:
        root: "." where the files lie beside the manifest, else the absolute folder that is used in place.
        parts: the folders and files of the archive that are present, relative to the root.
        files: number of files in `parts`; `bytes`: their total size.
        digest: SHA-256 over every file's relative path and content, in the order of the paths.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    kind: SourceKind
    root: str
    parts: tuple[str, ...]
    files: int
    bytes: int
    digest: str


def list_files(root: Path, parts: Iterable[str]) -> list[Path]:
    """Files of the parts (folders are walked), sorted by path; hidden files do not count."""
    return [root / entry.path for entry in list_entries(root, parts)]


def describe(
    source: str,
    kind: SourceKind,
    root: Path,
    parts: Iterable[str],
    *,
    in_place: bool,
    remembered: Path | None = None,
) -> Manifest:
    """Count and sum up the parts of a source under `root`.

    Args:
        source: the source.
        kind: where it comes from.
        root: the folder with the archive's own layout.
        parts: its folders and files.
        in_place: the files stay where they are, and the manifest names the folder.
        remembered: file for what is known of the files' contents, see `FileDigests`; None reads them all.

    Raises:
        RegroupError: a file or folder cannot be read.
    """
    parts = tuple(sorted(parts))
    entries = list_entries(root, parts)
    total = hashlib.sha256()
    for entry, digest in zip(entries, FileDigests(root, remembered).of(entries), strict=True):
        total.update(f"{entry.path}\0{digest}\n".encode(errors="surrogateescape"))
    return Manifest(
        source=source,
        kind=kind,
        root=str(root) if in_place else ".",
        parts=parts,
        files=len(entries),
        bytes=sum(entry.size for entry in entries),
        digest=total.hexdigest(),
    )


def digests_file(raw_dir: Path) -> Path:
    """What is known of the files that the manifest in `raw_dir` describes: beside it, and no output."""
    return raw_dir.with_name(f".{raw_dir.name}.digests")


def write_manifest(raw_dir: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into `raw_dir`."""
    write_json(raw_dir / MANIFEST, manifest.model_dump(mode="json"))


def copy_manifest(raw_dir: Path, file: Path) -> None:
    """Lay a copy of the manifest of `raw_dir` where it can be read without the files around it.

    A copy that says the same already is not touched.
    """
    content = (raw_dir / MANIFEST).read_bytes()
    if not file.is_file() or file.read_bytes() != content:
        write_bytes(file, content)


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

    A folder that is used in place lies outside DVC's sight, so it is compared with its manifest. What lies
    beside the manifest is DVC's own output.

    Raises:
        RegroupError: no manifest, or the folder that it names has gone or changed since.
    """
    manifest = read_manifest(raw_dir)
    if manifest.root == ".":
        return raw_dir
    root = Path(manifest.root)
    if not root.is_dir():
        raise RegroupError(
            f"{raw_dir / MANIFEST}: root: no such folder {root}; set sources.{manifest.source}.root to where"
            " the data is now and make the source again"
        )
    if not still_describes(manifest, root, raw_dir):
        raise RegroupError(
            f"{root} has changed since {raw_dir / MANIFEST} was written; make the source again: "
            f"`dvc repro` of the profile, or its stage source@{manifest.source}, sees what has changed"
        )
    return root


def still_describes(manifest: Manifest, root: Path, raw_dir: Path) -> bool:
    """Whether the folder `root` holds what the manifest in `raw_dir` says of it."""
    parts = present_parts(manifest.source, root)
    known = digests_file(raw_dir)
    now = describe(manifest.source, manifest.kind, root, parts, in_place=True, remembered=known)
    return now == manifest
