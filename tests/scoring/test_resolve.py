"""What a task's result depends on is written down, and says what runs again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.params import load_params
from regroup.scoring import code
from regroup.scoring.resolve import read_task, write_tasks
from regroup.tasks import TASKS, evaluation

ROOT = Path(__file__).parents[2]


def of(folder: Path) -> Callable[[str], Path]:
    """Where each source's manifest lies."""
    return lambda source: folder / f"{source}.json"


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """Manifests of all sources, with the source's name for a digest."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    for source in ("coco", "voc12", "context", "ade"):
        (folder / f"{source}.json").write_text(json.dumps({"digest": source}))
    return folder


def test_a_file_holds_every_default_and_reads_back(tmp_path: Path, manifests: Path) -> None:
    one = evaluation("mine", {"task": "retrieval", "limit": 7})
    write_tasks({"mine": one}, of(manifests), tmp_path / "tasks")
    written = json.loads((tmp_path / "tasks/mine.json").read_text())
    assert written["options"]["ks"] == [1, 5, 10]
    assert written["sources"] == {"coco": "coco"}
    assert set(written["code"]) == {"tasks.retrieval", "library"}
    assert read_task(tmp_path / "tasks/mine.json") == one


def test_only_what_an_evaluation_reads_changes_its_file(tmp_path: Path, manifests: Path) -> None:
    """Its data, its options, its class lists; no entry beside it, and no source that it does not read."""
    folder, profile = tmp_path / "tasks", load_params(ROOT / "params.yaml").evaluate
    both = {**profile, "retrieval": evaluation("retrieval", {})}
    assert [path.name for path in write_tasks(profile, of(manifests), folder)] == ["segmentation.json"]
    assert [path.name for path in write_tasks(both, of(manifests), folder)] == ["retrieval.json"]
    assert write_tasks(both, of(manifests), folder) == []
    (manifests / "ade.json").write_text('{"digest": "other"}')
    assert [path.name for path in write_tasks(both, of(manifests), folder)] == ["segmentation.json"]
    (manifests / "new.json").write_text('{"digest": "of a source that nobody reads"}')
    assert write_tasks(both, of(manifests), folder) == []
    both["retrieval"] = evaluation("retrieval", {"limit": 3})
    assert [path.name for path in write_tasks(both, of(manifests), folder)] == ["retrieval.json"]
    write_tasks(profile, of(manifests), folder)
    assert [path.name for path in folder.iterdir()] == ["segmentation.json"]


def test_a_source_that_was_not_made_is_named_and_nothing_is_written(tmp_path: Path, manifests: Path) -> None:
    (manifests / "voc12.json").unlink()
    with pytest.raises(RegroupError, match=r"voc12\.json: no such file; `dvc repro source@voc12` writes it"):
        write_tasks(load_params(ROOT / "params.yaml").evaluate, of(manifests), tmp_path / "tasks")
    assert not (tmp_path / "tasks").exists()
    with pytest.raises(RegroupError, match="`dvc repro tasks` writes it"):
        read_task(tmp_path / "tasks/segmentation.json")


def test_code_is_followed_to_what_a_task_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of a module behind a task changes its digest; one of a module that it does not use does not."""
    package = tmp_path / "regroup"
    shutil.copytree(ROOT / "src/regroup", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "_PACKAGE", package)
    monkeypatch.setattr(code, "TASKS", type(TASKS)(TASKS.package, TASKS.word))
    monkeypatch.setitem(code.TASKS.__dict__, "folder", package / "tasks")

    layouts = [package / f"segmentation/layouts/{name}.py" for name in ("__init__", "instances")]
    named = {"segmentation": layouts, "retrieval": []}

    def edited(name: str, task: str) -> bool:
        before = code.code_of(task, named[task])
        file = package / name
        content = file.read_text()
        file.write_text(content + "\n# more\n")
        changed = code.code_of(task, named[task]) != before
        file.write_text(content)
        return changed

    assert edited("tasks/retrieval.py", "retrieval")
    assert edited("tasks/_ranks.py", "retrieval")
    assert edited("scoring/validation.py", "retrieval"), "what the stage does after any task"
    assert edited("captions/coco.py", "retrieval")
    assert edited("pictures.py", "retrieval")
    assert edited("segmentation/resolved.py", "segmentation")
    assert edited("sources/mini/names.yaml", "segmentation")
    assert edited("segmentation/layouts/instances.py", "segmentation")
    assert edited("regions.py", "segmentation"), "what a reader of masks imports that is found by its name"
    assert not edited("tasks/retrieval.py", "segmentation")
    assert not edited("tasks/_ranks.py", "segmentation")
    assert not edited("report/tables.py", "segmentation")
    assert not edited("segmentation/sweep.py", "segmentation")
    before = code.code_of("segmentation")
    (package / "tasks/another.py").write_text("'''Another.'''\n")
    assert code.code_of("segmentation") == before


@pytest.mark.parametrize(
    ("task", "options", "module"),
    [
        ("detection", {}, "detection/settings.py"),
        (
            "robustness",
            {"datasets": {"voc": {"source": "voc12", "protocol": "voc"}}},
            "reliability/settings.py",
        ),
    ],
)
def test_settings_that_compute_are_code(task: str, options: dict[str, object], module: str) -> None:
    """Else an edit of how large images are made would score nothing again: the options say the same."""
    one = evaluation(task, options)
    assert ROOT / "src/regroup" / module in one.files
    assert "files" in code.code_of(task, one.files)
