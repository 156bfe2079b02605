"""The worst images: which they are, what is shown of them, and the command."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from regroup.analysis.qualitative import predict
from regroup.analysis.worst import BadImage, find_worst, worst_table, write_worst
from regroup.cli import main
from regroup.model import GroupViT, save_checkpoint
from regroup.segmentation.evaluation import evaluate_all
from regroup.segmentation.image_scores import ImageScore
from regroup.segmentation.resolved import resolve_dataset
from regroup.segmentation.settings import DatasetParams, EvaluateParams

from .test_field_protocols import write_dataset

VOC = DatasetParams(source="voc12", protocol="voc", threshold=0.1)
SMALL = EvaluateParams(
    short_side=48, window=48, stride=24, device="cpu", per_image=True, datasets={"voc": VOC}
)


def test_they_are_those_of_the_lowest_scores_as_they_are_scored(model: GroupViT, voc: Path) -> None:
    found = find_worst(model, SMALL.datasets, SMALL, {"voc12": voc}, number=3)["voc"]
    every = evaluate_all(model, SMALL, {"voc12": voc}).datasets["voc"].per_image
    assert every is not None
    assert [one.score for one in found.images] == sorted(every, key=lambda one: one.miou)[:3]
    assert found.scored == 5
    for one in found.images:
        scored = one.truth != 255
        right = 100 * (one.predicted == one.truth)[scored].mean()
        assert right == pytest.approx(one.score.accuracy), "the prediction that is shown is the one scored"


def test_the_mistake_that_most_pixels_are_of() -> None:
    dataset = resolve_dataset(VOC, Path())
    picture = np.zeros((2, 4, 3), dtype=np.uint8)
    truth = np.array([[8, 8, 8, 255], [12, 0, 0, 255]], dtype=np.uint8)
    wrong = np.array([[12, 12, 8, 1], [8, 0, 0, 1]])
    score = ImageScore("a.jpg", 1.0, 1.0, 6, 3)
    assert BadImage(score, picture, truth, wrong).mistake(dataset) == ("cat", "dog", 2 / 6)
    right = np.where(truth == 255, 3, truth)
    assert BadImage(score, picture, truth, right).mistake(dataset) == ("", "", 0.0)


def test_classes_beyond_255_are_shown_by_their_names(model: GroupViT, tmp_path: Path) -> None:
    write_dataset(tmp_path, "ade847")
    dataset = DatasetParams(source="ade", protocol="ade847")
    params = SMALL.model_copy(update={"datasets": {"full": dataset}})
    found = find_worst(model, params.datasets, params, {"ade": tmp_path}, number=9)
    assert len(found["full"].images) == 2, "no more than there are"
    first = found["full"].images[0]
    assert int(first.truth[first.truth != 65_535].max()) > 255
    assert np.array_equal(first.predicted, predict(model, first.picture, found["full"].dataset, params))
    out = tmp_path / "out"
    out.mkdir()
    paths = write_worst(found, out, checkpoint="small", profile="mine", drawn=False)
    assert [path.name for path in paths[:2]] == ["worst.csv", "worst-full.png"]
    [row, _] = csv.DictReader(worst_table(found).splitlines())
    assert row["true"] in found["full"].dataset.protocol.classes


def test_the_command_shows_them_outside_the_study(
    model: GroupViT, voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    root = tmp_path / "project"
    root.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(Path(__file__).parents[2] / name, root / name)
    save_checkpoint(model, root / "runs/mini/mine")
    monkeypatch.chdir(root)
    words = ["worst", "runs/mini/mine", "--datasets", "voc", "--root", f"voc12={voc}"]

    def status(*more: str) -> int:
        with pytest.raises(SystemExit) as end:
            main([*words, *more])
        return int(end.value.code or 0)

    assert status("-n", "2") == 0
    said = capsys.readouterr().out
    assert "voc: the worst of 5 images" in said
    assert said.count("mIoU") == 2
    folder = root / "out/worst/mini/mine"
    assert {path.suffix for path in folder.glob("worst-voc.*")} == {".png", ".svg", ".npz", ".json"}
    assert len((folder / "worst.csv").read_text().splitlines()) == 3
    assert status("-n", "0") == 2
    assert (
        "argument -n/--images: '0' is not possible: a whole number from 1 to 100" in capsys.readouterr().err
    )
