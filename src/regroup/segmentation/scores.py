"""Pixel counts, and the scores that follow from them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from regroup import metrics
from regroup.io import text_bytes
from regroup.segmentation.boundary import BoundaryCounter
from regroup.segmentation.image_scores import PER_IMAGE, ImageScore, to_table
from regroup.segmentation.mm import IoUMetric, quiet
from regroup.segmentation.protocols import IGNORED

Counts = NDArray[np.int64]

PER_CLASS = "per_class.parquet"
"""The per-class scores beside a metrics file."""


class PixelCounter:
    """Counts pixels by true and predicted class; gives mmseg's `IoUMetric` the areas it would count."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        """Start at zero."""
        self.classes = classes
        self.confusion: Counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        self._areas: list[tuple[Tensor, ...]] = []

    def add(self, predicted: Tensor, mask: Tensor) -> None:
        """Count one image: class ids [H, W] against a mask [H, W], whose 255 is not counted."""
        self.add_rows(predicted, true_rows(mask, len(self.classes)))

    def add_rows(self, predicted: Tensor, rows: Tensor) -> Counts:
        """Like `add`, with the mask prepared by `true_rows`, once for any number of predictions.

        Returns:
            The image's own counts, int64 [classes, classes].
        """
        number = len(self.classes)
        counts = torch.bincount((rows + predicted).flatten(), minlength=(number + 1) * number)
        one = counts.view(number + 1, number)[:-1].cpu()
        self.confusion += one.numpy()
        intersect, found, true = one.diagonal(), one.sum(0), one.sum(1)
        # IoUMetric counts an image's areas in float32, exact up to 16 million pixels
        self._areas.append(tuple(area.float() for area in (intersect, found + true - intersect, found, true)))
        return one.numpy()

    def iou_metric(self) -> dict[str, float]:
        """MIoU, mAcc and aAcc as mmseg's `IoUMetric` gives them: percent, rounded to two digits."""
        with quiet():
            metric = IoUMetric(iou_metrics=["mIoU"])
            metric.dataset_meta = {"classes": self.classes}
            metric.results = self._areas
            values = metric.evaluate(len(self._areas))
        # rounded in float32, so rounded again
        return {key: round(float(values[key]), 2) for key in ("mIoU", "mAcc", "aAcc")}


def true_rows(mask: Tensor, classes: int, ignored: int = IGNORED) -> Tensor:
    """First cell of each pixel's row in a flat confusion matrix, int32 [H, W].

    A pixel that is not scored (`ignored`) gets one more row, below those of the classes.
    """
    return torch.where(mask == ignored, classes, mask.int()) * classes


