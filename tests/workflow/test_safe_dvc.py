"""What a kill must not do to DVC's files."""

from pathlib import Path

import pytest
import safe_dvc
from dvc.utils.serialize import _common, _yaml, dump_yaml, modify_yaml


@pytest.fixture(autouse=True)
def _patched(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_common, _yaml):
        monkeypatch.setattr(module, "_dump_data", module._dump_data)
    safe_dvc.write_in_one_step()


def cut_short(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_write_cut_short_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dvc.lock"
    dump_yaml(path, {"schema": "2.0", "stages": {"nouns": {"cmd": "python nouns.py"}}})
    before = path.read_bytes()
    monkeypatch.setattr(_yaml, "_dump", cut_short)
    with pytest.raises(KeyboardInterrupt), modify_yaml(path) as data:
        data["stages"]["shards"] = {"cmd": "python shards.py"}
    with pytest.raises(KeyboardInterrupt):
        dump_yaml(path, {})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["dvc.lock"]


def test_the_file_reads_as_dvc_itself_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"schema": "2.0", "stages": {"one@a": {"cmd": "a: b", "deps": [{"path": "é", "size": 1}]}}}
    dump_yaml(tmp_path / "ours", content)
    monkeypatch.undo()
    dump_yaml(tmp_path / "theirs", content)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
