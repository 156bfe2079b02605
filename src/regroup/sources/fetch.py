"""Artefacts into a folder: mirrors, checksums, several at once, and a record of what came."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from threading import Event

import requests
from pydantic import TypeAdapter, ValidationError

from regroup.errors import RegroupError
from regroup.io import read_json, sha256, write_json
from regroup.settings import Settings
from regroup.sources.artefacts import Artefact, HubFile
from regroup.sources.content import why_not
from regroup.sources.transfer import RefusedError, ResumingDownloader, raise_if_full

DOWNLOADS = Path("data/downloads")
"""Where downloads lie unless `root` says otherwise; all profiles share it, and no run removes it."""

RECORD = "downloads.json"
"""What came: written after each download, and what a later download has to equal."""

AT_ONCE = 3
"""Transfers at a time: enough to fill a line, few enough for public servers."""

_MARGIN = 64e6  # bytes beyond twice its known size that a file may still have: sizes are known "about"


class FetchedArtefact(Settings):
    """One artefact as it came."""

    file: str
    url: str
    bytes: int
    sha256: str


_RECORD = TypeAdapter(dict[str, FetchedArtefact])


def download_folder(name: str, root: Path | None) -> Path:
    """The folder that the data of `name` is downloaded to, or already lies in."""
    return root.expanduser() if root is not None else DOWNLOADS / name


def read_record(folder: Path) -> dict[str, FetchedArtefact]:
    """What `downloads.json` of a folder says came, by artefact; empty where there is none.

    Raises:
        RegroupError: the file is not such a record.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        return _RECORD.validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RegroupError(f"{path}: {key}: {first['msg']}; restore the file or remove it") from None


def write_record(folder: Path, came: Mapping[str, FetchedArtefact]) -> None:
    """Write `downloads.json`."""
    write_json(folder / RECORD, {name: came[name].model_dump() for name in sorted(came)})


