"""`regroup plan`: runs, steps, views, hours and memory before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from regroup.cli import main
from regroup.training.measure import Measurement

from .thesis import STARTS, edit, enter_project

ROOT = Path(__file__).parents[1]
VARIANTS = "studies/thesis/variants.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_project(tmp_path, monkeypatch, "dvc.yaml", *STARTS)


def columns(said: str) -> dict[str, dict[str, str]]:
    """The plan's lines by run, by the heading of each column; the total has no batch, size or views."""
    table = [line.split() for line in said.splitlines()]
    (head,) = [line for line in table if line[:1] == ["variant"]]
    lines = {line[0]: dict(zip(head, line, strict=False)) for line in table if len(line) == len(head)}
    (total,) = [line for line in table if line[:1] == ["total"]]
    return lines | {"total": {"seeds": total[1], "steps": total[2]}}


def test_the_plan_of_the_real_study_counts_the_thesis_s_steps(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 epochs of 591,753 captions in batches of 512 are 34,650 steps."""
    folder = project / "full"
    folder.mkdir()
    (folder / "params.yaml").write_text((ROOT / "full/params.yaml").read_text())
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--params", "full/params.yaml", "--no-measure"])
    assert not ended.value.code
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["noise-free-ge-384"][1:] == ["3", "103,950", "512", "384", "150.0"]  # of its three seeds
    assert lines["vocabulary-5k"][1:] == ["1", "11,555", "256", "224", "25.0"]


def test_the_plan_says_how_many_augmentations_of_an_image_a_run_sees(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 epochs of 128 captions are 2.4 samples of each of 1,600 images, of which two views are made."""
    with pytest.raises(SystemExit):
        main(["plan", "--no-measure"])
    said = capsys.readouterr().out
    assert said.startswith("mini: 39 variants, 59 runs to train, 8,000 captions of 1,600 images")
    lines = {line.split()[0]: line.split() for line in said.splitlines()}
    assert lines["refined"][-1] == "2.0"
    assert lines["parts-gb2"][-1] == "1.2"


def test_the_plan_measures_each_start_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Made-up features are numbers; a run starts from the checkpoint that it names."""
    (project / VARIANTS).write_text(
        "variants:\n"
        "  one: {title: a, batch: 16, objectives: [{name: contrastive}], trainable: image_projector}\n"
        "  clip: {title: b, batch: 16, objectives: [{name: contrastive}], trainable: image_projector, "
        "checkpoint: clip}\n"
        "  dino: {title: c, batch: 16, objectives: [{name: contrastive}], dino_input: true}\n"
    )
    for name in ("groupvit-mini", "clip-mini"):
        edit(project / "params.yaml", f"path: pretrain/{name}", f"path: {ROOT}/pretrain/{name}")
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--captions", "1000", "--images", "2"])
    told = capsys.readouterr()
    assert not ended.value.code, told.err
    lines = columns(told.out)
    assert all(float(lines[name]["s/step"]) > 0 for name in ("one", "clip", "dino"))
    assert lines["one"]["GiB"] != lines["clip"]["GiB"] or lines["one"]["s/step"] != lines["clip"]["s/step"]


@pytest.mark.slow
def test_the_plan_measures_what_it_prints(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / VARIANTS).write_text(
        "variants:\n"
        "  blocks: {title: a, epochs: 2, objectives: [{name: contrastive}]}\n"
        "  everything: {title: b, epochs: 2, trainable: all, seeds: [1, 2], objectives: "
        "[{name: contrastive}]}\n"
    )
    edit(project / "params.yaml", "path: pretrain/groupvit-mini", f"path: {ROOT}/pretrain/groupvit-mini")
    with pytest.raises(SystemExit):
        main(["plan", "--captions", "1000", "--images", "4"])
    lines = columns(capsys.readouterr().out)
    one, all_of_it = lines["blocks"], lines["everything"]
    assert (one["seeds"], all_of_it["seeds"]) == ("1", "2")
    assert int(all_of_it["steps"]) == 2 * int(one["steps"])
    seconds, hours = float(all_of_it["s/step"]), float(all_of_it["hours"])
    assert seconds > 0
    assert hours == pytest.approx(int(all_of_it["steps"]) * seconds / 3600, abs=0.01)
    assert float(all_of_it["GiB"]) >= float(one["GiB"])
    assert lines["total"] == {"seeds": "3", "steps": str(3 * int(one["steps"]))}


def test_the_plan_tells_what_a_resolution_costs(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 5.9.1 speaks of the minutes that an epoch at 384 pixels takes more; they are of a machine."""
    (project / VARIANTS).write_text(
        "variants:\n"
        "  low: {title: a, epochs: 2, objectives: [{name: contrastive}]}\n"
        "  high: {title: b, epochs: 2, resolution: 384, objectives: [{name: contrastive}]}\n"
        "  other: {title: c, epochs: 3, resolution: 384, objectives: [{name: contrastive}]}\n"
    )
    seconds = {"low": 10.0, "high": 25.0, "other": 99.0}
    monkeypatch.setattr(
        "regroup.commands.plan._measure",
        lambda params, runs, images: {name: Measurement(seconds[name], 1) for name in runs},
    )
    with pytest.raises(SystemExit):
        main(["plan", "--captions", "1000"])
    said = capsys.readouterr().out
    steps = 4  # batches of 32 in mini's epoch of 128 captions
    assert (
        f"an epoch at 384 takes 2.5 times one at 224: +{steps * 15 / 60:.2f} minutes, the mean of 1 pair of"
        in said
    )
