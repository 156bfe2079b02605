"""How dvc.lock is read and written.

DVC notes every finished stage by parsing and rewriting the whole file in place: a second for 80 kB, during
which a kill leaves half a file and forgets what had finished. Here only the stage's own lines are made anew,
and the file is replaced in one step. The bytes are those that DVC writes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dvc.dvcfile import Lockfile, ProjectFile
from dvc.exceptions import DvcException
from dvc.fs import LocalFileSystem
from dvc.stage import PipelineStage
from dvc.stage.loader import StageLoader
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import _common, _yaml, dumps_yaml, parse_yaml

HEAD = "schema: '2.0'\nstages:\n"
_ENTRY = re.compile(r"^  (\S[^\n]*):\n(?:(?:   [^\n]*)?\n)*", re.MULTILINE)
_load = Lockfile._load
_dump_all_stages = Lockfile.dump_stages

# what the stages in memory were filled from: the entries of each dvc.lock, by name
_seen: dict[str, dict[str, str]] = {}


def install() -> None:
    """Change how DVC reads and writes dvc.lock, and how it writes any YAML file."""
    for module in (_common, _yaml):
        assert callable(module._dump_data), "another DVC: see where it writes YAML"
        module._dump_data = _dump
    Lockfile.dump_stages = _dump_stages
    Lockfile._load = _load_whole


def split(lock: str) -> list[tuple[str, str]]:
    """The entries of a dvc.lock as DVC writes it: names (quoted where YAML needs it) and lines, in order."""
    start = lock.find("\nstages:\n") + 9
    return [(found[1], found[0]) for found in _ENTRY.finditer(lock, start)] if start > 8 else []


def replace_stage(lock: str, entry: str) -> str | None:
    """The text of a dvc.lock with the entry of one stage replaced or added.

    Args:
        lock: a dvc.lock as DVC writes it.
        entry: the stage's lines, from `  name:` on.

    Returns:
        None if the file looks otherwise; DVC itself has to deal with it then.
    """
    body = lock.removeprefix(HEAD)
    if body == lock or not body.endswith("\n") or re.search(r"^\S", body, re.MULTILINE):
        return None
    name = entry[: entry.index("\n") + 1]
    start = lock.find("\n" + name, len(HEAD) - 1) + 1
    if not start:
        return lock + entry
    following = re.compile(r"^  \S", re.MULTILINE).search(lock, start + len(name))
    return lock[:start] + entry + (lock[following.start() :] if following else "")


def check_merged(path: str, lock: str) -> None:
    """Refuse what a merge by git leaves: a stage that is noted twice, or the marks of a conflict.

    Raises:
        DvcException: names the stage, the lines, and the remedy.
    """
    advice = "DVC compares what stays with the files, and runs a stage again if it does not fit"
    if mark := re.search(r"^(?:<{7}|={7}|>{7})(?: |$)", lock, re.MULTILINE):
        raise DvcException(
            f"{path}: line {_line(lock, mark.start())}: an unfinished merge. Keep either side"
            f" (`git checkout --ours {path}` takes the file of this branch): {advice}"
        )
    entries = split(lock)
    if len(entries) == len(dict(entries)):
        return
    name = Counter(name for name, _ in entries).most_common(1)[0][0]
    found = re.finditer(rf"^  {re.escape(name)}:\n", lock, re.MULTILINE)
    lines = " and ".join(str(_line(lock, one.start())) for one in found)
    raise DvcException(
        f"{path}: the stage {name} is noted more than once, in lines {lines}, as"
        f" a merge leaves it. Delete all but one of these entries: {advice}"
    )


def refresh(stage: PipelineStage) -> None:
    """Let a stage in memory know what dvc.lock says of it now, if another process noted it meanwhile."""
    if not isinstance(stage.dvcfile, ProjectFile):
        return
    path = Path(stage.dvcfile._lockfile.path)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    seen = _seen.get(str(path), {})
    now = dict(split(text))
    name = _quoted(stage.name)
    if now.get(name) == seen.get(name):
        return
    check_merged(stage.dvcfile._lockfile.relpath, text)
    (entry,) = parse_yaml(now.get(name, f"  {name}: {{}}\n"), str(path)).values()
    stage.cmd_changed = entry.get(stage.PARAM_CMD) != stage.cmd
    StageLoader.fill_from_lock(stage, entry)
    seen[name] = now.get(name, "")


def write_file(path: Path, fill: Callable[[Any], Any], *, durable: bool = True) -> None:
    """Write a text file in one step, also through a link to it; `durable`: it survives a power cut."""
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            fill(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _load_whole(lockfile: Lockfile, **options: Any) -> Any:
    path = Path(lockfile.path)
    if isinstance(lockfile.repo.fs, LocalFileSystem):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        check_merged(lockfile.relpath, text)
        _seen[str(path)] = dict(split(text))
    return _load(lockfile, **options)


def _dump_stages(lockfile: Lockfile, stages: Sequence[PipelineStage], **options: Any) -> None:
    path = Path(lockfile.path)
    old = new = path.read_text(encoding="utf-8") if path.exists() else ""
    for stage in stages:
        entry = dumps_yaml({"stages": to_lockfile(stage, **options)}).removeprefix("stages:\n")
        replaced = replace_stage(new, entry)
        if replaced is None:
            _dump_all_stages(lockfile, stages, **options)
            return
        new = replaced
        _seen.setdefault(str(path), {}).update(split(HEAD + entry))
    if new != old:
        write_file(path, lambda file: file.write(new))
        lockfile.repo.scm_context.track_file(lockfile.relpath)


def _dump(path: str, data: Any, dumper: Callable[..., Any], fs: object = None, **options: Any) -> None:
    write_file(Path(path), lambda file: dumper(data, file, **options))


@cache
def _quoted(name: str) -> str:
    """A stage's name as YAML writes it."""
    return str(dumps_yaml({name: 1})).strip().removesuffix(": 1")


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
