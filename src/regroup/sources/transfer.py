"""One transfer over HTTP that survives cuts, and never joins two versions of a file."""

from __future__ import annotations

import errno
import gzip
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from threading import Event

import requests
from pydantic import TypeAdapter, ValidationError
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, TooManyRedirects
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from regroup.errors import RegroupError
from regroup.io import write_json
from regroup.sources.content import SAMPLE, is_web_page

ATTEMPTS = 6
"""Failures in a row, without `_CHUNK` more bytes than ever before, after which an address is given up."""

TRIES = 1000
"""Requests for one file, however well each goes: a bad line that gives 20 MB at a time brings 20 GB."""

_TIMEOUT = (20.0, 60.0)  # seconds to connect, and without a byte
_CHUNK = 1 << 16  # a cut loses less than this
_SLOWEST = 1000.0  # bytes a second, over a minute; a line slower than that has failed
_LATER = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses that another try may not give
_LONGEST_WAIT = 30.0  # seconds


class RefusedError(Exception):
    """The server has no such file for us; trying again would not help."""


class StoppedError(Exception):
    """Another transfer failed, so this one was ended; what came is kept."""


@dataclass(frozen=True)
class _Version:
    """Which file, and which state of it, bytes are of; kept beside them as `<part>.json`.

    `total`: its size in bytes, as sent. `encoding`: how the server packed it for the way; "" if it did not.
    """

    url: str
    etag: str | None
    modified: str | None
    total: int | None
    encoding: str

    @property
    def validator(self) -> str | None:
        """What a request for the rest names, so that a server sends it only of this version (RFC 9110)."""
        weak = self.etag is None or self.etag.startswith("W/")
        return self.modified if weak else self.etag

    def differs(self, other: _Version) -> bool:
        """Whether anything that both say is not the same."""
        pairs: list[tuple[object, object]] = [(self.total, other.total)]
        if self.url == other.url:
            pairs += [(self.etag, other.etag), (self.modified, other.modified)]
        return self.encoding != other.encoding or any(a != b for a, b in pairs if a and b)


_VERSION = TypeAdapter(_Version)


