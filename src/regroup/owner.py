"""Who holds a lease, in terms that another process, container or host can judge."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import uuid
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """Who holds a lease, in terms that another host can judge."""

    token: str
    """Of this one holding, never used again."""
    host: str
    boot: str
    """Id of the running kernel: hosts may share a name, kernels never share this."""
    namespace: str
    """PID namespace: a PID means nothing outside."""
    pid: int
    started: int
    """Start time of the process, clock ticks after boot; 0 where it cannot be known."""
    command: str

    @classmethod
    def here(cls) -> Owner:
        """This process, with a new token."""
        command = " ".join(sys.argv)[:500]
        pid = os.getpid()
        started = (process_state(pid) or ("", 0))[1] if _kernel()[0] else 0
        return cls(uuid.uuid4().hex[:16], socket.gethostname(), *_kernel(), pid, started, command)

    def __str__(self) -> str:
        """As a message names it."""
        return f"process {self.pid} on {self.host or 'an unknown host'} (`{self.command}`)"

    def lives(self) -> bool | None:
        """Whether the process exists; None if it cannot be known from here."""
        if not self.started or (self.boot, self.namespace) != _kernel():
            return None
        found = process_state(self.pid)
        if found is not None:
            return found[0] not in "ZXx" and found[1] == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except (PermissionError, OverflowError):
            return None  # of another user, whose processes /proc may hide
        return None


def parse_owner(content: bytes) -> Owner:
    """The owner that a lease's content names; of a damaged one, somebody on an unknown host."""
    try:
        owner = Owner(**json.loads(content))
        kinds = {name: int if name in ("pid", "started") else str for name in asdict(owner)}
        if all(type(getattr(owner, name)) is kind for name, kind in kinds.items()) and owner.token.isalnum():
            return owner
    except (ValueError, TypeError, RecursionError):
        pass
    digest = hashlib.sha256(content).hexdigest()[:16]
    return Owner(digest, "", "", "", 0, 0, "unreadable lease")


def process_state(pid: int) -> tuple[str, int] | None:
    """State and start time of a process, from /proc; None if there is none to be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


@cache
def _kernel() -> tuple[str, str]:
    """The running kernel's id and this PID namespace's; empty where /proc does not show this namespace."""
    try:
        if int(Path("/proc/self/stat").read_text(errors="replace").split()[0]) != os.getpid():
            return "", ""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot, str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "", ""
