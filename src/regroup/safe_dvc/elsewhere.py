"""Pipelines that a run has nothing to do with: the made ones of other profiles and studies.

DVC reads every dvc.yaml of the project before it runs anything, so each study would lengthen the runs of all
others, and one that is half written would stop them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import dvc.repo.index
from dvc.exceptions import DvcException
from dvc.repo.index import Index

from regroup.profile import is_made
from regroup.study import STUDIES

_WIDE = re.compile(
    r"-[a-zA-Z]*[pPRc]|--(pipeline|all-pipelines|recursive|cwd|downstream|force-downstream|glob).*"
)
"""Options of `dvc repro` with which stages of any file may be meant."""

_collect_all = dvc.repo.index.collect_files
_read = Index.from_file


class _Unneeded(DvcException):
    """A dvc.yaml that is not to be read."""


def leave_out_others(words: Sequence[str], needed: Collection[Path]) -> None:
    """Let `dvc repro` read no made dvc.yaml but those that its targets need; other commands read all.

    Args:
        words: the command line behind `dvc`.
        needed: dvc.yaml files, from the working directory.
    """
    if words[:1] != ["repro"] or any(map(_WIDE.fullmatch, words)):
        return
    found = [*Path().glob("*/dvc.yaml"), *STUDIES.glob("*/dvc.yaml"), *STUDIES.glob("*/*/dvc.yaml")]
    unneeded = {str(path.absolute()) for path in found if path not in needed and is_made(path)}

    def collect(repo: Any, onerror: Callable[[str, Exception], None] | None = None) -> Iterator[Any]:
        def read(other: Any, path: str) -> Index:
            if path in unneeded:
                raise _Unneeded(path)
            return _read(other, path)

        def told(path: str, error: Exception) -> None:
            if isinstance(error, _Unneeded):
                return
            if onerror is None:
                raise error
            onerror(path, error)

        Index.from_file = read
        try:
            yield from _collect_all(repo, onerror=told)
        finally:
            Index.from_file = _read

    dvc.repo.index.collect_files = collect
