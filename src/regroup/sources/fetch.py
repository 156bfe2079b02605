"""Artefacts into a folder: mirrors, checksums, several at once, and a record of what came."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event

import pooch
import requests
from pydantic import TypeAdapter, ValidationError

from regroup.errors import RegroupError
from regroup.io import read_json, sha256, write_json
from regroup.settings import Settings
from regroup.sources.artefacts import Artefact, HubFile
from regroup.sources.transfer import RefusedError, ResumingDownloader, raise_if_full

DOWNLOADS = Path("data/downloads")
"""Where downloads lie unless `root` says otherwise; all profiles share it, and no run removes it."""

RECORD = "downloads.json"
"""What came: written after each download, and what a later download has to equal."""

AT_ONCE = 3
"""Transfers at a time: enough to fill a line, few enough for public servers."""


class Came(Settings):
    """One artefact as it came."""

    file: str
    url: str
    bytes: int
    sha256: str


_RECORD = TypeAdapter(dict[str, Came])


def download_folder(name: str, root: Path | None) -> Path:
    """The folder that the data of `name` is downloaded to, or already lies in."""
    return root.expanduser() if root is not None else DOWNLOADS / name


def read_record(folder: Path) -> dict[str, Came]:
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


def write_record(folder: Path, came: Mapping[str, Came]) -> None:
    """Write `downloads.json`."""
    write_json(folder / RECORD, {name: came[name].model_dump() for name in sorted(came)})


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
    for stray in folder.glob("tmp*"):  # pooch's, from a run that was killed; `only_one` is at work here
        if stray.stat().st_size == 0:
            stray.unlink()
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
    earlier: Came | None,
    *,
    url: str | None,
    stop: Event,
    progress: bool,
) -> tuple[Path, Came]:
    checksum = artefact.checksum or (f"sha256:{earlier.sha256}" if earlier else None)
    if url is not None and "://" not in url:
        path = Path(url).expanduser() / artefact.file
        if not path.is_file():
            raise RegroupError(f"{path}: no such file; `url` names a folder that should hold it")
        _check(path, checksum)
        return path, _came(artefact, path, str(path), earlier)
    problems = []
    for address in _addresses(artefact, url):
        try:
            path = _fetch_from(address, artefact, folder, checksum, stop, progress)
        except (RefusedError, requests.RequestException, _HubError) as error:
            problems.append(f"  {address}: {error}")
        except ValueError as error:  # of pooch: another checksum; the file is gone
            problems.append(f"  {address}: {str(error).partition('Deleted')[0].strip()}")
        except OSError as error:
            raise_if_full(error, folder / artefact.file)
            raise
        else:
            return path, _came(artefact, path, address, earlier)
    remembered = f" (the first download, in {folder / RECORD}, counts as right)" if earlier else ""
    raise RegroupError(
        f"{name}: cannot be downloaded{remembered}:\n" + "\n".join(problems) + "\n"
        f"  give a mirror or a folder that has {artefact.file} as `url`, or your own data as `root`"
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
    if artefact.hub is not None and address.startswith("hub:"):
        return _fetch_from_hub(artefact.hub, folder / artefact.file, checksum)
    pooch.get_logger().setLevel(logging.WARNING)
    part = folder / f"{artefact.file}.part"
    downloader = ResumingDownloader(part, checked=checksum is not None, stop=stop, progress=progress)
    retrieve = partial(pooch.retrieve, address, checksum, artefact.file, folder, downloader=downloader)
    try:
        retrieve()
    except ValueError:
        if not downloader.continued:
            raise
        retrieve()  # what was there before was wrong, and is gone: once more from the beginning
    return folder / artefact.file


class _HubError(Exception):
    """Hugging Face's hub does not give the file."""


def _fetch_from_hub(hub: HubFile, path: Path, checksum: str | None) -> Path:
    """Fetch by Hugging Face's own client, which resumes, tries again and knows mirrors (HF_ENDPOINT)."""
    if not path.is_file():
        os.environ["HF_HUB_OFFLINE"] = "0"  # stages forbid the hub to everything but this
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        folder = path.parent / f"{path.name}.hub"
        try:
            found = hf_hub_download(hub.repo, hub.path, revision=hub.revision, local_dir=folder)
        except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
            if isinstance(error, OSError):
                raise_if_full(error, path)
            raise _HubError(str(error).strip().splitlines()[0]) from None
        Path(found).replace(path)
    _check(path, checksum)
    return path


def _check(path: Path, checksum: str | None) -> None:
    if checksum is None:
        return
    algorithm, _, expected = checksum.partition(":")
    if (found := pooch.file_hash(str(path), algorithm)) != expected:
        raise RegroupError(
            f"{path}: its {algorithm.upper()} is {found}, not {expected}; remove the file, and it is fetched"
            " anew"
        )


def _came(artefact: Artefact, path: Path, url: str, earlier: Came | None) -> Came:
    size = path.stat().st_size
    # what the publisher's checksum has just verified needs no second pass over 20 GB
    known = earlier is not None and earlier.bytes == size and artefact.checksum is not None
    digest = earlier.sha256 if earlier and known else sha256(path)
    return Came(file=artefact.file, url=earlier.url if earlier else url, bytes=size, sha256=digest)
