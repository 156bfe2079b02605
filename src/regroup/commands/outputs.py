"""Where commands may write: never into what DVC tracks, never over a file that the command did not make."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from regroup.commands.arguments import project_roots, real
from regroup.errors import RegroupError
from regroup.io import write_bytes

RESULTS = Path("out")
"""Default place of what commands make by hand; git and DVC ignore it."""

TRACKED = ("data", "runs", "reports", "pretrain", ".dvc", ".git", ".state", ".snakemake")
"""Folders of a project that belong to its pipeline."""

RECORD = ".made-by-regroup"
"""In a folder of results: a line of JSON for each file that was made there, with its digest."""

_LOCKED = re.compile(r"^ *- path: (.+)$", re.MULTILINE)
_LEFT = re.compile(r"\..*\.tmp")  # what a killed run was writing
_SHOWN = 5


def results_folder(command: str, profile: str, checkpoint: Path) -> Path:
    """Default folder for what a command says about a checkpoint."""
    return RESULTS / command / profile / checkpoint_name(checkpoint)


def checkpoint_name(checkpoint: Path) -> str:
    """What results call a checkpoint: a folder's name, with its dots, or a file's without suffix."""
    place = real(checkpoint)
    return (place.stem if place.is_file() else place.name) or "checkpoint"


def results_of(command: str, profile: str, checkpoint: Path, out: Path | None) -> Made:
    """The results of a command that scores a checkpoint, in `out` or their own folder, which may be written.

    Raises:
        RegroupError: as `check_output` and `Made.check_all`.
    """
    folder = out or results_folder(command, profile, checkpoint)
    check_output(folder)
    made = Made(folder, command)
    made.check_all()
    return made


def check_output(out: Path, option: str = "--out") -> None:
    """Refuse, before any work, a folder that cannot be written or that belongs to the pipeline.

    Raises:
        RegroupError: DVC tracks it, or a file is in the way.
        OSError: it cannot be made.
    """
    check_untracked(out, option)
    for place in (out, *out.parents):
        if os.path.lexists(place):
            if not place.is_dir():
                raise RegroupError(f"{option}: {place} is a file, but a folder is needed; name another")
            break
    _try_writing(out)


def check_untracked(out: Path, option: str = "--out") -> None:
    """Refuse a place inside an output of the pipeline: a command by hand would change results of the study.

    Raises:
        RegroupError: names the place.
    """
    target = Path(os.path.abspath(out))  # noqa: PTH100 (links stay: a place may be tracked by either name)
    names = {target, real(target)}
    for folder in _pipeline_folders(out):
        if any(one.is_relative_to(other) for one in names for other in (folder, real(folder))):
            raise RegroupError(
                f"{option}: {out} lies in {folder}, which belongs to the pipeline; "
                f"name a folder outside, such as {RESULTS}/{target.name}"
            )


def _pipeline_folders(out: Path) -> Iterator[Path]:
    """What the pipelines above `out` and above where we are read and write."""
    for root in sorted(project_roots(out)):
        yield from (root / name for name in TRACKED)
        # paths in the dvc.lock of a profile are from the root too; a search, since reading it takes a second
        for lock in (root / "dvc.lock", *sorted(root.glob("*/dvc.lock"))):
            if lock.is_file():
                locked = _LOCKED.findall(lock.read_text(encoding="utf-8", errors="replace"))
                yield from (root / name.strip("'\"") for name in dict.fromkeys(locked))
    for place in (out.absolute(), *out.absolute().parents):  # `dvc add FOLDER` leaves FOLDER.dvc
        if place.name and place.with_name(f"{place.name}.dvc").is_file():
            yield place


def _try_writing(out: Path) -> None:
    """Make the folder and a file in it, and take both away again."""
    missing = [place for place in (out, *out.parents) if not place.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    finally:
        for place in missing:
            with suppress(OSError):
                place.rmdir()


class Made:
    """What a command made in a folder, remembered there: that may be made again, and nothing else is lost.

    A file counts as made if its content is one that was recorded; a file that somebody edited does not.
    """

    def __init__(self, folder: Path, command: str) -> None:
        """Read the record of `folder`, if there is one; torn lines and other commands' do not count."""
        self.folder, self.command = folder, command
        self._digests: dict[str, set[str]] = {}
        try:
            lines = (folder / RECORD).read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["by"] == command:
                    self._digests.setdefault(entry["name"], set()).add(entry["sha256"])
            except (ValueError, TypeError, KeyError, RecursionError):
                continue

    def knows(self, name: str) -> bool:
        """Whether the file of this name is there as it was made."""
        path = self.folder / name
        if name not in self._digests or path.is_symlink() or not path.is_file():
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() in self._digests[name]

    def check(self, names: Iterable[str]) -> None:
        """Refuse, before any work, names of files that are there and were made by somebody else.

        Raises:
            RegroupError: names some of them.
        """
        strangers = [n for n in names if os.path.lexists(self.folder / n) and not self.knows(n)]
        if strangers:
            self._refuse(strangers)

    def check_all(self) -> None:
        """Refuse a folder with any file that this command did not make.

        Raises:
            RegroupError: names some of them.
        """
        found = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        ours = {RECORD, *(path.name for path in found if _LEFT.fullmatch(path.name))}
        strangers = [path.name for path in found if path.name not in ours and not self.knows(path.name)]
        if strangers:
            self._refuse(strangers)

    @property
    def paths(self) -> list[Path]:
        """Files that are there as they were made."""
        return [self.folder / name for name in self._digests if self.knows(name)]

    @contextmanager
    def written(self) -> Iterator[Path]:
        """Yield an empty folder; what the block writes there is recorded and moved to the results."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".", suffix=".tmp") as name:
            yield Path(name)
            files = sorted(Path(name).iterdir())
            self.add([(path.name, path.read_bytes()) for path in files])
            for path in files:
                path.replace(self.folder / path.name)

    def write(self, files: Sequence[tuple[str, bytes]]) -> list[Path]:
        """Record and write files, each of them whole or not at all; return their paths."""
        self.add(files)
        for name, content in files:
            write_bytes(self.folder / name, content)
        return [self.folder / name for name, _ in files]

    def add(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Record files that are about to be written, by name and content.

        Before, not after: a run that is killed in between must not take its own files for somebody else's.
        """
        new = {name: hashlib.sha256(content).hexdigest() for name, content in files}
        new = {name: digest for name, digest in new.items() if digest not in self._digests.get(name, ())}
        lines = [
            json.dumps({"by": self.command, "name": name, "sha256": digest}) for name, digest in new.items()
        ]
        if not lines:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / RECORD).open("ab") as record:
            # a line that a kill tore off must not swallow the next one
            record.write(("\n" + "\n".join(lines) + "\n").encode())
        for name, digest in new.items():
            self._digests.setdefault(name, set()).add(digest)

    def _refuse(self, names: Sequence[str]) -> None:
        some = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        raise RegroupError(
            f"--out: {self.folder} holds files that `regroup {self.command}` did not make, or that were "
            f"changed since, and would overwrite: {some}; name another folder, or move them away"
        )
