"""Make a source folder: draw it, download it, or check the user's own and point at it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from regroup.errors import RegroupError
from regroup.sources.download import download_source, missing_artefacts
from regroup.sources.fetch import download_folder
from regroup.sources.layouts import present_parts
from regroup.sources.local import describe_local
from regroup.sources.manifest import (
    Manifest,
    describe,
    digests_file,
    read_manifest,
    still_describes,
    write_manifest,
)
from regroup.sources.mini.drawn import draw_dataset
from regroup.sources.settings import SourceKind, WorldParams


def make_source(
    name: str,
    kind: SourceKind,
    out: Path,
    *,
    root: Path | None = None,
    url: str | None = None,
    keep_archives: bool = False,
    world: WorldParams | None = None,
) -> Manifest:
    """Make `out/` for one dataset: `manifest.json`, and for `mini` the files beside it.

    Args:
        name: the dataset.
        kind: `mini` draws it; `local` checks `root` and uses it in place; `download` fetches what is missing.
        out: folder to make; what stood there before is replaced, whole or not at all.
        root: the user's folder, for kind `local`; for `download`, the folder to download to.
        url: for kind `download`, a mirror or a folder with the archives.
        keep_archives: for kind `download`, keep them once they are unpacked.
        world: settings of the drawn world, for kind `mini`; None for the defaults.

    Raises:
        RegroupError: the folder is not what the layout of `name` asks for, or the kind cannot be had.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        if kind == "local":
            manifest = describe_local(name, root, remembered=digests_file(out))
        elif kind == "download":
            there = download_source(name, root=root, url=url, keep_archives=keep_archives)
            manifest = describe_local(name, there, kind=kind, remembered=digests_file(out))
        else:
            draw_dataset(name, folder, world or WorldParams())
            manifest = describe(name, kind, folder, present_parts(name, folder), in_place=False)
        write_manifest(folder, manifest)
        if out.is_dir() and not out.is_symlink():
            shutil.rmtree(out)
        else:
            out.unlink(missing_ok=True)
        folder.replace(out)
    return manifest


def unchanged_source(name: str, kind: SourceKind, out: Path, *, root: Path | None) -> Manifest | None:
    """The manifest in `out`, if the folder used in place is still what it says; None: make the source.

    Of a download that is not on this machine at all the manifest is kept as well: its results may have been
    pulled, and what they were made from need not be. A stage that has to read it says that it is not there.
    """
    if kind == "mini":
        return None
    try:
        manifest = read_manifest(out)
    except RegroupError:
        return None
    folder = download_folder(name, root) if kind == "download" else (root or Path()).expanduser().absolute()
    if (manifest.source, manifest.kind, manifest.root) != (name, kind, str(folder)):
        return None
    if kind == "download":
        if not folder.exists():
            return manifest
        if missing_artefacts(name, folder):
            return None
    return manifest if folder.is_dir() and still_describes(manifest, folder, out) else None
