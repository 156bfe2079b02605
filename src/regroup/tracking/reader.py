"""Journals as they are read for publication, line by line: a damaged line costs no other."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from regroup.errors import RegroupError
from regroup.journal.stage_run import FORMAT

Json = dict[str, Any]

DAMAGED = "damaged"
"""Folder, beside the journals, of lines and of whole journals that nothing can be made of."""
FORGOTTEN_SECONDS = 3600
"""A folder without a journal is what a kill left, once it is so old."""
BEGINNING = b'{"event": "start"'
_NAME = re.compile(r"\d+-[0-9a-f]{8}")
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Damage:
    """A line of a journal that cannot be used."""

    line: int
    """Counted from 1."""
    reason: str
    content: bytes


@dataclass(frozen=True)
class Journal:
    """What stands in the journal of one run of a stage."""

    folder: Path
    start: Json
    metrics: Sequence[Json]
    end: Json | None
    alive: bool
    """Whether the process that writes it still runs."""
    damage: Sequence[Damage] = ()

    @property
    def name(self) -> str:
        """The stage, as in dvc.yaml: `finetune@ge`."""
        start = self.start
        return f"{start['stage']}@{start['item']}" if start["item"] else str(start["stage"])

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
        if self.alive:
            return ""
        return "the process was killed" + (", or the journal's end is damaged" if self.damage else "")

    @property
    def last_time(self) -> int:
        """When the last line was written, in milliseconds."""
        return int((self.end or [self.start, *self.metrics][-1])["time"])


def find_journals(folder: Path) -> Iterator[Path]:
    """The journals in a folder, oldest first; folders that a kill left without one are removed."""
    for path in sorted(folder.iterdir()):
        if not _NAME.fullmatch(path.name) or not path.is_dir():
            continue
        if (path / "journal.jsonl").exists():
            yield path / "journal.jsonl"
        elif time.time() - path.stat().st_mtime > FORGOTTEN_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def read_journal(path: Path) -> Journal | None:
    """A journal; None where its stage has just begun, or was killed before (then the folder is removed).

    Raises:
        RegroupError: nothing can be made of it: its first line is damaged, or another version wrote it.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        alive = _is_locked(file.fileno())
        # what follows the last line end is still being written, or was when the writer was killed
        *lines, rest = file.read().split(b"\n")
    found: list[Json] = []
    damage: list[Damage] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(_record(line))
        except ValueError as error:
            damage.append(Damage(number, str(error), line))
    starts = [record for record in found if record["event"] == "start"]
    if not starts:
        if damage or found:
            what = f"line {damage[0].line} {damage[0].reason}" if damage else "no line says what ran"
            raise RegroupError(f"{path.parent.name}: {what}")
        if alive:
            return None
        if rest and not rest.startswith(BEGINNING):
            raise RegroupError(f"{path.parent.name}: is no journal")
        shutil.rmtree(path.parent)
        return None
    ends = [record for record in found if record["event"] == "end"]
    metrics = [record for record in found if record["event"] == "metrics"]
    return Journal(path.parent, starts[0], metrics, ends[-1] if ends else None, alive, damage)


def set_aside(journal: Path | Journal) -> Path:
    """Keep what cannot be used where no publisher looks: a whole journal's folder, or one's damaged lines.

    Returns:
        Where it is.
    """
    folder = journal if isinstance(journal, Path) else journal.folder
    place = folder.parent / DAMAGED
    place.mkdir(exist_ok=True)
    name = folder.name if isinstance(journal, Path) else f"{folder.name}.lines"
    # an earlier one of that name stays
    target = next(path for k in count() if not (path := place / (f"{name}.{k}" if k else name)).exists())
    if isinstance(journal, Path):
        return journal.rename(target)
    target.write_bytes(b"".join(damage.content + b"\n" for damage in journal.damage))
    return target


def _record(line: bytes) -> Json:
    """One line, checked.

    Raises:
        ValueError: what is wrong with it.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if not isinstance(record, dict) or record.get("event") not in list(_RECORDS):
        raise ValueError(f"is none of {', '.join(_RECORDS)}")
    if record["event"] == "start" and record.get("format", 1) not in range(1, FORMAT + 1):
        raise ValueError(f"is of format {record['format']!r}; up to {FORMAT} is known here")
    for key, holds in {"time": _is_count, **_RECORDS[record["event"]]}.items():
        if not holds(record.get(key)):
            raise ValueError(f"has no proper `{key}`")
    return record


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _is_step(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_status(value: object) -> bool:
    return value in ("FINISHED", "FAILED", "KILLED")


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _are_values(value: object) -> bool:
    # NaN and infinite are values: a training that diverged is worth seeing
    return isinstance(value, dict) and all(
        name.strip() and (isinstance(number, float) or _is_step(number)) for name, number in value.items()
    )


def _are_files(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, dict) and _is_name(entry.get("path")) and _is_name(entry.get("md5"))
        for entry in value
    )


_RECORDS: Mapping[str, Mapping[str, Callable[[object], bool]]] = {
    "start": {
        "stage": _is_name,
        "item": _is_text,
        "profile": _is_name,
        "revision": _is_text,
        "pipeline_run": _is_name,
        "dvc_experiment": _is_text,
        "experiment": _is_name,
        "uri": _is_name,
        "params": _is_table,
        "inputs": _are_files,
    },
    "metrics": {"step": _is_step, "values": _are_values},
    "end": {"status": _is_status, "error": _is_text, "outputs": _are_files},
}


def _is_locked(descriptor: int) -> bool:
    # shared: network file systems refuse an exclusive lock on a file opened for reading
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks: nobody can say
        return False
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
