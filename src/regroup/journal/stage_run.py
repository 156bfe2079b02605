"""The journal of a stage: a folder with one JSON object a line and copies of the small outputs.

Lines, each with `event` and `time` (milliseconds since 1970): `start` (what ran, on what), `metrics` (a step
and its values), `end` (status, error, outputs). While the stage lives, its process holds a lock on the file;
a journal that has no `end` and is not locked belongs to a stage that was killed. No line says where the
project lies, so a journal that is moved or copied with it is published where it then is.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field, field_validator

from regroup.errors import RegroupError
from regroup.journal.digests import DIGESTS, dvc_digest
from regroup.journal.last_run import LastRun, write_last_run
from regroup.journal.location import check_uri, portable_uri

JOURNALS = Path(".state/tracking")
FORMAT = 2
"""Of a journal's lines. The first format had no such number, and the store's absolute path."""
RUN_VARIABLE = "REGROUP_PIPELINE_RUN"

COPY_BYTES = 1_000_000
"""Outputs are copied file by file below this size; larger ones are recorded by path and digest."""
COPY_FILES = 100
"""A folder with more files is recorded by path and digest."""
LIVE_SECONDS = 120.0
"""A stage that runs longer has its journal published in the background, this often."""


class TrackingParams(BaseModel):
    """Where runs are recorded. Nothing here changes what a stage computes."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    enabled: bool = True
    uri: str | None = None
    """MLflow tracking URI. MLFLOW_TRACKING_URI comes before it; without either, a database at the root."""
    experiment: str
    """Name of the MLflow experiment."""
    final_model: str | None = Field(default=None, alias="register")
    """The variant whose checkpoint becomes the model `regroup-<profile>`; null: none."""

    @field_validator("uri")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        try:
            return None if value is None else check_uri(value)
        except RegroupError as error:
            raise ValueError(str(error)) from None

    @field_validator("experiment")
    @classmethod
    def _named(cls, value: str) -> str:
        # MLflow refuses a name without letters, at the end of the first stage
        if not value.strip():
            raise ValueError("the experiment needs a name")
        return value


