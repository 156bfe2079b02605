"""Bytes of samples, by shard, offset and size: from local shards, or from shards behind a URL."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa

from regroup.captions.index import INDEX, read_index
from regroup.errors import RegroupError
from regroup.io import atomic_path, read_json, sha256, write_json

REMOTE = "remote.json"
"""Beside the index of shards that are read from a URL: `{"url": ...}`."""

CACHE = Path(".state", "shards")
"""Where fetched shards lie, a folder an index, so that equal names of other shards are never mixed up."""

_ATTEMPTS = 4
_TIMEOUT = 60.0  # seconds without a byte
_MOST_INDEX = 10**10  # bytes of an index; a hundred million images have less


class ShardStore(Protocol):
    """Where shards are read from. May be used by forked processes."""

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """At most `size` bytes of `shard` from `offset`; fewer where the file ends."""


class LocalShards:
    """Shards in a folder; files stay open, the least recently used are closed."""

    def __init__(self, folder: Path, open_files: int = 128) -> None:
        """Read from `folder`."""
        self._folder = folder
        self._open_files = open_files
        self._files: OrderedDict[str, BinaryIO] = OrderedDict()

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """At most `size` bytes of `shard` from `offset`."""
        file = self._files.pop(shard, None) or self._open_shard(shard)
        self._files[shard] = file
        if len(self._files) > self._open_files:
            self._files.popitem(last=False)[1].close()
        return os.pread(file.fileno(), size, offset)

    def holds(self, shard: str) -> bool:
        """Whether `shard` is open."""
        return shard in self._files

    def close(self) -> None:
        """Close all files."""
        while self._files:
            self._files.popitem()[1].close()

    def _open_shard(self, shard: str) -> BinaryIO:
        path = self._folder / shard
        try:
            return path.open("rb", buffering=0)
        except OSError as error:
            raise RegroupError(f"{path}: cannot be read ({error.strerror}); build the shards again") from None

    def __getstate__(self) -> dict[str, object]:
        """Open files do not travel to other processes."""
        return {**self.__dict__, "_files": OrderedDict()}

    def __del__(self) -> None:
        """Files close with the store."""
        self.close()


class RemoteShards:
    """Shards behind a URL, fetched whole into a folder of this machine when first needed.

    All processes of the machine share the folder; at most `keep` shards stay in it. Each is checked against
    the SHA-256 of the index when a process first opens it, also one that an earlier run had fetched.
    """

    def __init__(self, url: str, cache: Path, index: pa.Table, keep: int) -> None:
        """Read `url`/<shard> through `cache`.

        Raises:
            RegroupError: a shard's name in `index` is not that of a file in a folder.
        """
        names = index["shard"].to_pylist()
        sizes, digests = index["shard_bytes"].to_pylist(), index["shard_sha256"].to_pylist()
        self._known = dict(zip(names, zip(sizes, digests, strict=True), strict=True))
        if bad := [name for name in self._known if Path(name).name != name or name.startswith(".")]:
            raise RegroupError(f"{url}: its {INDEX} names a shard {bad[0]!r}, which is no file name")
        self._url = url.rstrip("/")
        self._cache = cache
        self._keep = keep
        self._local = LocalShards(cache, open_files=max(1, keep // 2))

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """At most `size` bytes of `shard` from `offset`."""
        path = self._cache / shard
        for _ in range(_ATTEMPTS):
            if not self._local.holds(shard):
                self._fetch(shard, path)
            try:
                return self._local.read(shard, offset, size)
            except RegroupError:  # another process made room between the two lines
                continue
        raise RegroupError(f"{path}: removed while being read; give the reader a larger `shuffle_shards`")

    def close(self) -> None:
        """Close all files; what was fetched stays."""
        self._local.close()

    def _fetch(self, shard: str, path: Path) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        size, digest = self._known[shard]
        with (self._cache / f".{shard}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one process fetches, the others wait
            if not (path.is_file() and path.stat().st_size == size and sha256(path) == digest):
                for stale in self._cache.glob(f".{shard}.*.tmp"):  # of a process that was killed
                    stale.unlink()
                fetch(f"{self._url}/{shard}", path, digest, most=size)
                self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        # Files that another process has open can still be read by it after they are unlinked.
        shards = sorted(self._cache.glob("*.tar"), key=lambda path: path.stat().st_mtime_ns)
        for path in shards[: max(0, len(shards) - self._keep)]:
            if path != newest:
                path.unlink(missing_ok=True)


def point_at(url: str, out: Path) -> pa.Table:
    """Make `out/` stand for the shards at `url`: their index, and where they are.

    Returns:
        The index.

    Raises:
        RegroupError: there is no index, or it is none.
    """
    fetch(f"{url.rstrip('/')}/{INDEX}", out / INDEX, most=_MOST_INDEX)
    try:
        index = read_index(out / INDEX)
    except RegroupError:
        (out / INDEX).unlink()
        raise
    write_json(out / REMOTE, {"url": url})
    return index


def open_store(folder: Path, index: pa.Table, *, keep: int) -> ShardStore:
    """The shards of a folder with an index, beside it or where its `remote.json` says.

    Raises:
        RegroupError: shards are missing, or `remote.json` is broken.
    """
    if (folder / REMOTE).is_file():
        return RemoteShards(remote_url(folder), CACHE / sha256(folder / INDEX)[:16], index, keep)
    missing = [name for name in index["shard"].unique().to_pylist() if not (folder / name).is_file()]
    if missing:
        raise RegroupError(f"{folder}: {len(missing)} shards of its index are missing, such as {missing[0]}")
    return LocalShards(folder)


def remote_url(folder: Path) -> str:
    """Where the shards of a folder are that has a `remote.json`."""
    about = read_json(folder / REMOTE)
    url = about.get("url") if isinstance(about, dict) else None
    if not isinstance(url, str):
        raise RegroupError(f"{folder / REMOTE}: url: expected an address; run the stage `shards` again")
    return url


def fetch(url: str, path: Path, digest: str | None = None, *, most: int) -> None:
    """Download `url` to `path`, atomically; a failure is tried again after 1, 2 and 4 seconds.

    http, https and file are read by Python itself, other schemes (s3, gs, ...) by fsspec and its drivers.

    Raises:
        RegroupError: it cannot be fetched, has more than `most` bytes, or its SHA-256 is not `digest`.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(2.0 ** (attempt - 1))
        try:
            with atomic_path(path) as temporary:
                found = _copy(url, temporary, most)
                if digest is not None and found != digest:
                    raise OSError(f"its SHA-256 is {found}, the index says {digest}")
            return
        except urllib.error.HTTPError as error:
            error.close()
            problem = str(error)
        except (ImportError, ValueError) as error:  # no such scheme, or its driver is not installed
            raise RegroupError(f"{url}: cannot be fetched: {error}") from None
        except (OSError, HTTPException) as error:
            problem = str(error) or type(error).__name__
        except Exception as error:
            if url.split("://", 1)[0] in _OWN_SCHEMES:
                raise
            problem = f"{type(error).__name__}: {error}"  # a driver's own; botocore's are no OSErrors
    raise RegroupError(f"{url}: cannot be fetched: {problem}")


_OWN_SCHEMES = ("http", "https", "file")


def _copy(url: str, target: Path, most: int) -> str:
    """Copy at most `most` bytes of `url` to a file; their SHA-256."""
    found, size = hashlib.sha256(), 0
    with closing(_open_url(url)) as source, target.open("wb") as file:
        while chunk := source.read(1 << 20):
            size += len(chunk)
            if size > most:
                raise OSError(f"more than the {most:,} bytes that it can have")
            file.write(chunk)
            found.update(chunk)
    return found.hexdigest()


def _open_url(url: str) -> BinaryIO:
    if url.split("://", 1)[0] in _OWN_SCHEMES:
        response: BinaryIO = urllib.request.urlopen(url, timeout=_TIMEOUT)
        return response
    import fsspec  # only here: its drivers start threads, which workers must not inherit

    opened: BinaryIO = fsspec.open(url, "rb").open()
    return opened
