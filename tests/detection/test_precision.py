"""Average precision against pycocotools used directly, on detections made by hand, and closed forms."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from regroup.detection.instances import Truth
from regroup.detection.precision import evaluate
from regroup.detection.proposals import Detections
from regroup.records import ImageRecord


def truth(boxes: list[list[float]], classes: list[int], crowd: list[bool] | None = None) -> Truth:
    return Truth(
        ImageRecord(0, "a.jpg", 100, 100),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(classes, dtype=np.int64),
        np.array(crowd or [False] * len(boxes), dtype=bool),
    )


def detections(boxes: list[list[float]], classes: list[int], scores: list[float]) -> Detections:
    return Detections(
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(classes, dtype=np.int64),
        np.array(scores, dtype=np.float64),
    )


def random_side(seed: int, images: int) -> tuple[list[Truth], list[Detections]]:
    """Objects of three classes out of four, crowds among them, and detections near to and far from them."""
    draw = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        count = int(draw.integers(1, 6))
        corner = draw.integers(0, 60, (count, 2))
        boxes = np.concatenate([corner, corner + draw.integers(5, 40, (count, 2))], axis=1).astype(float)
        classes = draw.integers(0, 3, count)
        truths.append(truth(boxes.tolist(), classes.tolist(), (draw.random(count) < 0.2).tolist()))
        near = boxes + draw.integers(-5, 6, boxes.shape)
        stray = np.array([[0.0, 0, 30, 30], [50, 50, 99, 99]])
        guesses = [*np.where(draw.random(count) < 0.7, classes, 3).tolist(), 0, 1]
        found.append(detections([*near.tolist(), *stray.tolist()], guesses, draw.random(count + 2).tolist()))
    return truths, found


def corner_and_size(box: Any) -> list[Any]:
    """A box by its corners as COCO writes it."""
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def by_pycocotools(truths: list[Truth], found: list[Detections], folder: Path) -> COCOeval:
    """The usual way, through a file and `loadRes`, all areas and numbers of detections."""
    annotations = [
        {"id": 1000 * i + k + 1, "image_id": i, "category_id": int(c) + 1, "bbox": corner_and_size(box),
         "area": (box[2] - box[0]) * (box[3] - box[1]), "iscrowd": int(crowd)}
        for i, one in enumerate(truths)
        for k, (box, c, crowd) in enumerate(zip(one.boxes.tolist(), one.classes, one.crowd, strict=True))
    ]  # fmt: skip
    results = [
        {"image_id": i, "category_id": int(c) + 1, "bbox": corner_and_size(box), "score": float(score)}
        for i, one in enumerate(found)
        for box, c, score in zip(one.boxes.tolist(), one.classes, one.scores, strict=True)
    ]
    file = folder / "gt.json"
    images = [{"id": i} for i in range(len(truths))]
    categories = [{"id": c + 1, "name": str(c)} for c in range(4)]
    file.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    with contextlib.redirect_stdout(io.StringIO()):
        side = COCO(str(file))
        scored = COCOeval(side, side.loadRes(results), "bbox")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return scored


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_pycocotools_own(
    seed: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    truths, found = random_side(seed, 12)
    ours = evaluate(truths, found, [one.boxes for one in found], 4, 100)
    assert capfd.readouterr().out == ""
    theirs = by_pycocotools(truths, found, tmp_path)
    summary = ours.summary(range(4))
    assert summary is not None
    assert summary["ap"] == pytest.approx(100 * theirs.stats[0])
    assert summary["ap50"] == pytest.approx(100 * theirs.stats[1])
    assert 5 < summary["ap50"] < 95
    assert np.isnan(ours.ap50[3])
    assert np.isnan(ours.recall[3])
    for name in range(3):
        assert ours.ap50[name] == pytest.approx(100 * theirs.eval["precision"][0, :, name, 0, 2].mean())
    assert ours.summary([3]) is None
    alone = ours.summary([1, 3])
    assert alone is not None
    assert alone["ap50"] == ours.ap50[1]


def test_a_perfect_detector_has_all() -> None:
    truths, _ = random_side(7, 5)
    exact = [detections(one.boxes.tolist(), one.classes.tolist(), [0.5] * len(one.boxes)) for one in truths]
    found = evaluate(truths, exact, [one.boxes for one in truths], 4, 100)
    assert found.summary(range(4)) == pytest.approx({"ap50": 100, "ap": 100, "recall": 100})


def test_nothing_proposed_is_nothing_found() -> None:
    truths, _ = random_side(7, 5)
    none = [detections([], [], [])] * 5
    found = evaluate(truths, none, [one.boxes for one in none], 4, 100)
    assert found.summary(range(4)) == {"ap50": 0, "ap": 0, "recall": 0}


def test_a_wrong_detection_that_is_surer_halves_precision() -> None:
    """One object, found second: precision is a half at every recall."""
    one = truth([[0, 0, 10, 10]], [0])
    found = detections([[50, 50, 60, 60], [0, 0, 10, 10]], [0, 0], [0.9, 0.8])
    scores = evaluate([one], [found], [found.boxes], 1, 100).summary([0])
    assert scores == pytest.approx({"ap50": 50, "ap": 50, "recall": 100})


def test_a_crowd_is_neither_found_nor_missed() -> None:
    """A detection on a crowd is no fault; a class of crowds alone has no score."""
    one = truth([[0, 0, 10, 10], [50, 50, 100, 100], [0, 0, 90, 90]], [0, 0, 1], [False, True, True])
    found = detections([[60, 60, 80, 80], [0, 0, 10, 10], [0, 0, 90, 90]], [0, 0, 1], [0.9, 0.8, 0.7])
    scores = evaluate([one], [found], [found.boxes], 2, 100)
    assert scores.summary([0, 1]) == pytest.approx({"ap50": 100, "ap": 100, "recall": 100})
    assert scores.objects.tolist() == [1, 0]
