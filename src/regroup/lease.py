"""A lock that holds between processes, containers and hosts, and that no dead owner keeps.

The lock is one small file that says who holds it. Making it is a hard link of a file already written, which
is atomic on local disks and on NFS; no `flock`, no lock server. Whether the owner lives is decided so:

- A process of this kernel and PID namespace: by /proc. A zombie is dead, and so is an owner whose PID belongs
  to a process that started at another time. However long it is silent, a living one is never robbed.
- Any other (another host, another container): by its heartbeat. The owner touches the file every few seconds;
  one that was not touched for `stale_after` seconds is dead. Both times are the file system's, so that the
  clocks of hosts need not agree.

Removing a lease takes a lease of its own, named after the one to be removed: two that find the same dead
owner never remove each other's.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from regroup.errors import RegroupError, os_words
from regroup.owner import Owner, parse_owner

STALE_AFTER = 180.0
"""Seconds; more than the minute for which an NFS client may show old times."""
BEAT = 10.0
"""Seconds between two touches, if `stale_after` is not shorter than six of them."""
STALE_VARIABLE = "REGROUP_STALE_AFTER"
_POLL = 0.25
_SAY_AGAIN = 600.0
_TRIES = 1000
_LEFT = re.compile(r"^\..*\.[0-9a-f]{16}\.(?:tmp|end)$")
_LEFT_SECONDS = 24 * 3600
_NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}


class LeaseBusyError(RegroupError):
    """A living owner holds it."""


class LeaseLostError(RegroupError):
    """This process was taken for dead (it was silent for too long), and another has the lease now."""


@dataclass
class Lease:
    """A lease that this process holds, kept fresh by a thread until it is released."""

    path: Path
    owner: Owner
    beat: float = BEAT

    def __post_init__(self) -> None:
        """Start the heartbeat."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name=f"lease {self.path.name}", daemon=True)
        self._thread.start()

    def confirm(self) -> None:
        """Make sure that it is still this process's, before something is done that cannot be undone.

        Raises:
            LeaseLostError: another process has it, or the file was removed.
        """
        if (now := _read(self.path)) is None or now.token != self.owner.token:
            whom = f"{now} has it" if now else "the file is gone"
            raise LeaseLostError(f"{self.path}: this process was taken for dead, and {whom}; start again")

    def release(self) -> None:
        """Give it back; nothing happens if it was lost, or in a child that was forked meanwhile."""
        if os.getpid() != self.owner.pid:
            return
        self._stop.set()
        self._thread.join()
        try:
            _remove(self.path, self.owner, self.beat * 6)
        except OSError:  # a full disk has no room for the lease on the removal, and must not keep this one
            with suppress(OSError, LeaseLostError):
                self.confirm()
                self.path.unlink()

    def _keep_fresh(self) -> None:
        while not self._stop.wait(self.beat):
            with suppress(OSError):  # a file system that is away for a moment
                if not _touch(self.path, self.owner.token):
                    return


@contextmanager
def acquire(
    path: Path,
    *,
    wait: float | None = None,
    stale_after: float | None = None,
    say: Callable[[str], None] | None = None,
) -> Iterator[Lease]:
    """Hold the lease at `path` for the block; its folder is made.

    Args:
        path: the file that is the lease; nothing else is kept in it.
        wait: seconds to wait for a living owner; None: until it is done. A dead owner's is taken at once.
        stale_after: seconds of silence after which an owner on another host or in another container is dead.
            None: the environment's REGROUP_STALE_AFTER, or 180. All who share a lease have to agree.
        say: is told whom this process waits for, at once and every ten minutes. None: standard error.

    Raises:
        LeaseBusyError: a living owner still holds it after `wait` seconds; the message says who.
        RegroupError: nothing can be written there: a full disk, a folder of another user's.
    """
    stale = stale_seconds() if stale_after is None else stale_after
    owner = Owner.here()
    end = None if wait is None else time.monotonic() + wait
    told: tuple[str, float] = ("", 0.0)
    while (other := _take_or_say(path, owner, stale)) is not None:
        now = time.monotonic()
        if end is not None and now >= end:
            raise LeaseBusyError(f"{path}: held by {other}; wait for it, or stop it, and start again")
        if told[0] != other.token or now - told[1] > _SAY_AGAIN:
            told = (other.token, now)
            (say or _to_stderr)(f"waiting for {other}, which holds {path}")
        time.sleep(_POLL)
    lease = Lease(path, owner, min(BEAT, stale / 6))
    try:
        yield lease
    finally:
        lease.release()


