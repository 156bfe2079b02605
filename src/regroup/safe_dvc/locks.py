"""DVC's lock on a project (`.dvc/tmp/lock`), held for moments around every change of its state.

DVC's own is either a `flock`, which some shared file systems keep to one host, or a hard link, which stays
for a year after a kill. Here a lease decides who has the lock, on any file system; DVC's own is taken
besides, so that a DVC without this module waits as well.
"""

from __future__ import annotations

import errno
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

import dvc.lock
from dvc.lock import DEFAULT_TIMEOUT, HardlinkLock, Lock, LockBase, LockError
from dvc.log import logger

from regroup.errors import RegroupError, os_words
from regroup.lease import LeaseBusyError, acquire

NO_FLOCK = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
CLAIM = "regroup-"
FORGOTTEN = 24 * 3600
"""Seconds; DVC's own hard link names nobody, and is not held for so long."""

_logger = logger.getChild(__name__)


def install() -> None:
    """Make every lock of DVC one of these."""
    dvc.lock.make_lock = make_lock


def make_lock(
    lockfile: str,
    tmp_dir: str | None = None,
    friendly: bool = False,
    hardlink_lock: bool = False,
    wait: bool = False,
) -> SharedLock:
    """As DVC's function of this name."""
    return SharedLock(lockfile, tmp_dir=tmp_dir, hardlink_lock=hardlink_lock, wait=wait)


class SharedLock(LockBase):
    """A lock of DVC that holds between hosts and outlives no owner."""

    def __init__(self, lockfile: str, *, tmp_dir: str | None, hardlink_lock: bool, wait: bool) -> None:
        """As DVC's own; `hardlink_lock`: of DVC's two kinds, take that one besides."""
        super().__init__(lockfile)
        self._path = Path(lockfile)
        self._tmp_dir = Path(tmp_dir or self._path.parent)
        self._hardlink = hardlink_lock
        self._wait = wait
        self._held: ExitStack | None = None
        self._failed = False

    @property
    def is_locked(self) -> bool:
        """Whether this process has it."""
        return self._held is not None

    @property
    def files(self) -> list[str]:
        """As DVC's own has it."""
        return [self._lockfile]

    def lock(self) -> None:
        """Take it.

        Raises:
            LockError: a living process kept it for some seconds, and this one is not to wait; or nothing can
                be written there.
        """
        wait = None if self._wait else DEFAULT_TIMEOUT
        self._failed = True
        with ExitStack() as stack:
            lease = self._path.with_name(f"{self._path.name}.lease")
            try:
                stack.enter_context(acquire(lease, wait=wait, say=_logger.warning))
            except LeaseBusyError as error:
                raise LockError(f"{error}; --wait-for-lock waits") from None
            except RegroupError as error:
                raise LockError(str(error)) from None
            (self._link if self._hardlink else self._flock)(stack)
            self._held = stack.pop_all()
            self._failed = False

    def unlock(self) -> None:
        """Give it back; what DVC could not take again after a stage, it gives back all the same."""
        if self._failed:
            return
        assert self._held is not None, "the lock was not held"
        held, self._held = self._held, None
        held.close()

    def __enter__(self) -> None:
        """Take it for the block."""
        self.lock()

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self.unlock()

    def _flock(self, stack: ExitStack) -> None:
        inner = Lock(self._lockfile)

        def take() -> bool:
            try:
                inner._do_lock()
            except LockError as error:
                # where the file system has no flock, the lease is enough
                return _os_error(error) in NO_FLOCK
            except OSError as error:
                raise LockError(f"{self._lockfile}: {os_words(error)}") from None
            stack.callback(inner.unlock)
            return True

        self._until(take, lambda: f"process {self._path.read_text(errors='replace').strip()} of this host")

    def _link(self, stack: ExitStack) -> None:
        inner = HardlinkLock(self._lockfile, tmp_dir=str(self._tmp_dir))
        inner._claimfile = str(self._tmp_dir / f"{CLAIM}{uuid.uuid4().hex}.lock")

        def take() -> bool:
            self._drop_forgotten_link()
            try:
                inner.lock(timedelta(milliseconds=1))
            except LockError:
                return False
            except OSError as error:
                raise LockError(f"{self._lockfile}: {os_words(error)}") from None
            stack.callback(inner.unlock)
            return True

        self._until(
            take, lambda: "a process of a DVC that leaves no name; if none runs anywhere, remove the file"
        )

    def _drop_forgotten_link(self) -> None:
        """Remove a hard link whose owner is dead: one of these, as the lease is ours, or a very old one."""
        with suppress(FileNotFoundError):
            claim = Path(self._path.read_text(errors="replace").strip())
            if claim.name.startswith(CLAIM) or time.time() - self._path.stat().st_ctime > FORGOTTEN:
                self._path.unlink()
                (self._tmp_dir / claim.name).unlink(missing_ok=True)

    def _until(self, take: Callable[[], bool], whom: Callable[[], str]) -> None:
        """Try until it works; what is in the way now is a DVC that knows no leases."""
        begin = time.monotonic()
        told = False
        while not take():
            described = "another process"
            with suppress(OSError):
                described = whom()
            if not self._wait and time.monotonic() - begin > DEFAULT_TIMEOUT:
                raise LockError(f"{self._lockfile}: held by {described}; --wait-for-lock waits")
            if not told:
                _logger.warning("waiting for %s, held by %s", self._lockfile, described)
                told = True
            time.sleep(0.2)


def _os_error(error: BaseException | None) -> int | None:
    while error is not None:
        if isinstance(error, OSError):
            return error.errno
        error = error.__context__
    return None
