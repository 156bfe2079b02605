"""Average precision of boxes, by pycocotools, and the recall of proposals."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from regroup.detection.instances import Truth
from regroup.detection.proposals import Boxes, Detections, covered

Values = Float[NDArray[np.float64], " n"]


@dataclass(frozen=True)
class Precision:
    """By class, in percent; NaN for a class without an object.

    Attributes:
        ap50: average precision at IoU 0.5.
        ap: the mean over IoU 0.5 to 0.95.
        recall: objects that a proposal of whatever class covers at IoU 0.5.
        objects: how many there are of each class, crowds apart.
        found: how many of them a proposal covers.
    """

    ap50: Values
    ap: Values
    objects: Int[NDArray[np.int64], " n"]
    found: Int[NDArray[np.int64], " n"]

    @property
    def recall(self) -> Values:
        """Percent of each class's objects that a proposal covers."""
        values = np.full(len(self.objects), np.nan)
        np.divide(100.0 * self.found, self.objects, out=values, where=self.objects > 0)
        return values

    def summary(self, chosen: Sequence[int]) -> dict[str, float] | None:
        """`ap50` and `ap`, means over classes with objects, and `recall` of all these; None: no object."""
        some = np.asarray(chosen, dtype=np.int64)
        some = some[self.objects[some] > 0]
        if not len(some):
            return None
        return {
            "ap50": float(self.ap50[some].mean()),
            "ap": float(self.ap[some].mean()),
            "recall": 100 * float(self.found[some].sum() / self.objects[some].sum()),
        }


def evaluate(
    truths: Sequence[Truth],
    detections: Sequence[Detections],
    proposals: Sequence[Boxes],
    classes: int,
    most: int,
) -> Precision:
    """Score detections and proposals of images, in the same order as their objects.

    Crowds are neither found nor missed: pycocotools takes a detection on one for no fault.

    Args:
        truths: objects of each image.
        detections: of each image, at most `most`.
        proposals: of each image, at most `most`.
        classes: how many there are.
        most: detections that an image may have.
    """
    ap50, ap = _average_precision(truths, detections, classes, most)
    objects, found = np.zeros((2, classes), dtype=np.int64)
    for truth, boxes in zip(truths, proposals, strict=True):
        single = ~truth.crowd
        objects += np.bincount(truth.classes[single], minlength=classes)
        hit = truth.classes[single][covered(truth.boxes[single], boxes)]
        found += np.bincount(hit, minlength=classes)
    return Precision(ap50, ap, objects, found)


def _average_precision(
    truths: Sequence[Truth], detections: Sequence[Detections], classes: int, most: int
) -> tuple[Values, Values]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    objects = [
        _record(number, box, name, iscrowd=int(crowd))
        for number, truth in enumerate(truths)
        for box, name, crowd in zip(truth.boxes, truth.classes, truth.crowd, strict=True)
    ]
    boxes = [
        _record(number, box, name, iscrowd=0, score=float(score))
        for number, one in enumerate(detections)
        for box, name, score in zip(*one, strict=True)
    ]
    sides = []
    with redirect_stdout(io.StringIO()):  # it prints what it does
        for records in (objects, boxes):
            side = COCO()
            side.dataset = {
                "images": [{"id": number} for number in range(len(truths))],
                "categories": [{"id": number} for number in range(classes)],
                "annotations": [{"id": number, **record} for number, record in enumerate(records, start=1)],
            }
            side.createIndex()
            sides.append(side)
        scored = COCOeval(*sides, "bbox")
        scored.params.areaRng, scored.params.areaRngLbl = [[0, 1e10]], ["all"]
        scored.params.maxDets = [most]
        scored.evaluate()
        scored.accumulate()
    precision = scored.eval["precision"][..., 0, 0]  # IoU, recall, class; -1 without objects
    values = np.where(precision[0, 0] < 0, np.nan, 100 * precision.mean(axis=1))
    return values[0], values.mean(axis=0)


def _record(image: int, box: NDArray[np.float64], name: int, **more: float) -> dict[str, Any]:
    left, top, right, bottom = (float(side) for side in box)
    width, height = right - left, bottom - top
    return {
        "image_id": image,
        "category_id": int(name),
        "bbox": [left, top, width, height],
        "area": width * height,
        **more,
    }
