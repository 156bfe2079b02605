"""Where things of an earlier layout are now: for who comes back with files of before."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from regroup.errors import RegroupError
from regroup.metrics import SEGMENTATION
from regroup.segmentation.settings import EvaluateParams
from regroup.settings import read_yaml

MADE = "# Made from "
"""The first line of a params.yaml or dvc.yaml that is made begins so."""
STUDY = "studies/thesis"

_VARIANTS = Path("variants.yaml")
_HELD = "frozen_batch_norm"


def refuse_moved(values: Any, path: Path) -> None:
    """Look at what a params.yaml, or the overrides of one, says in the words of before.

    Raises:
        RegroupError: such a key; one line each, with its new place.
    """
    if isinstance(values, Mapping) and (lines := [f"{path}: {line}" for line in _moved_keys(values)]):
        raise RegroupError("\n".join([*lines, *remedy(path)]))


def _moved_keys(values: Mapping[str, Any]) -> Iterator[str]:
    if "variants_file" in values:
        yield (
            f"variants_file: is `study` now, the folder of that file: {STUDY}; beside it `data` says whose "
            "raw data is used, in a profile its own name (docs/studies.md)"
        )
    finetune = values.get("finetune")
    if (isinstance(finetune, Mapping) and _HELD in finetune) or f"finetune.{_HELD}" in values:
        yield (
            f"finetune.{_HELD}: is a choice of each variant now; for `eval` its entry has "
            "`batch_norm: {statistics: held}`, for `train` nothing (docs/variants.md)"
        )
    evaluate = values.get("evaluate")
    below = dict(evaluate) if isinstance(evaluate, Mapping) else {}
    below |= {str(key).split(".")[1]: entry for key, entry in values.items() if str(key)[:9] == "evaluate."}
    settings = [
        str(key)
        for key, entry in below.items()
        if key in EvaluateParams.model_fields and not (isinstance(entry, Mapping) and "task" in entry)
    ]
    if settings:
        named = ", ".join(settings)
        yield f"evaluate: {named}: stands below `evaluate.{SEGMENTATION}` now (docs/tasks.md)"


def moved_files(root: Path = Path()) -> Iterator[str]:
    """Files that nothing reads any more: `file: where`."""
    if (root / _VARIANTS).is_file():
        yield (
            f"{_VARIANTS}: nothing reads this file; the runs are in {STUDY}/variants.yaml. "
            "Move there what is yours, and delete it"
        )


def remedy(params_file: Path) -> Iterator[str]:
    """A line on what mends a params.yaml that an earlier state of the project may have made; else none."""
    if first_line(params_file).startswith(MADE):
        yield (
            f"{params_file}: is made of overrides.yaml, perhaps by an earlier state of the project: run "
            f"`regroup profile {params_file.parent}`"
        )


def moved_stage(target: str) -> str | None:
    """How a stage of `evaluate` is called now, where a target of DVC has a variant's name alone."""
    found = re.fullmatch(r"((?:.*/)?dvc\.yaml:|)evaluate@([^:]+)", target)
    params = Path(found[1][:-1] or "dvc.yaml").with_name("params.yaml") if found else None
    if found is None or params is None or not params.is_file():
        return None
    values = read_yaml(params)
    evaluations = values.get("evaluate") if isinstance(values, Mapping) else None
    if not isinstance(evaluations, Mapping) or found[2].partition("-")[0] in evaluations:
        return None
    task = SEGMENTATION if SEGMENTATION in evaluations else next(iter(evaluations), SEGMENTATION)
    return f"{target}: its task is part of its name: `{found[1]}evaluate@{task}-{found[2]}`"


def made_before(pipeline: Path) -> bool:
    """Whether a dvc.yaml was made when all runs were in a variants.yaml of the project's root."""
    if not first_line(pipeline).startswith(MADE):
        return False
    with pipeline.open(encoding="utf-8", errors="replace") as file:
        return any(line.strip() == "- ../variants.yaml" for line, _ in zip(file, range(30), strict=False))


def first_line(path: Path) -> str:
    """Of a text file; nothing where there is none."""
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline()
