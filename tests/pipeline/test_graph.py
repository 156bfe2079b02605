"""dvc.yaml of every profile: names, paths, and the faults that it would not see."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from regroup.params import Params, ProfilePaths, load_params
from regroup.pipelines import pipeline_faults, render_pipeline
from regroup.tasks import evaluation
from regroup.training.settings import (
    CheckpointParams,
)
from regroup.variants_file import load_variants
from tests.thesis import HERE, copy_project

from .graph import ROOT, STAGES, outputs, stages


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_name_everywhere(stage: str) -> None:
    assert f"stages/{stage}.py" in STAGES[stage]["cmd"]
    assert f"stages/{stage}.py" in STAGES[stage]["deps"]
    assert (ROOT / "stages" / f"{stage}.py").is_file()
    params = load_params(ROOT / "params.yaml")
    assert stage in params.resources
    # what is resolved is of several sections
    known = {"source": "sources", "resolve": "finetune", "borrow": "study", "tasks": "evaluate"}
    section = known.get(stage, stage)
    assert section in Params.model_fields


def test_the_layout_is_what_dvc_declares() -> None:
    layout, outs = ProfilePaths("${name}", "${data}"), outputs()
    assert outs["source"] == [str(layout.raw("${key}")), str(layout.manifest("${key}"))]
    assert outs["shards"] == [str(layout.shards)]
    assert outs["nouns"] == [str(layout.captions)]
    assert outs["noun_report"] == [str(layout.nouns)]
    assert outs["weights"] == [str(layout.weights)]
    assert outs["resolve"] == [str(layout.variants), str(layout.dino_settings)]
    assert str(layout.resolved("${key}")) in STAGES["finetune"]["deps"]
    assert str(layout.dino_settings) in STAGES["dino"]["deps"]
    assert outs["dino"] == [str(layout.dino)]
    assert outs["finetune"] == [str(layout.run("${key}")), f"{layout.curves}/${{key}}.csv"]
    assert outs["tasks"] == [str(layout.tasks)]
    assert str(layout.manifests) in STAGES["tasks"]["deps"]
    assert str(layout.task("${item.task}")) in STAGES["evaluate"]["deps"]
    assert outs["evaluate"] == [str(layout.scores("${item.task}", "${item.variant}"))]
    assert outs["sweep"] == [str(layout.sweep)]
    assert outs["dissect"] == [f"{layout.dissection}/${{item}}"]
    assert outs["tables"] == [str(layout.tables), str(layout.table_data)]
    assert outs["figures"] == [str(layout.figures), str(layout.measures), str(layout.cover)]
    assert outs["learning"] == [str(layout.learning)]
    assert outs["page"] == [str(layout.page)]


def test_no_pipeline_but_the_default_is_in_git_before_it_has_results() -> None:
    """DVC reads every dvc.yaml it finds, and complains of outputs that nobody here has made."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    pipelines = {Path(path).parent for path in tracked if Path(path).name == "dvc.yaml"}
    locked = {Path(path).parent for path in tracked if Path(path).name == "dvc.lock"}
    assert pipelines <= locked


