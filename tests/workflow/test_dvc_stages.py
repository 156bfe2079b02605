"""What the Snakefile is told about the stages."""

import json
from pathlib import Path

import pytest
from dvc_stages import StageRule, chosen_pipeline, read_stages

from regroup.errors import RegroupError
from regroup.sources.make import make_source
from regroup.sources.manifest import copy_manifest
from regroup.sources.settings import SOURCES

from .toy_project import Project


def stages(project: Project, pipeline: str = "dvc.yaml", *, set_stamps: bool = False) -> dict[str, StageRule]:
    return {stage.rule: stage for stage in read_stages(pipeline, set_stamps=set_stamps)}


@pytest.fixture(autouse=True)
def _inside(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)


def test_rules_are_linked_as_the_stages_are(project: Project) -> None:
    found = stages(project)
    assert sorted(found) == sorted(
        ["source", "frozen", "join", *(f"{kind}_{key}" for kind in ("one", "two") for key in "ab")]
    )
    assert found["source"].inputs == ()
    assert found["one_b"].inputs == (found["source"].stamp,)
    assert found["two_b"].inputs == tuple(sorted([found["frozen"].stamp, found["one_b"].stamp]))
    assert found["join"].inputs == tuple(sorted(found[f"two_{key}"].stamp for key in "ab"))


def test_a_frozen_stage_waits_for_nothing(project: Project) -> None:
    pipeline = project.root / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("  join:\n", "  join:\n    frozen: true\n"))
    assert stages(project)["join"].inputs == ()


def test_resources_come_from_meta_or_are_modest(project: Project) -> None:
    project.set_param("gpus: 2")
    found = stages(project)
    assert found["one_a"].threads == 2
    gpus = {"gpus": 2, "gres": "gpu:2", "nodes": 1}
    assert found["one_a"].resources == {"mem_mb": 4000, "runtime": 60, **gpus}
    assert found["two_a"].threads == 1
    assert found["two_a"].resources == {"mem_mb": 2000, "runtime": 30, "gpus": 0}


@pytest.mark.parametrize(("old", "new"), [("threads: 2", "thread: 2"), ("threads: 2", "threads: many")])
def test_resources_that_mean_nothing_are_named(project: Project, old: str, new: str) -> None:
    pipeline = project.root / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"one@a: meta.resources.{new.split(':')[0]}: "):
        stages(project)


def test_two_stages_never_share_a_rule(project: Project) -> None:
    project.set_param("items: {a-b: 1, a_b: 2, a: 3, b: 4}")
    with pytest.raises(ValueError, match="one_a_b"):
        stages(project)


def test_profiles_have_their_own_targets_and_stamps(project: Project) -> None:
    mini, full = stages(project), stages(project, "full/dvc.yaml")
    assert mini.keys() == full.keys()
    assert full["one_a"].target == "full/dvc.yaml:one@a"
    assert not {stage.stamp for stage in mini.values()} & {stage.stamp for stage in full.values()}
    assert not {stage.log for stage in mini.values()} & {stage.log for stage in full.values()}


def test_a_missing_pipeline_is_named(project: Project) -> None:
    with pytest.raises(RegroupError, match=r"ful/dvc\.yaml"):
        stages(project, "ful/dvc.yaml")


def test_stamps_say_what_dvc_says(project: Project) -> None:
    found = stages(project, set_stamps=True)
    assert all(Path(stage.stamp).exists() for stage in found.values())
    project.set_param("items: {a: 1, b: 20}")
    (project.root / "data/mini/two-a.txt").unlink()
    found = stages(project, set_stamps=True)
    stale = {name for name, stage in found.items() if not Path(stage.stamp).exists()}
    # two@b because its command holds the item, join because of two@a's missing output
    assert stale == {"one_b", "two_b", "two_a", "join"}
    assert len({Path(found[name].stamp).stat().st_mtime for name in found.keys() - stale}) == 1


def test_what_stands_behind_a_stale_stage_is_stale(project: Project) -> None:
    """`snakemake join` would else not look further back than to join's own stamp."""
    (project.root / "data/mini/source.txt").unlink()
    found = stages(project, set_stamps=True)
    assert {name for name, stage in found.items() if Path(stage.stamp).exists()} == {"frozen"}


def test_a_list_of_locks_cut_short_by_a_kill_is_no_obstacle(project: Project) -> None:
    rwlock = project.root / ".dvc/tmp/rwlock"
    rwlock.write_text('{"write": {"/some/pa')
    assert stages(project, set_stamps=True)
    assert not any(json.loads(rwlock.read_text()).values())


def test_a_stage_that_always_runs_is_stale_only_if_its_folder_changed(project: Path, tmp_path: Path) -> None:
    mine, raw = tmp_path / "mine", project.root / "data/mini/raw/ade"
    for part in SOURCES.load("ade").required:
        (mine / part).mkdir(parents=True)
        (mine / part / "1.png").write_bytes(b"a")
    make_source("ade", "local", raw, root=mine)
    copy_manifest(raw, project.root / "data/mini/manifests/ade.json")
    pipeline = project.root / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("stages:\n", WATCHED, 1))
    project.dvc("commit", "--force", "--quiet", "watched")

    def stale() -> set[str]:
        found = stages(project, set_stamps=True)
        return {name for name, stage in found.items() if not Path(stage.stamp).exists()}

    assert stale() == set()
    (mine / SOURCES.load("ade").required[0] / "2.png").write_bytes(b"b")
    assert stale() == {"watched"}


WATCHED = """\
stages:
  watched:
    cmd: python work.py 0 data/mini/raw/ade watched
    always_changed: true
    deps:
    - work.py
    outs:
    - data/mini/raw/ade:
        persist: true
    - data/mini/manifests/ade.json:
        persist: true
"""


def test_a_misspelt_setting_does_not_start_the_default_profile() -> None:
    assert chosen_pipeline({}) == "dvc.yaml"
    assert chosen_pipeline({"pipeline": "full/dvc.yaml"}) == "full/dvc.yaml"
    with pytest.raises(ValueError, match="--config pipelin: no such setting"):
        chosen_pipeline({"pipelin": "full/dvc.yaml"})
