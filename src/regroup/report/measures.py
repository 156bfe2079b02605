"""What a claim may be about beside cells of tables: numbers that stages write next to their results."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from regroup.errors import RegroupError
from regroup.io import read_json
from regroup.metrics import SEGMENTATION
from regroup.report.columns import Column, value_of
from regroup.report.scores import Run
from regroup.settings import EachOnce, Settings, parse

CURVE, PER_CLASS = "validation.parquet", "per_class.parquet"


class Early(Settings):
    """How well a run does early: the mean of its validation curve over the first part of the epochs."""

    kind: Literal["early"]
    share: float = Field(
        gt=0, le=1, description="of the run's epochs, the point before the first step left out"
    )


class ClassIoU(Settings):
    """IoU of classes, a comparison each or their mean; one that a profile lacks is told, not judged."""

    kind: Literal["class_iou"]
    classes: Annotated[tuple[str, ...], Field(min_length=1), EachOnce]
    together: bool = False


class OfImages(Settings):
    """A number of each image, which the stage `figures` writes into `measures/`; compared image by image."""

    kind: Literal["images"]
    of: Literal["affinity_spread", "group_entropy"]


def _kind(value: object) -> object:
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)


Measure = Annotated[
    Annotated[Early, Tag("early")]
    | Annotated[ClassIoU, Tag("class_iou")]
    | Annotated[OfImages, Tag("images")],
    Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message="`kind` is early, class_iou or images",
    ),
]

SIDES: Mapping[str, Mapping[str, str]] = {
    "affinity_spread": {"dino": "DINO", "model": "GroupViT after its first stage"},
    "group_entropy": {
        "pretrained": "the pretrained model",
        "unpenalised": "fine-tuned without the penalty",
        "penalised": "with the penalty",
    },
}
"""Of each number of images: what `rows` and `to` of a claim may be, and what that is."""


class ImageValues(BaseModel):
    """A file of the folder `measures`: side -> image -> value, and what the values are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    unit: str
    runs: dict[str, str]
    values: dict[str, dict[str, float]]


def read_images(folder: Path | None, of: str) -> ImageValues | None:
    """The values of each image; None where the stage `figures` has not written them.

    Raises:
        RegroupError: the file is not as that stage writes it.
    """
    file = None if folder is None else folder / f"{of}.json"
    return parse(ImageValues, read_json(file), file) if file is not None and file.is_file() else None


@dataclass(frozen=True)
class RunValues:
    """Reads what runs left beside their metrics, each file once."""

    _tables: dict[Path, list[dict[str, Any]]] = field(default_factory=dict)

    def value(self, run: Run, column: Column, measure: Early | ClassIoU | None, part: str) -> float | None:
        """A run's value in a column, as the claim measures it; None where the run has none.

        `part` is the class, where classes are compared one by one.

        Raises:
            RegroupError: a file beside the metrics is not what the stage `evaluate` writes.
        """
        if measure is None:
            return next((v.value for one in run.tasks if (v := value_of(one, column)) is not None), None)
        name = CURVE if isinstance(measure, Early) else PER_CLASS
        rows = self._read(run, name)
        try:
            if isinstance(measure, Early):
                return _early(rows, f"val_{column}", measure.share)
            wanted = {part} if part else set(measure.classes)
            mine = [row for row in rows if row["dataset"] == column and row["class"] in wanted]
            found = [float(row["iou"]) for row in mine if row["predictable"] and row["true"]]
            return statistics.fmean(found) if found else None
        except (KeyError, TypeError) as error:
            raise RegroupError(
                f"{run.folder(SEGMENTATION)}/{name}: no {error} in it; run the stage `evaluate` again"
            ) from None

    def scored(self, run: Run) -> bool:
        """Whether the IoU of classes is known of a run."""
        return bool(self._read(run, PER_CLASS))

    def _read(self, run: Run, name: str) -> list[dict[str, Any]]:
        folder = run.folder(SEGMENTATION)
        file = None if folder is None else folder / name
        if file is None or not file.is_file():
            return []
        if file not in self._tables:
            try:
                self._tables[file] = pq.read_table(file).to_pylist()
            except (OSError, ValueError) as error:
                raise RegroupError(
                    f"{file}: cannot be read ({error}); run the stage `evaluate` again"
                ) from None
        return self._tables[file]


def _early(rows: list[dict[str, Any]], column: str, share: float) -> float | None:
    if not rows or column not in rows[0]:
        return None
    last = max(row["epoch"] for row in rows)
    first = [float(row[column]) for row in rows if 0 < row["epoch"] <= share * last]
    return statistics.fmean(first) if first else None
