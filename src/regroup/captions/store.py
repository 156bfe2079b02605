"""Bytes of samples, by shard, offset and size: from local shards, or from shards behind a URL."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Protocol

from regroup.errors import RegroupError
from regroup.io import atomic_path

_ATTEMPTS = 4
_TIMEOUT = 60.0  # seconds without a byte


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
    the SHA-256 of the index before it is read.
    """

    def __init__(self, url: str, cache: Path, digests: dict[str, str], keep: int) -> None:
        """Read `url`/<shard> through `cache`; `digests` maps shard names to SHA-256."""
        self._url = url.rstrip("/")
        self._cache = cache
        self._digests = digests
        self._keep = keep
        self._local = LocalShards(cache, open_files=max(1, keep // 2))

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """At most `size` bytes of `shard` from `offset`."""
        path = self._cache / shard
        for _ in range(_ATTEMPTS):
            if not path.is_file() and not self._local.holds(shard):
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
        with (self._cache / f".{shard}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one process fetches, the others wait
            if not path.is_file():
                fetch(f"{self._url}/{shard}", path, self._digests[shard])
                self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        # Files that another process has open can still be read by it after they are unlinked.
        shards = sorted(self._cache.glob("*.tar"), key=lambda path: path.stat().st_mtime_ns)
        for path in shards[: max(0, len(shards) - self._keep)]:
            if path != newest:
                path.unlink(missing_ok=True)


def fetch(url: str, path: Path, digest: str | None = None) -> None:
    """Download `url` to `path`, atomically; a failure is tried again after 1, 2 and 4 seconds.

    http, https and file are read by Python itself, other schemes (s3, gs, ...) by fsspec and its drivers.

    Raises:
        RegroupError: it cannot be fetched, or its SHA-256 is not `digest`.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(2.0 ** (attempt - 1))
        try:
            with atomic_path(path) as temporary:
                with closing(_open_url(url)) as source, temporary.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                with temporary.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                if digest is not None and found != digest:
                    raise OSError(f"its SHA-256 is {found}, the index says {digest}")
            return
        except urllib.error.HTTPError as error:
            error.close()
            problem = str(error)
        except OSError as error:
            problem = str(error)
    raise RegroupError(f"{url}: cannot be fetched: {problem}")


def _open_url(url: str) -> BinaryIO:
    if url.split("://", 1)[0] in ("http", "https", "file"):
        response: BinaryIO = urllib.request.urlopen(url, timeout=_TIMEOUT)
        return response
    import fsspec  # type: ignore[import-untyped]  # only here: its drivers start threads, which workers must not inherit

    opened: BinaryIO = fsspec.open(url, "rb").open()
    return opened
