from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from regroup.backbones import load_checkpoint
from regroup.errors import RegroupError
from regroup.model import GroupViT, save_checkpoint
from regroup.scoring.results import write_result
from regroup.segmentation.evaluation import evaluate, evaluate_decisions
from regroup.segmentation.inference import Decision
from regroup.segmentation.resolved import resolve_dataset
from regroup.segmentation.scores import DatasetScores, PixelCounter
from regroup.segmentation.settings import DatasetParams, EvaluateParams, InferenceParams
from regroup.tasks import Evaluation, Work

from .mmseg_reference import mmseg_scores

SMALL = InferenceParams(short_side=48, window=48, stride=24)
VOC = DatasetParams(source="voc12", protocol="voc", threshold=0.1)


def test_scores_are_mmsegs_own(model: GroupViT, voc: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scores = evaluate(model, resolve_dataset(VOC, voc), SMALL)
    expected, metric = mmseg_scores(model, VOC, SMALL, voc)
    assert scores.iou_metric == expected
    assert {
        "mIoU": round(scores.miou, 2),
        "mAcc": round(scores.macc, 2),
        "aAcc": round(scores.aacc, 2),
    } == expected
    intersect, union, _, _ = (sum(areas).double().numpy() for areas in zip(*metric.results, strict=True))
    with np.errstate(invalid="ignore"):
        assert np.array_equal(scores.iou, 100 * intersect / union, equal_nan=True)
    assert 0 < scores.miou < 100
    assert scores.images == 5
    assert capfd.readouterr() == ("", ""), "neither mmengine's log nor anything else is printed"


def test_several_thresholds_in_one_pass_are_those_one_by_one(model: GroupViT, voc: Path) -> None:
    decisions = [Decision(0.3, 5), Decision(0.05, 5), Decision(0.3, 1), Decision(0.95, 21)]
    together = evaluate_decisions(model, resolve_dataset(VOC, voc), SMALL, decisions)
    for decision, scores in zip(decisions, together, strict=True):
        params = SMALL.model_copy(update={"top_k": decision.top_k})
        alone = evaluate(
            model, resolve_dataset(VOC.model_copy(update={"threshold": decision.threshold}), voc), params
        )
        assert np.array_equal(scores.confusion, alone.confusion)
        assert scores.protocol == alone.protocol
    assert len({scores.miou for scores in together}) > 1


def test_counts_by_hand() -> None:
    counter = PixelCounter(("background", "cat", "dog", "cow"))
    mask = torch.tensor([[0, 0, 1, 255], [1, 1, 2, 255]], dtype=torch.uint8)
    predicted = torch.tensor([[0, 1, 1, 1], [1, 0, 1, 2]], dtype=torch.int16)
    counter.add(predicted, mask)
    scores = DatasetScores(counter.classes, (True,) * 4, counter.confusion, 1, counter.iou_metric(), {})
    assert counter.confusion.tolist() == [[1, 1, 0, 0], [1, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert scores.iou[:3].tolist() == pytest.approx([100 / 3, 40, 0])
    assert np.isnan(scores.iou[3])
    assert scores.miou == pytest.approx((100 / 3 + 40) / 3)
    assert scores.macc == pytest.approx((50 + 200 / 3) / 3)
    assert scores.aacc == pytest.approx(50)
    assert scores.iou_metric == {"mIoU": 24.44, "mAcc": 38.89, "aAcc": 50.0}


def test_a_restricted_protocol_scores_a_class_left_out_as_zero(
    model: GroupViT, voc: Path, monkeypatch
) -> None:
    monkeypatch.setattr("regroup.segmentation.resolved.drawn_names", lambda source: ["bird", "sofa"])
    scores = evaluate(model, resolve_dataset(VOC.model_copy(update={"names": "drawn"}), voc), SMALL)
    assert [i for i, known in enumerate(scores.predictable) if known] == [0, 3, 18]
    assert set(scores.confusion.sum(0).nonzero()[0]) <= {0, 3, 18}
    shown = scores.confusion.sum(1) > 0
    assert all(scores.iou[i] == 0 for i in range(21) if shown[i] and not scores.predictable[i])
    assert scores.protocol["names"] == "drawn"


def test_files_hold_scores_protocol_and_classes_in_the_same_bytes_twice(
    model: GroupViT, voc: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    save_checkpoint(model, checkpoint)
    params = EvaluateParams(**SMALL.model_dump(), datasets={"voc": VOC})
    contents = []
    for _ in range(2):
        one = Evaluation("segmentation", "segmentation", params)
        result = one.run(load_checkpoint(checkpoint), Work({"voc12": voc}))
        found = write_result(
            result, one, tmp_path / "out", variant="original", profile="tiny", checkpoint=checkpoint
        )
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"metrics.json", "per_class.parquet", "per_class.csv"}
    written = json.loads(contents[0]["metrics.json"])
    assert (written["variant"], written["task"], written["main"]) == ("original", "segmentation", "miou")
    assert len(written["checkpoint"]["sha256"]) == 64
    assert written["settings"]["window"] == SMALL.window
    dataset = written["datasets"]["voc"]
    scored = evaluate(load_checkpoint(checkpoint), resolve_dataset(VOC, voc), SMALL)
    assert dataset["values"]["miou"] == scored.miou == found.flat()["voc/mIoU"]
    assert dataset["protocol"]["threshold"] == 0.1
    assert dataset["protocol"]["short_side"] == 48
    table = tmp_path / "out" / "per_class.parquet"
    rows = pq.read_table(table).to_pylist()
    assert [row["class"] for row in rows][:3] == ["background", "aeroplane", "bicycle"]
    assert np.nanmean([np.nan if row["iou"] is None else row["iou"] for row in rows]) == pytest.approx(
        dataset["values"]["miou"]
    )
    assert rows[2]["confusion"][2] == rows[2]["intersection"]
    with table.with_suffix(".csv").open(newline="") as file:
        readable = list(csv.DictReader(file))
    assert [row["iou"] for row in readable] == ["" if r["iou"] is None else f"{r['iou']:.2f}" for r in rows]


def test_masks_without_a_scored_pixel_are_an_error_not_a_score(model: GroupViT, voc: Path) -> None:
    for path in (voc / "VOCdevkit/VOC2012/SegmentationClass").iterdir():
        with Image.open(path) as mask:
            size = mask.size
        Image.new("L", size, 255).save(path)
    with pytest.raises(RegroupError, match="SegmentationClass: no pixel has a label of protocol voc"):
        evaluate(model, resolve_dataset(VOC, voc), SMALL)


def test_the_models_mode_is_left_as_it_was(model: GroupViT, voc: Path) -> None:
    model.train()
    try:
        trained = evaluate(model, resolve_dataset(VOC, voc), SMALL)
        assert model.training
    finally:
        model.eval()
    assert np.array_equal(trained.confusion, evaluate(model, resolve_dataset(VOC, voc), SMALL).confusion)
