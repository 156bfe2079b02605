"""What a kill must not do to DVC's files, and that they read as if DVC had written them."""

import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.utils.serialize import _common, _yaml, dump_yaml, dumps_yaml, modify_yaml

from regroup.safe_dvc import install
from regroup.safe_dvc.lockfile import check_merged, replace_stage, split

from .toy_project import Project, user_environment

STAGES: dict[str, Any] = {
    "one": {"cmd": "python one.py", "outs": [{"path": "one.txt", "md5": "0" * 32, "size": 10}]},
    "one@a": {
        "cmd": ["python one.py\npython " + "very-" * 40 + "long.py", "b: c # d"],
        "params": {"params.yaml": {"rate": 1e-5, "names": ["yes", "é", "'", "1"], "note": "a\n\n b"}},
    },
    "1": {"cmd": "- x"},
}


def text(stages: dict[str, Any], **more: Any) -> str:
    # copies: the same object twice would be written once, and referred to
    copies = {name: deepcopy(stage) for name, stage in stages.items()}
    return dumps_yaml({"schema": "2.0", "stages": copies, **more})


def entry(name: str, stage: Any) -> str:
    return dumps_yaml({"stages": {name: stage}}).removeprefix("stages:\n")


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("new", [{"cmd": "new"}, STAGES["one@a"]])
def test_replacing_a_stage_gives_the_bytes_of_a_whole_new_file(name: str, new: dict[str, Any]) -> None:
    assert replace_stage(text(STAGES), entry(name, new)) == text(STAGES | {name: new})


def test_a_new_stage_comes_last() -> None:
    new = {"cmd": "python two.py"}
    assert replace_stage(text(STAGES), entry("two", new)) == text(STAGES | {"two": new})


ODD = {
    "empty": "",
    "old": "stages: {}\n",
    "no stages": text({}),
    "data sets": text(STAGES, datasets=[]),
    "torn": text(STAGES)[:-5],
}


@pytest.mark.parametrize("kind", ODD)
def test_a_file_that_looks_otherwise_is_left_to_dvc(kind: str) -> None:
    assert replace_stage(ODD[kind], entry("two", {"cmd": "new"})) is None


MERGED = {
    "noted twice": (
        entry("one", {"cmd": "other"}),
        "the stage one is noted more than once, in lines 3 and 24, .* Delete all but one",
    ),
    "conflict": ("<<<<<<< HEAD\n", "line 24: an unfinished merge. .*git checkout --ours dvc.lock"),
}


@pytest.mark.parametrize("kind", MERGED)
def test_what_a_merge_left_is_named_with_the_remedy(kind: str) -> None:
    added, message = MERGED[kind]
    check_merged("dvc.lock", text(STAGES))
    with pytest.raises(DvcException, match=rf"^dvc.lock: {message}"):
        check_merged("dvc.lock", text(STAGES) + added)


def test_entries_are_found_whatever_is_in_them() -> None:
    assert dict(split(text(STAGES))) == {
        lines.partition(":")[0].strip(): lines for lines in (entry(name, STAGES[name]) for name in STAGES)
    }
    assert split(text({})) == split("") == []


class Killed(BaseException):
    pass


def test_a_write_cut_short_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_common, _yaml):
        monkeypatch.setattr(module, "_dump_data", module._dump_data)
    monkeypatch.setattr(Lockfile, "dump_stages", Lockfile.dump_stages)
    install()
    path = tmp_path / "dvc.lock"
    dump_yaml(path, {"schema": "2.0", "stages": STAGES})
    before = path.read_bytes()

    def cut_short(_: object, file: Any) -> None:
        file.write("schema: '2.0'\nstag")
        raise Killed

    monkeypatch.setattr(_yaml, "_dump", cut_short)
    with pytest.raises(Killed):
        dump_yaml(path, {})
    assert path.read_bytes() == before
    with pytest.raises(Killed), modify_yaml(path) as data:
        data["stages"]["shards"] = {"cmd": "python shards.py"}
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["dvc.lock"]


def test_a_dry_run_shows_every_stage_of_a_profile_without_data(tmp_path: Path) -> None:
    """The second stage reads what the first has not made yet; DVC alone stops there."""
    stages = {
        "one": {"cmd": "touch one.txt", "outs": ["one.txt"]},
        "two": {"cmd": "cp one.txt two.txt", "deps": ["one.txt"], "outs": ["two.txt"]},
    }
    dump_yaml(tmp_path / "dvc.yaml", {"stages": stages})
    project = Project(tmp_path, user_environment())
    project.dvc("init", "--no-scm", "-q")
    # a stage has earlier results, so that DVC looks among them
    project.dvc("repro")
    for name in ("one.txt", "two.txt", "dvc.lock"):
        (tmp_path / name).unlink()
    shown = project.dvc("repro", "--dry")
    assert "touch one.txt" in shown
    assert "cp one.txt two.txt" in shown
    assert not (tmp_path / "one.txt").exists()


def test_stages_get_this_environment_though_it_is_not_active(tmp_path: Path) -> None:
    stage = {"cmd": "python -c 'import sys; print(sys.prefix)' > prefix", "outs": ["prefix"]}
    dump_yaml(tmp_path / "dvc.yaml", {"stages": {"one": stage}})
    project = Project(tmp_path, user_environment() | {"PATH": os.defpath})
    project.dvc("init", "--no-scm", "-q")
    project.dvc("repro")
    assert (tmp_path / "prefix").read_text().strip() == sys.prefix
