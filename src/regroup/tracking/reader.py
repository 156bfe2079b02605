"""Journals as they are read for publication."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """What stands in the journal of one run of a stage."""

    folder: Path
    start: Json
    metrics: Sequence[Json]
    end: Json | None
    alive: bool
    """Whether the process that writes it still runs."""

    @property
    def outputs(self) -> Sequence[Json]:
        """Outputs of a run that has ended well: path, md5, size, copied."""
        return self.end["outputs"] if self.end else []

    @property
    def status(self) -> str:
        """MLflow's word for how the run ended, or RUNNING."""
        return str(self.end["status"]) if self.end else "RUNNING" if self.alive else "KILLED"

    @property
    def error(self) -> str:
        """Why the run did not end well; empty if it did, or has not ended."""
        if self.end:
            return str(self.end["error"])
        return "" if self.alive else "the process was killed"

    @property
    def last_time(self) -> int:
        """When the last line was written, in milliseconds."""
        return int((self.end or [self.start, *self.metrics][-1])["time"])


def read_journals(folder: Path) -> Iterator[Journal]:
    """The journals in a folder, oldest first; those of stages killed before they began are removed."""
    for path in sorted(folder.glob("*/journal.jsonl")):
        with path.open(encoding="utf-8") as file:
            alive = _is_locked(file.fileno())
            # a line that is cut short is still being written, or was when the writer was killed
            lines = [json.loads(line) for line in file if line.endswith("}\n")]
        if lines and lines[0]["event"] == "start":
            metrics = [line for line in lines if line["event"] == "metrics"]
            end = lines[-1] if lines[-1]["event"] == "end" else None
            yield Journal(path.parent, lines[0], metrics, end, alive)
        elif not alive:
            shutil.rmtree(path.parent)


def _is_locked(descriptor: int) -> bool:
    # shared: network file systems refuse an exclusive lock on a file opened for reading
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
