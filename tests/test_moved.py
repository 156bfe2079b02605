"""Who comes back with files of the layout before is told where things are now, not that a key is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from regroup.cli import main
from regroup.errors import RegroupError
from regroup.moved import moved_stage
from regroup.params import load_params
from regroup.profile import make_on_demand, make_profile
from tests.thesis import copy_project

BEFORE = "variants_file: variants.yaml\nevaluate:\n  short_side: 128\n  datasets: {voc: {threshold: 0.2}}\n"
STUDY = "variants_file: is `study` now, the folder of that file: studies/thesis"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The parameters, variants and graphs of this project, to be edited."""
    copy_project(tmp_path, "dvc.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_keys_of_before_are_told_with_their_new_place(project: Path) -> None:
    Path("params.yaml").write_text(BEFORE)
    with pytest.raises(RegroupError) as caught:
        load_params(Path("params.yaml"))
    first, second = str(caught.value).split("\n")
    assert first.startswith(f"params.yaml: {STUDY}")
    assert second.startswith(
        "params.yaml: evaluate: short_side, datasets: stands below `evaluate.segmentation`"
    )


@pytest.mark.parametrize(
    "line",
    ["evaluate.datasets: {voc: null}", "evaluate: {datasets: {voc: null}}", "evaluate.datasets.voc.limit: 3"],
)
def test_overrides_of_before_are_told_the_new_place(project: Path, line: str) -> None:
    Path("mine").mkdir()
    Path("mine/overrides.yaml").write_text(f"{line}\n")
    with pytest.raises(RegroupError, match=r"mine/overrides\.yaml: evaluate: datasets: stands below"):
        make_profile(Path("mine"))


@pytest.mark.parametrize("line", ["finetune.frozen_batch_norm: eval", "finetune: {frozen_batch_norm: train}"])
def test_the_batch_norm_of_a_profile_is_told_to_be_a_variant_s(project: Path, line: str) -> None:
    Path("mine").mkdir()
    Path("mine/overrides.yaml").write_text(f"{line}\n")
    with pytest.raises(RegroupError, match=r"finetune\.frozen_batch_norm: is a choice of each variant now"):
        make_profile(Path("mine"))


def test_an_evaluation_may_be_called_like_a_setting_of_segmentation(project: Path) -> None:
    Path("mine").mkdir()
    Path("mine/overrides.yaml").write_text("evaluate.window: {task: retrieval}\n")
    assert load_params(make_profile(Path("mine"))).evaluate["window"].task == "retrieval"


def test_a_profile_that_was_made_before_names_the_command_that_makes_it_again(project: Path) -> None:
    Path("mine").mkdir()
    Path("mine/overrides.yaml").write_text("{}\n")
    Path("mine/params.yaml").write_text(f"# Made from mine/overrides.yaml and params.yaml\n{BEFORE}")
    Path("mine/dvc.yaml").write_text("# Made from ../dvc.yaml\n#\nvars:\n  - ../variants.yaml\nstages: {}\n")
    with pytest.raises(RegroupError, match=r"run `regroup profile mine`"):
        load_params(Path("mine/params.yaml"))
    with pytest.raises(RegroupError, match=r"mine/dvc.yaml: .*run `regroup profile mine`"):
        make_on_demand(Path("mine/dvc.yaml"))
    make_profile(Path("mine"))
    assert load_params(Path("mine/params.yaml")).name == "mine"
    assert make_on_demand(Path("mine/dvc.yaml")) == [Path("mine/dvc.yaml")]


def test_any_fault_of_a_made_file_names_the_command(project: Path) -> None:
    Path("mine").mkdir()
    Path("mine/overrides.yaml").write_text("{}\n")
    made = make_profile(Path("mine"))
    made.write_text(made.read_text().replace("top_k:", "topk:"))
    with pytest.raises(RegroupError, match="unknown key; did you mean `top_k`") as caught:
        load_params(made)
    assert "run `regroup profile mine`" in str(caught.value)


def test_a_file_that_nothing_reads_is_a_fault(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("variants.yaml").write_text("variants: {}\n")
    with pytest.raises(SystemExit) as end:
        main(["check"])
    assert end.value.code == 2
    assert "variants.yaml: nothing reads this file; the runs are in studies/thesis" in capsys.readouterr().err


def test_a_stage_of_before_is_told_its_name(project: Path) -> None:
    assert moved_stage("evaluate@ge-384") == (
        "evaluate@ge-384: its task is part of its name: `evaluate@segmentation-ge-384`"
    )
    Path("mine").mkdir()
    Path("mine/overrides.yaml").write_text("{}\n")
    make_profile(Path("mine"))
    hint = moved_stage("mine/dvc.yaml:evaluate@ge")
    assert hint is not None
    assert hint.endswith("`mine/dvc.yaml:evaluate@segmentation-ge`")
    assert moved_stage("evaluate@segmentation-ge") is None
    assert moved_stage("finetune@ge") is None
    assert moved_stage("elsewhere/dvc.yaml:evaluate@ge") is None
