"""Whether a process lives, for notes that hold no more than its PID and its command."""

from __future__ import annotations

import os
from pathlib import Path

from regroup.owner import process_state

_SLACK = 2.0


def process_lives(pid: int, command: str, noted: float) -> bool:
    """Whether a living process of this host can be the one that left a note.

    Args:
        pid: as noted.
        command: its arguments joined by spaces, as noted.
        noted: when, at the latest, seconds since the epoch; a process that started later is another one.
    """
    if pid <= 0:
        return False
    if (found := process_state(pid)) is None:
        return _exists(pid)  # of another user, whose processes /proc may hide; or no /proc here
    state, started = found
    if state in "ZXx" or _boot_time() + started / os.sysconf("SC_CLK_TCK") > noted + _SLACK:
        return False
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").split()
    except OSError:  # it has just ended, or is not ours to look at
        return _exists(pid)
    # a process in the middle of `exec` has no arguments for a moment
    if not arguments or not command.split():
        return True
    # the first words differ: python, its options, `-m dvc` for a path
    return command.split()[-1] == arguments[-1]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _boot_time() -> float:
    lines = Path("/proc/stat").read_text().splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith("btime ")), 0.0)
