"""Columns of tables: one metric of one task on one dataset, by a short name.

`coco` alone is mIoU on COCO, as in the thesis; `retrieval/text_r1/coco` is a metric of another task, and
`retrieval/coco` its main one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from regroup.metrics import MIOU, SEGMENTATION, DatasetScores, Metric, Metrics

DATASET_TITLES: Mapping[str, str] = {
    "coco": "COCO",
    "voc": "PVOC",
    "context": "PContext",
    "ade": "ADE20K",
}
"""Datasets as the thesis prints them in headings."""

_PART = r"[a-z0-9][a-z0-9_-]*"
_NAME = re.compile(rf"{_PART}(/{_PART}){{0,2}}")


def _spelling(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a column is DATASET (its mIoU), TASK/DATASET (the main metric) or TASK/METRIC/DATASET"
        )
    return name


Column = Annotated[str, AfterValidator(_spelling)]
"""A column by its short name."""


@dataclass(frozen=True)
class Place:
    """What a column shows; `metric` is None for the task's main one."""

    task: str
    metric: str | None
    dataset: str

    @classmethod
    def of(cls, column: Column) -> Place:
        """The place that a short name means."""
        *parts, dataset = column.split("/")
        if not parts:
            return cls(SEGMENTATION, MIOU, dataset)
        return cls(parts[0], parts[1] if len(parts) > 1 else None, dataset)


@dataclass(frozen=True)
class Value:
    """What a metrics file has at a place; `name` is the metric's."""

    name: str
    value: float
    metric: Metric
    scores: DatasetScores


def value_of(metrics: Metrics, column: Column) -> Value | None:
    """The value of a column in a metrics file; None where it is not about that."""
    place = Place.of(column)
    name = place.metric or metrics.main
    scores = metrics.datasets.get(place.dataset)
    if metrics.task != place.task or scores is None or name not in scores.values:
        return None
    return Value(name, scores.values[name], metrics.metrics[name], scores)


def column_title(column: Column) -> str:
    """Heading of a column that has no other."""
    place = Place.of(column)
    dataset = DATASET_TITLES.get(place.dataset, place.dataset)
    if "/" not in column:
        return dataset
    return f"{dataset} {place.metric or place.task}"


def in_order(columns: Iterable[Column]) -> list[Column]:
    """Each once: the thesis's datasets in its order, then others as they come."""
    found = dict.fromkeys(columns)
    return [
        *(name for name in DATASET_TITLES if name in found),
        *(c for c in found if c not in DATASET_TITLES),
    ]


def is_miou(column: Column) -> bool:
    """Whether a column is mIoU, which a table need not say of each."""
    place = Place.of(column)
    return (place.task, place.metric) == (SEGMENTATION, MIOU)