@dataclass(frozen=True)
class DatasetScores:
    """Scores of one model on one dataset.

    Attributes:
        classes: the protocol's class names, in the order of ids.
        predictable: for each class, whether it could be predicted.
        confusion: int64 [classes, classes], pixels by true class and predicted class.
        images: how many were scored.
        iou_metric: what mmseg's `IoUMetric` prints for these pixels.
        protocol: the protocol and the settings used, JSON-able.
        boundary: intersections and unions near contours, by class; None: they were not asked for.
        per_image: the score of each image, in the dataset's order; None likewise.
    """

    classes: tuple[str, ...]
    predictable: tuple[bool, ...]
    confusion: Counts
    images: int
    iou_metric: Mapping[str, float]
    protocol: Mapping[str, Any]
    boundary: BoundaryCounter | None = None
    per_image: Sequence[ImageScore] | None = None

    @cached_property
    def iou(self) -> NDArray[np.float64]:
        """Percent for each class (eq. 47, the right way up); NaN for one neither shown nor predicted."""
        intersection = self.confusion.diagonal()
        return _percent(intersection, self.confusion.sum(0) + self.confusion.sum(1) - intersection)

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """Percent of each class's pixels that are predicted as it; NaN for a class that is not shown."""
        return _percent(self.confusion.diagonal(), self.confusion.sum(1))

    @cached_property
    def boundary_iou(self) -> NDArray[np.float64]:
        """Percent for each class, near contours alone; NaN as for `iou`, or where it was not asked for."""
        if self.boundary is None:
            return np.full(len(self.classes), np.nan)
        return _percent(self.boundary.intersection, self.boundary.union)

    @property
    def miou(self) -> float:
        """Mean IoU in percent over the classes that have one (eq. 48), unrounded."""
        return _mean(self.iou)

    @property
    def macc(self) -> float:
        """Mean accuracy in percent over the classes shown, unrounded."""
        return _mean(self.accuracy)

    @property
    def aacc(self) -> float:
        """Percent of all scored pixels that are right, unrounded."""
        total = int(self.confusion.sum())
        return 100 * int(self.confusion.trace()) / total if total else 0.0

    def for_metrics(self) -> metrics.DatasetScores:
        """Everything but the per-class table, as it stands in a metrics file."""
        near = {} if self.boundary is None else {metrics.BOUNDARY_MIOU: _mean(self.boundary_iou)}
        return metrics.DatasetScores(
            values={metrics.MIOU: self.miou, "macc": self.macc, "aacc": self.aacc, **near},
            images=self.images,
            protocol=dict(self.protocol),
            details={
                "classes_scored": int(np.isfinite(self.iou).sum()),
                "iou_metric": dict(self.iou_metric),
            },
        )

    def to_table(self, dataset: str) -> pa.Table:
        """One row a class: `iou`, `accuracy` in percent, areas in pixels, a row of the confusion matrix.

        Where it was asked for, `boundary_iou` comes last.
        """
        diagonal = self.confusion.diagonal()
        number = len(self.classes)
        table = pa.table(
            {
                "dataset": pa.array([dataset] * number, pa.string()),
                "class_id": pa.array(range(number), pa.int32()),
                "class": pa.array(self.classes, pa.string()),
                "predictable": pa.array(self.predictable, pa.bool_()),
                "iou": pa.array(self.iou, pa.float64(), mask=np.isnan(self.iou)),
                "accuracy": pa.array(self.accuracy, pa.float64(), mask=np.isnan(self.accuracy)),
                "intersection": pa.array(diagonal, pa.int64()),
                "predicted": pa.array(self.confusion.sum(0), pa.int64()),
                "true": pa.array(self.confusion.sum(1), pa.int64()),
                "confusion": pa.array(list(self.confusion), pa.list_(pa.int64())),
            }
        )
        if self.boundary is None:
            return table
        near = pa.array(self.boundary_iou, pa.float64(), mask=np.isnan(self.boundary_iou))
        return table.append_column("boundary_iou", near)


@dataclass(frozen=True)
class Scores:
    """Scores of one model on several datasets."""

    datasets: Mapping[str, DatasetScores]

    def files(self) -> dict[str, bytes]:
        """The per-class table: `per_class.parquet` has `DatasetScores.to_table` of all datasets.

        `per_class.csv` is to be read: without the confusion matrix, percent to two digits. `images.parquet`
        has a row an image, where that was asked for.
        """
        table = pa.concat_tables([scores.to_table(name) for name, scores in self.datasets.items()])
        files = {PER_CLASS: _parquet(table), "per_class.csv": text_bytes(_readable(table))}
        images = {name: one.per_image for name, one in self.datasets.items() if one.per_image is not None}
        return {**files, PER_IMAGE: _parquet(to_table(images))} if images else files


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def _readable(table: pa.Table) -> str:
    columns = ["dataset", "class", "predictable", "iou", "accuracy", "true", "predicted"]
    columns += [name for name in table.column_names if name == "boundary_iou"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in table.select(columns).to_pylist():
        writer.writerow(f"{value:.2f}" if isinstance(value, float) else value for value in row.values())
    return text.getvalue()


def _percent(part: Counts, whole: Counts) -> NDArray[np.float64]:
    result = np.full(len(part), np.nan)
    np.divide(100.0 * part, whole, out=result, where=whole > 0)
    return result


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else 0.0