class ResumingDownloader:
    """Fetches a URL into `part`, going on where an earlier transfer was cut, in this run or before.

    Bytes are appended only where the server says that they are the rest of the same version (ETag or date,
    and size), or where `checked` says that a checksum will decide in the end; then bytes of one address are
    continued from another, too. Everything else starts again from the beginning.
    """

    def __init__(
        self,
        part: Path,
        *,
        checked: bool,
        stop: Event,
        progress: bool = False,
        most: float = float("inf"),
    ) -> None:
        """Prepare a transfer into `part`; `stop` ends it at the next chunk, `most` bytes are believed."""
        self.part = part
        self._about = part.with_name(f"{part.name}.json")
        self._checked = checked
        self._stop = stop
        self._progress = progress
        self._most = most
        self.joined = False  # whether the bytes of the last call came in several pieces

    def __call__(self, url: str) -> None:
        """Fetch `url` into `part`.

        Raises:
            RefusedError: the server says that there is no such file, or that it is not for us; or it sends a
                web page, or more than can be true.
            requests.RequestException: it failed `ATTEMPTS` times in a row, or `TRIES` times in all.
            StoppedError: `stop` was set.
            RegroupError: the disk is full; what came stays and is continued later.
        """
        failures, furthest, self.joined = 0, self._size(), False
        for number in range(TRIES):
            try:
                if self._receive(url):
                    self._decode()
                    return
                problem: requests.RequestException = requests.ConnectionError(
                    f"a part ends at {self._size()} bytes"
                )
            except (InvalidSchema, InvalidURL, MissingSchema, TooManyRedirects) as error:
                raise RefusedError(str(error)) from None
            except requests.RequestException as error:
                problem = error
            except HTTPError as error:  # the line broke in the middle
                problem = requests.ConnectionError(str(error))
            # progress is what no try had before: one that starts again and again does not count
            failures = 1 if self._size() >= furthest + _CHUNK else failures + 1
            furthest = max(furthest, self._size())
            if failures >= ATTEMPTS or number == TRIES - 1:
                raise problem
            if self._stop.wait(min(2.0 ** (failures - 1), _LONGEST_WAIT)):
                raise StoppedError
        raise AssertionError("the loop returns or raises")

    def forget(self) -> None:
        """Remove what came, and what is known of it."""
        self.part.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    def _receive(self, url: str) -> bool:
        """One request; whether all of the file is there then."""
        have, known = self._size(), self._known()
        validator = known.validator if known is not None and known.url == url else None
        headers = {"Accept-Encoding": "identity"}
        if have and (validator or self._checked):
            headers["Range"] = f"bytes={have}-"
            if validator:
                headers["If-Range"] = validator
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable and have:
                whole = response.headers.get("Content-Range") == f"bytes */{have}"
                if whole and (self._checked or (known is not None and known.total == have)):
                    return True  # all of it had come
                self._start_again("the server has another file than the one that had come")
            if response.status_code in _LATER:
                raise requests.HTTPError(_status(response))
            if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
                raise RefusedError(_status(response))
            start, stop, version = self._place(url, response)
            if start and version.total is None and known is not None:
                version = replace(version, total=known.total)
            if start and (start != have or not self._same(known, version)):
                self._start_again("the file has changed since its first part came")
            self._write(response, start, stop, version)
        return self._size() == version.total if version.total is not None else True

    def _place(self, url: str, response: requests.Response) -> tuple[int, int | None, _Version]:
        """The bytes that a response has: from where, to where (None: not said), and of what."""
        length = response.headers.get("Content-Length", "")
        start, stop, total = 0, int(length) if length.isdigit() else None, None
        if response.status_code == requests.codes.partial_content:
            place = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
            first, last = (int(place[1]), int(place[2])) if place else (-1, -1)
            size = int(place[3]) if place and place[3] != "*" else None
            wrong = first < 0 or last < first or (size is not None and last >= size)
            if wrong or first not in (0, self._size()) or stop not in (None, last + 1 - first):
                self._start_again("the server sent another range than the one asked for")
            start, stop, total = first, last + 1, size
        else:
            total = stop
        encoding = response.headers.get("Content-Encoding", "").strip().lower().replace("x-gzip", "gzip")
        encoding = encoding.replace("identity", "")
        if encoding not in ("", "gzip"):
            raise RefusedError(f"the server sends the file packed as {encoding}, which it was asked not to")
        if max(total or 0, stop or 0) > self._most:
            raise RefusedError(
                f"the server has {max(total or 0, stop or 0) / 1e9:,.2f} GB; the file has far less"
            )
        headers = response.headers
        return start, stop, _Version(url, headers.get("ETag"), headers.get("Last-Modified"), total, encoding)

    def _same(self, known: _Version | None, version: _Version) -> bool:
        """Whether bytes of `version` may follow those of `known`."""
        if known is None:
            return self._checked
        if known.differs(version):
            return False
        said = known.url == version.url and known.validator and known.validator == version.validator
        return self._checked or bool(said)  # a server that does not say it again does not vouch for it

    def _start_again(self, reason: str) -> None:
        self.forget()
        raise requests.ConnectionError(f"{reason}; starting again")

    def _write(self, response: requests.Response, start: int, stop: int | None, version: _Version) -> None:
        check_room(self.part, (version.total or stop or start) - start)
        chunks, first = _chunks(response), b""
        while len(first) < SAMPLE and (chunk := next(chunks, b"")):
            first += chunk
        if not start and not version.encoding and is_web_page(first):
            raise RefusedError("the server sent a web page: to log in, or about an error?")
        if not start:
            self.forget()  # before the file says what its bytes are of, they have to be gone
        self.joined |= start > 0
        write_json(self._about, _VERSION.dump_python(version))
        bar = tqdm(
            desc=self.part.name.removesuffix(".part"),
            total=version.total,
            initial=start,
            unit="B",
            unit_scale=True,
            disable=not self._progress,
        )
        place = start
        try:
            with bar, self.part.open("ab" if start else "wb") as file:
                for chunk in chain([first], chunks):
                    place += len(chunk)
                    if place > min(self._most, stop if stop is not None else self._most):
                        break
                    file.write(chunk)
                    bar.update(len(chunk))
                    if self._stop.is_set():
                        raise StoppedError
        except OSError as error:
            raise_if_full(error, self.part)
            raise
        if place > self._most:
            self.forget()
            raise RefusedError(f"the server sent more than {self._most / 1e9:,.2f} GB; the file has far less")
        if stop is not None and place != stop:
            raise requests.ConnectionError(f"cut after {self._size()} of {version.total or stop} bytes")

    def _decode(self) -> None:
        """Unpack what the server packed for the way, unless the file itself is of that kind."""
        known = self._known()
        self._about.unlink(missing_ok=True)
        if known is None or not known.encoding or self.part.name.endswith((".gz.part", ".tgz.part")):
            return
        plain = self.part.with_name(f"{self.part.name}.plain")
        try:
            with gzip.open(self.part) as packed, plain.open("wb") as file:
                while chunk := packed.read(1 << 20):
                    file.write(chunk)
                    if file.tell() > self._most:
                        raise RefusedError("what the server sent unpacks to far more than the file has")
            plain.replace(self.part)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.forget()
            raise RefusedError(f"the server packed the file as gzip, and wrongly ({error})") from None
        except OSError as error:
            raise_if_full(error, self.part)
            raise
        finally:
            plain.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _known(self) -> _Version | None:
        """What the bytes that had come are of."""
        try:
            return _VERSION.validate_json(self._about.read_bytes())
        except (OSError, ValidationError):
            return None


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes over the line, whatever its encoding; ends a line that only trickles."""
    since, count = time.monotonic(), 0
    read: Callable[..., bytes] = response.raw.read1
    while chunk := read(_CHUNK, decode_content=False):
        yield chunk
        count += len(chunk)
        if (passed := time.monotonic() - since) > _TIMEOUT[1]:
            if count < _SLOWEST * passed:
                raise requests.ConnectionError(f"only {count / passed:.0f} bytes a second came")
            since, count = time.monotonic(), 0


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


def _status(response: requests.Response) -> str:
    return f"HTTP {response.status_code} {response.reason}"
