"""`dvc`, made for many stages and for being killed: `python workflow/safe_dvc.py repro`.

DVC notes every finished stage in dvc.lock by parsing and rewriting the whole file in place: a second for
80 kB, during which a kill leaves half a file and forgets what had finished. Here only the stage's own lines
are made anew, and the file is replaced in one step. The bytes are those that DVC writes. A dry run goes on
where DVC stops, at the first input that does not exist yet.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dvc.cli import main
from dvc.dvcfile import Lockfile
from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo, lock_repo
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError, StageCache
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import _common, _yaml, dumps_yaml
from fast_yaml import install as install_fast_yaml

HEAD = "schema: '2.0'\nstages:\n"
_dump_all_stages = Lockfile.dump_stages
_restore_or_fail = StageCache.restore


def install() -> None:
    """Change how this process's DVC reads and writes its files."""
    install_fast_yaml()
    for module in (_common, _yaml):
        assert callable(module._dump_data), "another DVC: see where it writes YAML"
        module._dump_data = _dump
    Lockfile.dump_stages = _dump_stages
    StageCache.restore = _restore


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


def drop_torn_rwlock(root: Path) -> None:
    """Remove DVC's list of readers and writers if a kill cut its writing short; DVC itself would give up."""
    path = root / ".dvc/tmp/rwlock"
    if _is_torn(path):
        # or was somebody just writing it?
        with lock_repo(Repo(str(root), _wait_for_lock=True)):
            if _is_torn(path):
                path.unlink()


def _restore(cache: StageCache, stage: PipelineStage, *arguments: Any, **options: Any) -> Any:
    """DVC looks for a stage's earlier results by hashing its inputs, in a dry run too, which has none yet."""
    try:
        return _restore_or_fail(cache, stage, *arguments, **options)
    except FileNotFoundError:
        if not options.get("dry"):
            raise
        raise RunCacheNotFoundError(stage) from None


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
    if new != old:
        _write(path, lambda file: file.write(new))
        lockfile.repo.scm_context.track_file(lockfile.relpath)


def _dump(path: str, data: Any, dumper: Callable[..., Any], fs: object = None, **options: Any) -> None:
    _write(Path(path), lambda file: dumper(data, file, **options))


def _write(path: Path, write: Callable[[Any], Any]) -> None:
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_torn(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


if __name__ == "__main__":
    install()
    with suppress(NotDvcRepoError):  # dvc itself will say so
        drop_torn_rwlock(Path(Repo.find_root()))
    sys.exit(main(sys.argv[1:]))
