"""One transfer over HTTP that survives cuts: the downloader that pooch is given."""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path
from threading import Event
from typing import Any

import requests
from tqdm import tqdm

from regroup.errors import RegroupError
from regroup.io import write_json

ATTEMPTS = 6
"""Failures in a row, without a byte between them, after which an address is given up."""

_TIMEOUT = (20.0, 60.0)  # seconds to connect, and without a byte
_CHUNK = 1 << 16  # a cut loses the chunk that it falls into
_LATER = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses that another try may not give
_LONGEST_WAIT = 30.0  # seconds


class RefusedError(Exception):
    """The server has no such file for us; trying again would not help."""


class StoppedError(Exception):
    """Another transfer failed, so this one was ended; what came is kept."""


class ResumingDownloader:
    """Fetches a URL into `part`, going on where an earlier transfer was cut, in this run or before.

    Beside `part` lies `<part>.json` with the address and the version (ETag or date) that the bytes are of: a
    file that has changed since is fetched from its beginning. With `checked` a checksum will decide in the
    end, so that bytes of one address are continued from another. Called by pooch as `downloader(url,
    output_file, pooch)`.
    """

    def __init__(self, part: Path, *, checked: bool, stop: Event, progress: bool = False) -> None:
        """Prepare a transfer into `part`; `stop` ends it at the next chunk."""
        self.part = part
        self._about = part.with_name(f"{part.name}.json")
        self._checked = checked
        self._stop = stop
        self._progress = progress
        self.continued = False  # whether earlier bytes were there when the last call began

    def __call__(self, url: str, output_file: str, pooch: object = None) -> None:
        """Fetch `url`, then move it to `output_file`.

        Raises:
            RefusedError: the server says that there is no such file, or that it is not for us.
            requests.RequestException: it failed `ATTEMPTS` times in a row.
            StoppedError: `stop` was set.
            RegroupError: the disk is full; what came stays and is continued later.
        """
        failures, self.continued = 0, self._size() > 0
        while True:
            before = self._size()
            try:
                self._receive(url)
                break
            except requests.RequestException:
                failures = 1 if self._size() > before else failures + 1
                if failures >= ATTEMPTS:
                    raise
            if self._stop.wait(min(2.0 ** (failures - 1), _LONGEST_WAIT)):
                raise StoppedError
        self.part.replace(output_file)
        self._about.unlink(missing_ok=True)

    def _receive(self, url: str) -> None:
        have, headers = self._size(), {"Accept-Encoding": "identity"}
        validator = self._validator(url)
        if have and (validator or self._checked):
            headers["Range"] = f"bytes={have}-"
            if validator:
                headers["If-Range"] = validator
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable and have:
                if response.headers.get("Content-Range") == f"bytes */{have}":
                    return  # all of it had come
                self.part.unlink()
                raise requests.ConnectionError("the server has fewer bytes than had come; starting again")
            if response.status_code in _LATER:
                raise requests.HTTPError(_status(response))
            if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
                raise RefusedError(_status(response))
            place = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            continued = response.status_code == requests.codes.partial_content
            if continued and (place is None or int(place[1]) != have):
                self.part.unlink(missing_ok=True)
                raise requests.ConnectionError("the server sent another range; starting again")
            self._write(url, response, have if continued else 0)

    def _write(self, url: str, response: requests.Response, start: int) -> None:
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        check_room(self.part, (total or start) - start)
        write_json(self._about, {"url": url, "validator": _version(response)})
        bar = tqdm(
            desc=self.part.name.removesuffix(".part"),
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            disable=not self._progress,
        )
        try:
            with bar, self.part.open("ab" if start else "wb") as file:
                for chunk in response.iter_content(_CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
                    if self._stop.is_set():
                        raise StoppedError
        except OSError as error:
            raise_if_full(error, self.part)
            raise
        if total is not None and self._size() != total:
            raise requests.ConnectionError(f"cut after {self._size()} of {total} bytes")

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _validator(self, url: str) -> str | None:
        """The version of the bytes that had come, if they are from this address."""
        try:
            about: dict[str, Any] = json.loads(self._about.read_text())
            return str(about["validator"] or "") or None if about["url"] == url else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def check_room(path: Path, needed: int) -> None:
    """Check that `needed` more bytes fit on the disk of `path`.

    Raises:
        RegroupError: they do not.
    """
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise RegroupError(
            f"{path}: needs {needed / 1e9:,.2f} GB more, and {free / 1e9:,.2f} GB are free; make room, or set"
            " `root` to a folder on a larger disk. What has come is kept and continued"
        )


def raise_if_full(error: OSError, path: Path) -> None:
    """Turn "no space left" into an error that says what to do; any other is left alone."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise RegroupError(
            f"{path}: the disk is full; make room, or set `root` to a folder on a larger disk, and run again."
            " What has been downloaded is kept and continued"
        ) from None


def _version(response: requests.Response) -> str | None:
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _status(response: requests.Response) -> str:
    return f"HTTP {response.status_code} {response.reason}"
