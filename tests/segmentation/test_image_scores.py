"""Scores of single images, and what the options of the task leave beside the metrics."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from regroup.model import GroupViT
from regroup.segmentation.evaluation import evaluate_all
from regroup.segmentation.image_scores import ImageScore, image_score, worst
from regroup.segmentation.settings import DatasetParams, EvaluateParams
from regroup.tasks import Evaluation, Work

DATASETS = {"voc": DatasetParams(source="voc12", protocol="voc", threshold=0.1)}
SMALL = EvaluateParams(short_side=48, window=48, stride=24, device="cpu", datasets=DATASETS)


def test_an_images_scores_are_those_of_its_pixels() -> None:
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 4, 300), rng.integers(0, 5, 300)
    confusion = np.zeros((5, 5), dtype=np.int64)
    np.add.at(confusion, (true, predicted), 1)
    score = image_score(Path("/data/a/b.jpg"), Path("/data"), confusion)
    ious = []
    for number in range(4):  # 4 is predicted, but not shown
        both = sum(t == p == number for t, p in zip(true, predicted, strict=True))
        either = sum(number in (t, p) for t, p in zip(true, predicted, strict=True))
        ious.append(100 * both / either)
    assert score.miou == pytest.approx(sum(ious) / 4, abs=1e-12)
    assert score.accuracy == pytest.approx(100 * (true == predicted).mean(), abs=1e-12)
    assert (score.image, score.pixels, score.classes) == ("a/b.jpg", 300, 4)


def test_the_worst_are_those_of_the_lowest_miou_and_never_unscored_ones() -> None:
    def one(miou: float, accuracy: float, pixels: int = 5) -> ImageScore:
        return ImageScore("i", miou, accuracy, pixels, 1)

    scores = [one(50, 1), one(math.nan, math.nan, 0), one(10, 9), one(10, 8), one(10, 8)]
    assert worst(scores, 3) == [3, 4, 2]
    assert worst(scores, 100) == [3, 4, 2, 0]


def test_options_add_a_metric_and_a_table_and_change_nothing_else(model: GroupViT, voc: Path) -> None:
    work = Work({"voc12": voc})
    nothing = voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000004.png"
    Image.fromarray(np.full((40, 40), 255, dtype=np.uint8)).convert("P").save(nothing)
    plain = Evaluation("segmentation", "segmentation", SMALL).run(model, work)
    options = SMALL.model_copy(update={"boundary": 0.02, "per_image": True})
    full = Evaluation("segmentation", "segmentation", options).run(model, work)
    assert set(full.metrics) - set(plain.metrics) == {"boundary_miou"}
    assert set(full.files) - set(plain.files) == {"images.parquet"}
    values = dict(full.datasets["voc"].values)
    assert 0 < values.pop("boundary_miou") < 100
    assert values == plain.datasets["voc"].values
    scores = evaluate_all(model, options, {"voc12": voc}).datasets["voc"]
    rows = scores.per_image
    assert rows is not None
    assert [row.image[-15:] for row in rows] == [f"2007_{i:06d}.jpg" for i in range(5)]
    assert sum(row.pixels for row in rows) == scores.confusion.sum()
    right = sum(row.accuracy * row.pixels for row in rows if row.pixels)
    assert right / scores.confusion.sum() == pytest.approx(scores.aacc)
    path = voc / "images.parquet"
    path.write_bytes(full.files["images.parquet"])
    table = pq.read_table(path).to_pylist()
    assert [row["image"] for row in table] == [row.image for row in rows]
    assert table[4]["miou"] is None, "nothing of it is scored"
    assert (table[4]["pixels"], table[4]["accuracy"]) == (0, None)
    assert full.files["per_class.csv"].decode().splitlines()[0].endswith("predicted,boundary_iou")


@pytest.mark.parametrize("share", [0, -0.1, 0.6, float("nan")])
def test_a_share_of_the_diagonal_has_a_range(share: float) -> None:
    with pytest.raises(ValidationError, match="boundary"):
        EvaluateParams(datasets=DATASETS, boundary=share)