def forget(folder: Path, name: str) -> None:
    """Take back that an artefact came: it proved to be another when it was used."""
    write_record(folder, {key: came for key, came in read_record(folder).items() if key != name})


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one process at a time work on a folder of downloads; others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch_all(
    artefacts: Mapping[str, Artefact], folder: Path, *, url: str | None = None, progress: bool = False
) -> dict[str, Path]:
    """Fetch artefacts into `folder`, several at once; those that are there and right are not fetched again.

    One call at a time may work on a folder, see `only_one`.

    The first failure ends the other transfers; what has come of each is kept as `<file>.part`.

    Args:
        artefacts: by name.
        folder: gets the files and `downloads.json`.
        url: a mirror that has all of them by their file names, instead of the published addresses; or a
            folder that has them, where they are read in place.
        progress: show a progress bar a file.

    Returns:
        The path of each file.

    Raises:
        RegroupError: no address of a file gives it, or the right one; or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record, stop = read_record(folder), Event()
    paths: dict[str, Path] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {
            pool.submit(
                _fetch, name, artefact, folder, record.get(name), url=url, stop=stop, progress=progress
            ): name
            for name, artefact in artefacts.items()
        }
        try:
            for done in as_completed(running):
                name = running[done]
                paths[name], came = done.result()
                if record.get(name) != came:
                    record[name] = came
                    write_record(folder, record)
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return {name: paths[name] for name in artefacts}


def _fetch(
    name: str,
    artefact: Artefact,
    folder: Path,
    earlier: FetchedArtefact | None,
    *,
    url: str | None,
    stop: Event,
    progress: bool,
) -> tuple[Path, FetchedArtefact]:
    of = name, artefact, folder, earlier
    checksum = artefact.checksum or (f"sha256:{earlier.sha256}" if earlier else None)
    if url is not None and (given := url.removeprefix("file://")) and "://" not in given:
        path = Path(given).expanduser() / artefact.file
        if not path.is_file():
            raise RegroupError(f"{path}: no such file; `url` names a folder that should hold it")
        try:
            _prove(path, artefact, checksum)
        except _WrongError as error:
            raise RegroupError(f"{path}: {error}; {remedy(path, folder)}{_remembered(*of)}") from None
        return path, _fetched(artefact, path, str(path), earlier)
    problems = []
    for address in _addresses(artefact, url):
        try:
            path = _fetch_from(address, artefact, folder, checksum, stop, progress)
        except (RefusedError, requests.RequestException, _HubError, _WrongError) as error:
            problems.append(f"  {address}: {error}")
        except OSError as error:
            raise_if_full(error, folder / artefact.file)
            raise RegroupError(f"{folder / artefact.file}: cannot be written ({error.strerror})") from None
        else:
            return path, _fetched(artefact, path, address, earlier)
    raise RegroupError(
        f"{name}: cannot be downloaded{_remembered(*of)}:\n" + "\n".join(problems) + "\n"
        f"  give a mirror or a folder that has {artefact.file} as `url`, or your own data as `root`"
    )


def remedy(path: Path, folder: Path) -> str:
    """What to do about a wrong file at `path`, given the folder that downloads go to."""
    if path.parent == folder:
        return "remove the file, and it is fetched anew"
    return "put the right file there, or set `url` to null, and it is downloaded"


def _remembered(name: str, artefact: Artefact, folder: Path, earlier: FetchedArtefact | None) -> str:
    if earlier is None or artefact.checksum is not None:
        return ""
    return (
        f" (the first download, in {folder / RECORD}, counts as right; if it was not, or the publisher has"
        f" changed the file, remove `{name}` there to accept another)"
    )


def _addresses(artefact: Artefact, url: str | None) -> list[str]:
    if url is not None:
        return [f"{url.rstrip('/')}/{artefact.file}"]
    if artefact.hub is not None:
        return [f"hub:{artefact.hub.repo}@{artefact.hub.revision}/{artefact.hub.path}"]
    return list(artefact.urls)


def _fetch_from(
    address: str, artefact: Artefact, folder: Path, checksum: str | None, stop: Event, progress: bool
) -> Path:
    path = folder / artefact.file
    if path.is_file():
        with suppress(_WrongError):  # a wrong one is replaced when the right one has come
            _prove(path, artefact, checksum)
            return path
    if artefact.hub is not None and address.startswith("hub:"):
        part = _fetch_from_hub(artefact.hub, path)
        try:
            _prove(part, artefact, checksum)
        except _WrongError:
            part.unlink()
            raise
    else:
        part = folder / f"{artefact.file}.part"
        most = inf if artefact.megabytes is None else artefact.megabytes * 2e6 + _MARGIN
        download = ResumingDownloader(
            part, checked=checksum is not None, stop=stop, progress=progress, most=most
        )
        for again in (True, False):
            download(address)
            try:
                _prove(part, artefact, checksum)
                break
            except _WrongError:
                download.forget()
                if not (again and download.joined):  # what came in pieces is tried once as a whole
                    raise
    part.replace(path)
    return path


class _HubError(Exception):
    """Hugging Face's hub does not give the file."""


class _WrongError(Exception):
    """A file is not the one that it should be."""


def _fetch_from_hub(hub: HubFile, path: Path) -> Path:
    """Fetch by Hugging Face's own client, which resumes, tries again and knows mirrors (HF_ENDPOINT)."""
    os.environ["HF_HUB_OFFLINE"] = "0"  # stages forbid the hub to everything but this
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    folder = path.parent / f"{path.name}.hub"
    try:
        return Path(hf_hub_download(hub.repo, hub.path, revision=hub.revision, local_dir=folder))
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        if isinstance(error, OSError):
            raise_if_full(error, path)
        raise _HubError(str(error).strip().splitlines()[0]) from None


def _prove(path: Path, artefact: Artefact, checksum: str | None) -> None:
    """Check a file against its checksum; where none is published, look at what is in it, too."""
    if checksum is not None:
        algorithm, _, expected = checksum.partition(":")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != expected:
            raise _WrongError(
                f"{algorithm.upper()} hash of the file is another: expected {checksum} but got"
                f" {algorithm}:{found}"
            )
    if artefact.checksum is None and (reason := why_not(path, artefact.file)) is not None:
        raise _WrongError(f"{artefact.file} {reason}")


def _fetched(artefact: Artefact, path: Path, url: str, earlier: FetchedArtefact | None) -> FetchedArtefact:
    size = path.stat().st_size
    # what the publisher's checksum has just verified needs no second pass over 20 GB
    known = earlier is not None and earlier.bytes == size and artefact.checksum is not None
    digest = earlier.sha256 if earlier and known else sha256(path)
    return FetchedArtefact(file=artefact.file, url=earlier.url if earlier else url, bytes=size, sha256=digest)
