"""`dvc`, made to survive a kill at any time: `python workflow/safe_dvc.py repro`.

DVC writes dvc.lock in place, after every stage, and takes up to a second for it; a process that is killed
meanwhile leaves half a file, and forgets what had finished. Here the file is replaced in one step.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from dvc.cli import main
from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo, lock_repo
from dvc.utils.serialize import _common, _yaml


def write_in_one_step() -> None:
    """Make this process's DVC write YAML beside the old file and then rename it."""
    for module in (_common, _yaml):
        assert callable(module._dump_data), "another DVC: see where it writes dvc.lock"
        module._dump_data = _dump


def drop_torn_rwlock(root: Path) -> None:
    """Remove DVC's list of readers and writers if a kill cut its writing short; DVC itself would give up."""
    path = root / ".dvc/tmp/rwlock"
    if _is_torn(path):
        # or was somebody just writing it?
        with lock_repo(Repo(str(root), _wait_for_lock=True)):
            if _is_torn(path):
                path.unlink()


def _dump(path: str, data: Any, dumper: Callable[..., None], fs: object = None, **options: Any) -> None:
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        file: TextIO
        with temporary.open("w", encoding="utf-8") as file:
            dumper(data, file, **options)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
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
    write_in_one_step()
    with suppress(NotDvcRepoError):  # dvc itself will say so
        drop_torn_rwlock(Path(Repo.find_root()))
    sys.exit(main(sys.argv[1:]))
