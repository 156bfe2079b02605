"""Both engines with a study beside the profile's: it waits for what it shares, and is in nobody's way."""

from __future__ import annotations

from pathlib import Path

import dvc.repo.index
import pytest
from dvc.repo import Repo
from dvc_stages import read_stages

from regroup.profile import make_on_demand
from regroup.safe_dvc import install
from regroup.safe_dvc.elsewhere import leave_out_others
from tests.thesis import copy_project

VARIANTS = """
variants:
  captions: {title: Captions, labels: {source: none, count: 0}, objectives: [{name: contrastive}]}
borrowed:
  original: {study: thesis, variant: original, rows: [{table: 1, row: original}]}
"""
PIPELINE = Path("studies/mine/dvc.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy_project(tmp_path, "dvc.yaml")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (tmp_path / "studies/mine").mkdir()
    (tmp_path / "studies/mine/variants.yaml").write_text(VARIANTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_study_is_scheduled_behind_what_it_shares(project: Path) -> None:
    found = {stage.rule: stage for stage in read_stages(str(PIPELINE), set_stamps=False)}
    # of the 48 other runs of the thesis there is none, nor anything that no stage of the study reads
    others = {rule for rule in found if rule.startswith("shared_")}
    sources = {f"shared_source_{name}" for name in ("coco", "voc12", "context", "ade")}
    data = {f"shared_{name}" for name in ("weights", "shards", "nouns", "resolve", "dino")}
    assert others == sources | data | {"shared_finetune_original"}
    own = set(found) - others
    runs = {"finetune_captions", "borrow_original"}
    scores = {"evaluate_segmentation_captions", "evaluate_segmentation_original"}
    assert own == runs | scores | {"resolve", "tasks", "tables", "page"}
    assert found["shared_shards"].target == "shards"
    assert found["finetune_captions"].target == "studies/mine/dvc.yaml:finetune@captions"
    assert found["borrow_original"].inputs == (found["shared_finetune_original"].stamp,)
    assert set(found["tables"].inputs) == {found[rule].stamp for rule in scores}
    stamps = {stage.stamp for stage in read_stages("dvc.yaml", set_stamps=False)}
    assert not stamps & {stage.stamp for stage in found.values()}


def test_studies_may_borrow_from_each_other(project: Path) -> None:
    other = VARIANTS.replace("study: thesis, variant: original", "study: mine, variant: captions")
    (project / "studies/other").mkdir()
    (project / "studies/other/variants.yaml").write_text(other)
    mine = VARIANTS.replace("study: thesis, variant: original", "study: other, variant: captions")
    (project / "studies/mine/variants.yaml").write_text(mine)
    found = {stage.rule: stage for stage in read_stages(str(PIPELINE), set_stamps=False)}
    theirs = found["shared_studies_other_finetune_captions"]
    assert theirs.target == "studies/other/dvc.yaml:finetune@captions"
    assert found["borrow_original"].inputs == (theirs.stamp,)
    # what the root's dvc.yaml has of the same name is another stage
    assert found["shared_resolve"].stamp != found["shared_studies_other_resolve"].stamp
    assert not [rule for rule in found if "other" in rule and ("evaluate" in rule or "borrow" in rule)]


@pytest.mark.parametrize(
    ("words", "targets", "read"),
    [
        (["repro"], [], False),
        (["repro", "-f", "tables"], [], False),
        (["repro", str(PIPELINE)], [PIPELINE], True),
        (["repro", "--all-pipelines"], [], True),
        (["repro", "-fP"], [], True),
        (["status"], [], True),
    ],
)
def test_dvc_reads_a_study_only_where_it_is_meant(
    project: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], targets: list[Path], read: bool
) -> None:
    monkeypatch.setattr(dvc.repo.index, "collect_files", dvc.repo.index.collect_files)
    install()
    make_on_demand(PIPELINE)
    leave_out_others(words, {Path("dvc.yaml"), *targets})
    folders = {Path(stage.relpath).parent for stage in Repo().index.stages}
    assert folders == {Path(), PIPELINE.parent} if read else {Path()}


def test_a_study_that_is_half_written_stops_nobody_else(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc.repo.index, "collect_files", dvc.repo.index.collect_files)
    install()
    make_on_demand(PIPELINE)
    (project / "studies/mine/variants.yaml").write_text("variants: {captions: [\n")
    leave_out_others(["repro"], {Path("dvc.yaml")})
    assert Repo().index.stages
