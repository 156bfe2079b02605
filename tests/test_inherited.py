"""No value of the default profile, which is sized for a drawn world, reaches real data unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from regroup.cli import main
from regroup.errors import RegroupError
from regroup.inherited import inherited_values, leaves, load_reasons, reason_for
from regroup.profile import make_profile, make_study
from regroup.settings import read_yaml
from regroup.study import place_of

from .thesis import enter_project

ROOT = Path(__file__).parents[1]
WHY = ROOT / "full/why.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the profile `full`, and a reading one that is laid over the default."""
    full = (f"full/{name}.yaml" for name in ("overrides", "params", "why"))
    project = enter_project(tmp_path, monkeypatch, "dvc.yaml", *full)
    profile(project, "sources: {coco: {kind: local, root: /coco}}\n")
    return project


def profile(project: Path, overrides: str, name: str = "mycoco") -> list[str]:
    (project / name).mkdir(exist_ok=True)
    (project / name / "overrides.yaml").write_text(overrides)
    return inherited_values(make_profile(Path(name)))


def keys(lines: list[str]) -> set[str]:
    return {line.split(": ")[1] for line in lines if "is meant for drawn data" in line}


FULL = dict(leaves(read_yaml(ROOT / "full/params.yaml")))


def test_every_value_of_full_is_the_study_s_or_was_chosen_for_real_data() -> None:
    """Also one that the default profile changes, or adds, and that `full` does not name."""
    reasons, faults = load_reasons(WHY), []
    for key, found in FULL.items():
        reason = reason_for(key, reasons)
        if reason is None:
            faults.append(f"{key}: no entry in full/why.yaml; may {found} stand for real data, and why?")
        elif reason.decides and (found, type(found)) != (reason.value, type(reason.value)):
            faults.append(f"{key}: is {found}; full/why.yaml has {reason.value} ({reason})")
    assert not faults, "\n".join(faults)


def test_every_reason_is_of_a_key() -> None:
    for key, reason in load_reasons(WHY).items():
        below = not reason.decides and any(one.startswith(f"{key}.") for one in FULL)
        assert key in FULL or below, f"full/why.yaml: {key}: no such key in full/params.yaml"


def test_full_sees_each_image_anew_each_time() -> None:
    """30 epochs of five captions an image are 150 samples; two views of them would be two augmentations."""
    assert FULL["finetune.views"] is None
    assert FULL["finetune.epoch_samples"] is None


def test_a_profile_over_the_default_is_told_what_it_has_from_it(project: Path) -> None:
    found = inherited_values(Path("mycoco/params.yaml"))
    assert {"finetune.views", "finetune.epoch_samples", "finetune.optimiser.learning_rate"} <= keys(found)
    (views,) = [line for line in found if "finetune.views" in line]
    assert views.startswith("mycoco/params.yaml: finetune.views: 2 is meant for drawn data; full has null (")
    assert found[-1].startswith("mycoco/overrides.yaml: say there which it is to be")
    # what costs time alone, is the same in both, or is of a dataset that is still drawn
    assert not keys(found) & {"finetune.workers", "finetune.optimiser.clip"}
    assert "evaluate.segmentation.datasets.coco.threshold" in keys(found)
    assert "evaluate.segmentation.datasets.voc.threshold" not in keys(found)


def test_what_a_profile_says_itself_is_its_own_affair(project: Path) -> None:
    local = "sources: {coco: {kind: local, root: /coco}}\n"
    before = keys(inherited_values(Path("mycoco/params.yaml")))
    nested = keys(profile(project, local + "finetune: {views: 2}\n"))
    dotted = keys(profile(project, local + "finetune.views: 2\n"))
    assert nested == dotted == before - {"finetune.views"}


def test_a_profile_over_full_has_nothing_to_be_told(project: Path) -> None:
    assert profile(project, "base: full\nsources: {coco: {kind: local, root: /coco}}\n", "mine") == []
    # laid over one that is told
    assert keys(profile(project, "base: mycoco\nfinetune: {epoch_samples: 64}\n", "short")) == keys(
        inherited_values(Path("mycoco/params.yaml"))
    ) - {"finetune.epoch_samples"}


def test_drawn_data_is_what_the_default_is_for(project: Path) -> None:
    assert inherited_values(Path("params.yaml")) == []
    assert profile(project, "finetune: {max_steps: 2}\n", "short") == []


def test_a_study_of_a_profile_on_real_data_is_told_the_same(project: Path) -> None:
    (project / "studies/mine").mkdir()
    (project / "studies/mine/variants.yaml").write_text("borrowed: {o: {study: thesis, variant: original}}\n")
    (project / "studies/mine/overrides.yaml").write_text("finetune: {views: 2}\n")
    params = make_study(place_of("mine", Path("mycoco")))
    told = keys(inherited_values(params))
    assert "finetune.epoch_samples" in told
    assert "finetune.views" not in told  # the study says it
    assert "sweep.threshold" not in told  # the study has no sweep


def test_commands_warn_and_go_on(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["profile", "mycoco"])
    said = capsys.readouterr()
    assert not ended.value.code
    assert "warning: mycoco/params.yaml: finetune.views: 2 is meant for drawn data" in said.err
    assert "mycoco/params.yaml: written" in said.out


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("finetune.views: {value: null}", "finetune.views: give one of study, choice, cost, unread, place"),
        ('finetune.views: {value: null, study: "a", choice: "b"}', "finetune.views: give one of study"),
        ('finetune.views: {study: "a"}', "finetune.views: `value` goes with `study` and `choice`"),
        ('finetune.views: {value: null, cost: "a"}', "finetune.views: `value` goes with"),
        ('finetune.views: {value: null, stdy: "a"}', "stdy: unknown key; did you mean `study`?"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, entry: str, message: str) -> None:
    (tmp_path / "why.yaml").write_text(entry)
    with pytest.raises(RegroupError, match=r"why\.yaml: ") as error:
        load_reasons(tmp_path / "why.yaml")
    assert message in str(error.value)