def holder(path: Path, *, stale_after: float | None = None) -> Owner | None:
    """Who holds the lease at `path` and lives; None if nobody does."""
    owner = _read(path)
    stale = stale_seconds() if stale_after is None else stale_after
    return owner if owner is not None and _is_alive(path, owner, stale) else None


def stale_seconds() -> float:
    """REGROUP_STALE_AFTER of the environment, in seconds, or the default.

    Raises:
        RegroupError: it is not a number from 10 to 86400.
    """
    given = os.environ.get(STALE_VARIABLE)
    if given is None:
        return STALE_AFTER
    with suppress(ValueError):
        if 10 <= float(given) <= 86400:
            return float(given)
    raise RegroupError(f"{STALE_VARIABLE}={given}: not a number of seconds from 10 to 86400")


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder of leases, a day after."""
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if _LEFT.search(path.name)]:
            with suppress(OSError):
                if abs(time.time() - path.stat().st_mtime) > _LEFT_SECONDS:
                    path.unlink()


def _take_or_say(path: Path, owner: Owner, stale: float) -> Owner | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _take(path, owner, stale)
    except OSError as error:
        raise RegroupError(f"{path}: this lock cannot be taken: {os_words(error)}") from error


def _take(path: Path, owner: Owner, stale: float) -> Owner | None:
    """Take the lease for `owner`; returns the living owner that stands in the way, or None."""
    written = path.with_name(f".{path.name[:100]}.{owner.token}.tmp")
    try:
        written.write_text(json.dumps(asdict(owner)), encoding="utf-8")
        for _ in range(_TRIES):
            with suppress(FileExistsError):
                _link(written, path)
                return None
            other = _read(path)
            if other is None:  # released in this moment
                continue
            if other.token == owner.token:  # NFS: the link was made, its answer got lost
                return None
            if _is_alive(path, other, stale) or not _remove(path, other, stale):
                return other
        raise RegroupError(f"{path}: can be neither made nor read; remove whatever is there")
    finally:
        with suppress(OSError):
            written.unlink()


def _link(written: Path, path: Path) -> None:
    try:
        os.link(written, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        with path.open("x", encoding="utf-8") as file:
            file.write(written.read_text(encoding="utf-8"))


def _remove(path: Path, owner: Owner, stale: float) -> bool:
    """Remove `owner`'s lease; False if somebody else is about to.

    Nobody removes a lease without holding the lease on its removal, so what is read in between stays true.
    """
    removal = path.with_name(f".{path.name[:100]}.{owner.token}.end")
    me = Owner.here()
    if _take(removal, me, stale) is not None:
        return False
    try:
        now = _read(path)
        if now is not None and now.token == owner.token:
            path.unlink(missing_ok=True)
    finally:
        removal.unlink(missing_ok=True)
    return True


def _is_alive(path: Path, owner: Owner, stale: float) -> bool:
    lives = owner.lives()
    if lives is not None:
        return lives
    touched, now = _times(path)
    if abs(now - touched) < stale:
        return True
    # perhaps the clock was set; a living owner touches it again
    time.sleep(1.5 * min(BEAT, stale / 6))
    return _times(path)[0] != touched


def _times(path: Path) -> tuple[float, float]:
    """When the lease was touched, and the time now, both by the clock of the file system that holds it."""
    probe = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:16]}.tmp")
    try:
        probe.touch()
        now = probe.stat().st_mtime
        # opening asks a network file system for its present state
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime, now
    except FileNotFoundError:  # released meanwhile
        return now, now
    finally:
        probe.unlink(missing_ok=True)


def _touch(path: Path, token: str) -> bool:
    """Touch the lease if it is still `token`'s; only the very file that was read."""
    try:
        with path.open("rb") as file:
            if parse_owner(file.read()).token != token:
                return False
            os.utime(file.fileno())
    except FileNotFoundError:
        return False
    return True


def _read(path: Path) -> Owner | None:
    try:
        return parse_owner(path.read_bytes())
    except FileNotFoundError:
        return None


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
