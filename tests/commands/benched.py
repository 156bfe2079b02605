"""A project for the tests of `regroup bench`, and what they look at."""

from __future__ import annotations

import csv
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from regroup.cli import main
from regroup.model import GroupViT, save_checkpoint
from regroup.settings import read_yaml
from tests.thesis import enter_project

EVALUATE: dict[str, Any] = {
    "retrieval": {"ks": [1, 2], "device": "cpu"},
    "both": {
        "task": "together",
        "tasks": {
            "first": {"task": "retrieval", "ks": [1], "device": "cpu"},
            "some": {"task": "retrieval", "limit": 3, "device": "cpu"},
        },
    },
}
NAMES = ["retrieval", "both/first", "both/some"]


def write_params(file: str, evaluate: dict[str, Any], **others: Any) -> None:
    values = read_yaml(Path("params.yaml")) | {"evaluate": evaluate, "params_file": file} | others
    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False
    with Path(file).open("w") as stream:
        yaml.dump(values, stream)


@pytest.fixture
def project(tmp_path: Path, model: GroupViT, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two checkpoints and no raw data."""
    root = enter_project(tmp_path / "project", monkeypatch, "dvc.yaml")
    save_checkpoint(model, root / "runs/mini/one")
    other = deepcopy(model)
    with torch.no_grad():
        other.image_projector.out.weight.mul_(-1)
    save_checkpoint(other, root / "runs/mini/other")
    write_params("small.yaml", EVALUATE)
    return root


def bench(*words: object, params: str = "small.yaml") -> int:
    with pytest.raises(SystemExit) as end:
        main(["bench", *map(str, words), "--params", *params.split(), "--quiet"])
    return int(end.value.code or 0)


def lines_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


def with_segmentation() -> dict[str, Any]:
    values = read_yaml(Path("params.yaml"))["evaluate"]["segmentation"]
    values["datasets"] = {"voc": values["datasets"]["voc"]}
    values["validation"] = {"datasets": [], "images": 1}
    return {"retrieval": EVALUATE["retrieval"], "segmentation": values}