def test_the_full_profile_has_the_stages_of_mini(tmp_path: Path) -> None:
    """Both graphs resolve, every template included, and differ in nothing but where things are.

    The pipeline of `full` is made when it is first asked for.
    """
    copy_project(tmp_path, "dvc.yaml", "full/overrides.yaml", "full/params.yaml")
    command = [sys.executable, "-m", "regroup.safe_dvc"]
    subprocess.run([*command, "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    mini, full = (
        subprocess.run(
            [*command, "stage", "list", "--name-only", *file],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for file in ([], ["full/dvc.yaml"])
    )
    assert [f"full/dvc.yaml:{name}" for name in mini] == full
    assert {f"finetune@{name}" for name in load_variants(HERE.variants)} <= set(mini)
    assert (tmp_path / "full/params.yaml").read_text() == (ROOT / "full/params.yaml").read_text()


@pytest.mark.parametrize("checkpoint", ["models/clip.pth", "data/full/weights/clip.pth"])
def test_files_that_parameters_alone_name_are_watched(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A protocol of one's own, and a further checkpoint, unless it lies in what is watched anyhow."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "streets.yaml").touch()
    mini, full = load_params(ROOT / "params.yaml"), load_params(ROOT / "full/params.yaml")
    whole = full.evaluate["segmentation"]
    values = whole.options.model_dump(mode="json")
    values["datasets"]["streets"] = {**values["datasets"]["voc"], "protocol": "streets.yaml"}
    changed = {
        "checkpoints": {"clip": CheckpointParams(path=Path(checkpoint), backbone="clip")},
        "evaluate": {"segmentation": evaluation("segmentation", values)},
    }
    params = full.model_copy(update=changed)
    made = YAML(typ="safe", pure=True).load(render_pipeline(Path("dvc.yaml"), params))["stages"]
    assert "streets.yaml" in made["tasks"]["deps"]
    assert (checkpoint in made["resolve"]["deps"]) is (checkpoint == "models/clip.pth")
    faults = list(pipeline_faults(mini.model_copy(update=changed)))
    assert any(fault.startswith("dvc.yaml: stages.tasks.deps: streets.yaml is missing") for fault in faults)
    assert any(fault.startswith(f"dvc.yaml: stages.resolve.deps: {checkpoint} is") for fault in faults)


def test_only_a_folder_in_use_is_looked_at_in_every_run() -> None:
    full = load_params(ROOT / "full/params.yaml")
    drawn = full.model_copy(update={"sources": load_params(ROOT / "params.yaml").sources})
    watched, quiet = (
        YAML(typ="safe", pure=True).load(render_pipeline(ROOT / "dvc.yaml", params))["stages"]["source"]["do"]
        for params in (full, drawn)
    )
    assert watched["always_changed"] is True
    outs = ["data/${data}/raw/${key}", "data/${data}/manifests/${key}.json"]
    assert watched["outs"] == [{out: {"persist": True}} for out in outs]
    assert "always_changed" not in quiet


def test_a_pipeline_that_would_not_see_changes_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "mine").mkdir()
    mini, full = load_params(ROOT / "params.yaml"), load_params(ROOT / "full/params.yaml")
    assert list(pipeline_faults(mini)) == []
    (fault,) = pipeline_faults(
        mini.model_copy(update={"sources": mini.sources | {"ade": full.sources["ade"]}})
    )
    assert "sources.ade" in fault
    assert "profile of your own" in fault
    mine = full.model_copy(update={"name": "mine", "data": "mine", "params_file": Path("mine/params.yaml")})
    drawn = mine.model_copy(update={"sources": mini.sources})
    (tmp_path / "mine/dvc.yaml").write_text(render_pipeline(Path("dvc.yaml"), drawn))
    assert list(pipeline_faults(drawn)) == []
    (fault,) = pipeline_faults(mine)
    assert fault.startswith("mine/dvc.yaml: ")
    assert "regroup profile mine" in fault


def test_everything_that_is_reported_is_on_the_page() -> None:
    """The page shows what lies below reports/<profile>, so it has to wait for all of it."""
    made = {path for outs in outputs().values() for path in outs if path.startswith("reports/${name}/")}
    folders = {"/".join(path.split("/")[:3]) for path in made} - {"reports/${name}/page.html"}
    # the Markdown and the cover are there for git, the measures for the claims
    others = {"reports/${name}/" + name for name in ("tables", "qualitative.png", "measures")}
    assert folders - others <= set(STAGES["page"]["deps"])


def test_git_has_what_people_read_and_dvc_the_rest() -> None:
    """An output that neither had would be lost, and one that both had would be refused by DVC."""
    cached = {}
    for entry in stages(ROOT / "dvc.yaml").values():
        for out in entry["outs"]:
            path, how = next(iter(out.items())) if isinstance(out, dict) else (out, {})
            path = re.sub(r"\$\{\w+\}", "mini", path)
            # git ignores files; a folder is as its files are
            cached[path if Path(path).suffix else f"{path}/x"] = how.get("cache", True)
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    found = subprocess.run(command, cwd=ROOT, input="\n".join(cached), capture_output=True, text=True)
    assert set(found.stdout.splitlines()) == {path for path, is_cached in cached.items() if is_cached}
