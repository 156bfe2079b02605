"""The thesis's study for tests: its tables and claims, and the files of a project that has it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from regroup.report import checked, claims, tables
from regroup.report.checked import WhatMoved
from regroup.report.claims import Claims
from regroup.report.reference import Reference, load_reference
from regroup.report.tables import Table
from regroup.study import StudyFiles

ROOT = Path(__file__).parents[1]
STUDY = StudyFiles(Path("studies/thesis"))
HERE = StudyFiles(ROOT / "studies/thesis")
STARTS = ("pretrain/groupvit-mini/config.json", "pretrain/clip-mini/config.json")
"""All that a check reads of the checkpoints which runs of the profile `mini` start from."""


@cache
def thesis() -> Reference:
    """The thesis's tables."""
    return load_reference(HERE.tables)


@cache
def thesis_claims() -> Claims:
    """What it concludes from them."""
    return claims.load_claims(HERE.claims, reference=thesis())


def build_table(number: int, rows: Mapping[str, Sequence[Path]], **others: Any) -> Table:
    """A table of the thesis."""
    return tables.build_table(number, rows, reference=thesis(), **others)


def check_claims(
    runs: Mapping[int, Mapping[str, Sequence[Path]]],
    *,
    profile: str,
    drawn: bool,
    measures: Path | None = None,
) -> WhatMoved:
    """Its claims on some runs."""
    return checked.check_claims(
        runs, profile=profile, drawn=drawn, claims=thesis_claims(), reference=thesis(), measures=measures
    )


def copy_project(root: Path, *others: str) -> None:
    """Copy the default parameters, the study and further files into a folder."""
    study = (str(path) for path in (STUDY.variants, STUDY.tables, STUDY.claims))
    for name in ("params.yaml", *study, *others):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)


def enter_project(root: Path, monkeypatch: pytest.MonkeyPatch, *others: str) -> Path:
    """`copy_project`, and be in that folder until the test ends."""
    copy_project(root, *others)
    monkeypatch.chdir(root)
    return root


def edit(path: Path, old: str, new: str, *, first: bool = False) -> None:
    """Replace what a file says once; with `first`, what it may say again."""
    text = path.read_text()
    assert text.count(old) == 1 or (first and old in text), (old, text.count(old))
    path.write_text(text.replace(old, new, 1))
