"""The environment's command `dvc`: DVC, and what it lacks for being killed and for working in company.

It is installed as `dvc`, in place of DVC's own script, and is the only package that imports DVC. What is
changed, why, and when each change can go is in docs/dvc.md; DVC is pinned exactly as long as one is left.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dvc.cli import main as _dvc

from regroup.errors import RegroupError
from regroup.lease import stale_seconds
from regroup.moved import moved_stage
from regroup.profile import make_on_demand
from regroup.safe_dvc import lockfile, locks, parsing, rwlock, stages
from regroup.safe_dvc.elsewhere import leave_out_others


def install() -> None:
    """Change this process's DVC; a second time changes nothing."""
    for module in (lockfile, locks, parsing, rwlock, stages):
        module.install()


def find_python() -> None:
    """Let the stages' commands find this environment's python, activated or not."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of DVC; returns its exit status."""
    try:
        stale_seconds()  # said here, not in the midst of work
    except RegroupError as error:
        print(f"dvc: error: {error}", file=sys.stderr)
        return 2
    install()
    find_python()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        needed = {Path("dvc.yaml")}
        for word in words:  # a target: `full/dvc.yaml`, `full/dvc.yaml:finetune@ge`
            needed.update(make_on_demand(Path(word.partition(":")[0])))
    except RegroupError as error:
        print(f"dvc: error: {error}", file=sys.stderr)
        return 2
    leave_out_others(words, needed)
    status: int = _dvc(words)
    if status:
        for word in words:
            if hint := moved_stage(word):
                print(f"dvc: {hint}", file=sys.stderr)
    return status
