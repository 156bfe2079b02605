"""What each evaluation uses, every default filled in: the files of the stage `tasks`.

`evaluate` depends on such a file alone for its options, the code of its task and its raw data. So an
evaluation that is added, or one whose data has changed, scores nothing else again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from regroup.errors import RegroupError
from regroup.io import read_json, write_changed
from regroup.scoring.code import code_of
from regroup.tasks import Evaluation, evaluation


def resolve_task(one: Evaluation, manifest: Callable[[str], Path]) -> dict[str, Any]:
    """What the file of an evaluation says.

    Args:
        one: the evaluation.
        manifest: where that of a source lies.

    Raises:
        RegroupError: a source that it reads has no manifest there.
    """
    return {
        "task": one.task,
        "options": one.options.model_dump(mode="json"),
        "sources": {source: _digest(manifest(source)) for source in one.sources},
        "code": code_of(one.task, one.files),
    }


def write_tasks(
    evaluations: Mapping[str, Evaluation], manifest: Callable[[str], Path], folder: Path
) -> list[Path]:
    """Write a file for each evaluation; those of evaluations that are no more go.

    A file that says the same already is not touched.

    Returns:
        Those that were written.

    Raises:
        RegroupError: as for `resolve_task`; nothing is written then.
    """
    files = {folder / f"{name}.json": resolve_task(one, manifest) for name, one in evaluations.items()}
    return write_changed(files, folder.glob("*.json"))


def read_task(path: Path) -> Evaluation:
    """Read the file of one evaluation.

    Raises:
        RegroupError: the file is missing, or is not what `write_tasks` writes.
    """
    if not path.is_file():
        raise RegroupError(f"{path}: no such file; `dvc repro tasks` writes it")
    values = read_json(path)
    if not isinstance(values, dict) or not isinstance(values.get("options"), dict):
        raise RegroupError(
            f"{path}: not the settings of an evaluation; `dvc repro --force tasks` writes it anew"
        )
    return evaluation(path.stem, {**values["options"], "task": values.get("task")}, where=str(path))


def _digest(manifest: Path) -> str:
    source = manifest.stem
    if not manifest.is_file():
        raise RegroupError(f"{manifest}: no such file; `dvc repro source@{source}` writes it")
    values = read_json(manifest)
    if not isinstance(values, dict) or not isinstance(values.get("digest"), str):
        raise RegroupError(f"{manifest}: not a manifest; `dvc repro --force source@{source}` writes it anew")
    return str(values["digest"])
