"""The stages of dvc.yaml, for the tests of what they declare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regroup.settings import read_yaml

ROOT = Path(__file__).parents[2]
PACKAGE = "src/regroup/"


def stages(file: Path) -> dict[str, dict[str, Any]]:
    """The stages of a dvc.yaml, of a family what each of it does."""
    return {name: entry.get("do", entry) for name, entry in read_yaml(file)["stages"].items()}


STAGES = {**stages(ROOT / "dvc.yaml"), **stages(ROOT / "pretrain" / "dvc.yaml")}


def outputs(of: Mapping[str, Mapping[str, Any]] = STAGES) -> dict[str, list[str]]:
    """What each stage writes, as dvc.yaml spells it."""
    return {
        stage: [
            next(iter(out)) if isinstance(out, dict) else out
            for key in ("outs", "metrics", "plots")
            for out in entry.get(key, [])
        ]
        for stage, entry in of.items()
    }


def declared(stage: str) -> list[str]:
    """The code that a stage depends on."""
    return [dep for dep in STAGES[stage]["deps"] if dep.startswith(PACKAGE) or f"{dep}/" == PACKAGE]