class StageRun:
    """Takes the metrics of one run of a stage."""

    def __init__(self, folder: Path | None) -> None:
        """Open the journal in a new `folder`; None makes an object that ignores what it is told."""
        self._file: IO[str] | None = None
        self._publisher: subprocess.Popen[bytes] | None = None
        self._published = self._flushed = time.monotonic()
        self.began = _now()
        self.failed = False
        if folder is not None:
            self._folder = folder
            with self._guarded():
                folder.mkdir(parents=True)
                # locked before it has the name that a publisher looks for
                unlocked = folder / "journal.tmp"
                self._file = unlocked.open("w", encoding="utf-8")
                fcntl.flock(self._file, fcntl.LOCK_EX)
                unlocked.rename(folder / "journal.jsonl")

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record the values of some metrics at a step; cheap enough for every step of a training."""
        with self._guarded():
            self._write("metrics", step=step, values={name: float(value) for name, value in values.items()})
            if time.monotonic() - self._published > LIVE_SECONDS:
                self._publish()

    def _start(self, root: Path, identity: Mapping[str, object], inputs: Sequence[Path]) -> None:
        with self._guarded():
            self._write("start", format=FORMAT, **identity, inputs=[_entry(path, root) for path in inputs])

    def _end(self, root: Path, outputs: Sequence[Path], error: BaseException | None) -> None:
        with self._guarded():
            if error is None:
                entries = [_entry(path, root) | {"copied": self._copy(path, root)} for path in outputs]
                self._write("end", status=_status(error), error="", outputs=entries)
            else:
                text = f"{type(error).__name__}: {error}"
                self._write("end", status=_status(error), error=text, outputs=[])
            if time.monotonic() - self._published > LIVE_SECONDS or self._publisher is not None:
                self._publish()
        self._close()

    def _write(self, event: str, **content: object) -> None:
        if self._file is None:
            return
        line = {"event": event, "time": _now(), **content}
        self._file.write(json.dumps(line, default=str) + "\n")
        if event != "metrics" or time.monotonic() - self._flushed > 1:
            self._file.flush()
            self._flushed = time.monotonic()

    def _copy(self, output: Path, root: Path) -> bool:
        """Keep the small files of an output beside the journal; returns whether that is all of it."""
        if self._file is None:
            return False
        files = [file for file in output.rglob("*") if file.is_file()] if output.is_dir() else [output]
        small = [file for file in files if file.stat().st_size < COPY_BYTES]
        if len(files) > COPY_FILES:
            return False
        for file in small:
            target = self._folder / "files" / _name(file, root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        return len(small) == len(files)

    def _publish(self) -> None:
        """Start a process that brings MLflow up to date; do not wait for it."""
        self._published = time.monotonic()
        if self._file is None or (self._publisher is not None and self._publisher.poll() is None):
            return
        self._file.flush()
        root = self._folder.parents[len(JOURNALS.parts)]
        self._publisher = subprocess.Popen(
            [sys.executable, "-m", "regroup.tracking", "publish", "--no-wait", "--root", str(root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = True
            self._close()
            print(f"warning: this run of the stage will be missing in MLflow: {error}", file=sys.stderr)


@contextmanager
def track_stage(
    stage: str,
    *,
    profile: str,
    root: Path,
    params: Mapping[str, object],
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    settings: TrackingParams,
) -> Iterator[StageRun]:
    """Record one run of a stage, around the block that does its work.

    Args:
        stage: its name in dvc.yaml, with the item of a templated stage: `finetune@ge`.
        profile: name of the profile.
        root: the project's root, where journals are kept; paths are recorded relative to it.
        params: resolved parameters; nested mappings are welcome.
        inputs: files and folders the stage reads; their digests are taken before the block runs.
        outputs: files and folders it writes; their digests are taken after the block, small ones are copied.
        settings: where runs are recorded, and whether.

    An error in the block ends the run as failed, with the error's text, and goes on to the caller. An error
    of the tracking itself is a warning on stderr, and the stage goes on.
    """
    if not settings.enabled:
        yield StageRun(None)
        return
    root = root.resolve()
    run = StageRun(_folder(_lasting(root)))
    identity = _identity(stage, profile, root, settings)
    run._start(root, identity | {"params": params}, inputs)
    try:
        yield run
    except BaseException as error:
        run._end(root, [], error)
        _note(root, identity, run, _status(error))
        raise
    run._end(root, outputs, None)
    _note(root, identity, run, _status(None))


def _note(root: Path, identity: Mapping[str, str], run: StageRun, status: str) -> None:
    """Keep the run's times; those of an experiment in a temporary copy are not this folder's."""
    if _lasting(root) == root and not run.failed:
        with run._guarded():
            last = LastRun(
                identity["stage"], identity["item"], run.began, _now(), status, identity["revision"]
            )
            write_last_run(root, identity["profile"], last)


def _status(error: BaseException | None) -> str:
    """MLflow's word for how a run ended."""
    if error is None:
        return "FINISHED"
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


def _now() -> int:
    return int(time.time() * 1000)


def _identity(stage: str, profile: str, root: Path, settings: TrackingParams) -> dict[str, str]:
    name, _, item = stage.partition("@")
    revision = git_revision(root)
    return {
        "stage": name,
        "item": item,
        "profile": profile,
        "revision": revision,
        "pipeline_run": os.environ.get(RUN_VARIABLE) or f"{revision[:12]}-{profile}",
        "dvc_experiment": os.environ.get("DVC_EXP_NAME", ""),
        "experiment": settings.experiment,
        "uri": portable_uri(_lasting(root), settings.uri),
        "register": settings.final_model or "",
    }


def _lasting(root: Path) -> Path:
    """The root, or if it is a temporary copy made by `dvc exp`, the root of the project it was made for."""
    return next((parent.parent for parent in root.parents if parent.name == ".dvc"), root)


def _folder(root: Path) -> Path:
    return root / JOURNALS / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}"


def _entry(path: Path, root: Path) -> dict[str, object]:
    digest = dvc_digest(path, root / DIGESTS)
    return {"path": _name(path, root), "md5": digest.md5, "size": digest.size}


def _name(path: Path, root: Path) -> str:
    # a folder of the project may be a link to another disk; its name is that in the project all the same
    for place in (path.absolute(), path.resolve()):
        if place.is_relative_to(root) and ".." not in place.parts:
            return place.relative_to(root).as_posix()
    return path.resolve().as_posix().lstrip("/")


def git_revision(root: Path) -> str:
    """Commit, with `-dirty` if tracked files differ from it; `unknown` outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        found = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"
