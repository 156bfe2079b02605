"""The quick reader of dvc.lock reads what DVC's own reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import dumps_yaml
from dvc.utils.serialize._yaml import YAMLFileCorruptedError

from regroup.safe_dvc.parsing import _parse_any, parse_yaml

ROOT = Path(__file__).parents[2]

VALUES: list[Any] = [
    *(1e-5, 1.0e-05, 0.1, 100.0, float("inf"), -3, 0, 10**20, True, False, None),
    *(
        "yes",
        "no",
        "on",
        "1:30",
        "190:20:30",
        "010",
        "0o17",
        "0x1f",
        "1e-5",
        "1_000",
        "",
        "null",
        "~",
        "é",
        "a: b",
    ),
    *("2026-11-24", "=", "<<", "# no", "- x", "line\nline", "tab\there", "x" * 200, "{}", "[1]"),
]


@pytest.mark.parametrize("lock", sorted(ROOT.glob("**/dvc.lock")), ids=str)
def test_every_lock_of_the_project_is_read_alike(lock: Path) -> None:
    text = lock.read_text()
    assert parse_yaml(text, "dvc.lock") == _parse_any(text, "dvc.lock")


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_every_kind_of_value_is_read_alike(value: Any) -> None:
    text = dumps_yaml({"params": {"key": value, "list": [value, {"deep": value}]}})
    ours, theirs = parse_yaml(text, "dvc.lock"), _parse_any(text, "dvc.lock")
    assert ours == theirs
    assert type(ours["params"]["key"]) is type(theirs["params"]["key"])


@pytest.mark.parametrize(
    "scalar", ["010", "0o17", "0x1f", "1_000", "1e3", "1.", ".5", "+1", "yes", "Off", "1:30"]
)
def test_plain_scalars_mean_what_yaml_1_2_says(scalar: str) -> None:
    text = f"key: {scalar}\n"
    ours, theirs = parse_yaml(text, "dvc.lock")["key"], _parse_any(text, "dvc.lock")["key"]
    assert (type(ours), ours) == (type(theirs), theirs)


def test_a_caller_may_change_what_it_got() -> None:
    text = "stages: {a: {cmd: x}}\n"
    parse_yaml(text, "dvc.lock")["stages"].clear()
    assert parse_yaml(text, "dvc.lock") == {"stages": {"a": {"cmd": "x"}}}


@pytest.mark.parametrize(
    ("name", "text"), [("dvc.lock", "a: [1\n"), ("dvc.yaml", "a: 1\na: 2\n"), ("params.yaml", "a: 1\na: 2\n")]
)
def test_what_dvc_refuses_is_refused(name: str, text: str) -> None:
    with pytest.raises(YAMLFileCorruptedError):
        parse_yaml(text, name)
