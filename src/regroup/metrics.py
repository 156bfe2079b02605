"""Metrics files: what one checkpoint scored on one task, written by whatever scores, read by the report.

The only module that knows the format. A file is self-contained: each metric has a title and a unit, each
dataset the protocol that made its values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationInfo, field_validator, model_validator

from regroup.errors import RegroupError
from regroup.io import read_json, write_json
from regroup.seeds import further_seeds, is_further
from regroup.settings import parse

METRICS = "metrics.json"
"""The file's name in the folder of a task and variant."""
SEGMENTATION, MIOU = "segmentation", "miou"
"""The task and the metric that a column means where it names a dataset alone."""
BOUNDARY_MIOU = "boundary_miou"
"""A metric of segmentation that is there where the evaluation asks for it."""

Unit = Literal["percent", "rank", "count", "ratio"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(_Part):
    """What a metric is called in headings, and what its values are in."""

    title: str = Field(min_length=1)
    unit: Unit = "percent"

    @field_validator("unit", mode="before")
    @classmethod
    def _known(cls, value: object, info: ValidationInfo) -> object:
        if value not in get_args(Unit):
            of = f"metric {info.data['title']!r}: " if "title" in info.data else ""
            raise ValueError(f"{of}no such unit; there are {', '.join(get_args(Unit))}")
        return value


class DatasetScores(_Part):
    """Values on one dataset.

    Attributes:
        values: by the metric's name.
        images: how many were scored.
        protocol: what was scored and how; `name` is its short name.
        details: what else is worth keeping and is no metric.
    """

    values: dict[str, Finite] = Field(min_length=1)
    images: int = Field(ge=1)
    protocol: dict[str, JsonValue]
    details: dict[str, JsonValue] = {}


class Metrics(_Part):
    """One metrics file.

    Attributes:
        profile: whose results it is among.
        variant: what was scored.
        seed: of its training; None where nothing is trained.
        task: name of the evaluation in the profile.
        checkpoint: identifies the weights by their digest: files with the same one scored the same weights.
        main: the metric that stands for the task.
        metrics: by name.
        datasets: by name.
        settings: the evaluation's own, every default filled in.
    """

    profile: str
    variant: str
    task: str
    checkpoint: dict[str, JsonValue] = Field(min_length=1)
    seed: int | None = Field(default=None, ge=0)
    main: str
    metrics: dict[str, Metric] = Field(min_length=1)
    datasets: dict[str, DatasetScores]
    settings: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _values_are_of_known_metrics(self) -> Self:
        if self.main not in self.metrics:
            raise ValueError(f"main: no metric {self.main!r}; there are {', '.join(self.metrics)}")
        for dataset, scores in self.datasets.items():
            for name, value in scores.values.items():
                where = f"datasets.{dataset}.values.{name}"
                if name not in self.metrics:
                    raise ValueError(f"{where}: no such metric; there are {', '.join(self.metrics)}")
                if value < 0 or (self.metrics[name].unit == "percent" and value > 100):
                    raise ValueError(f"{where}: {value} is no {self.metrics[name].unit}")
        return self

    @property
    def weights(self) -> str:
        """The checkpoint's identity as one comparable string."""
        return json.dumps(self.checkpoint, sort_keys=True)

    def flat(self) -> dict[str, float]:
        """Names and values for an experiment tracker: `<dataset>/<title>`."""
        return {
            f"{dataset}/{self.metrics[name].title}": value
            for dataset, scores in self.datasets.items()
            for name, value in scores.values.items()
        }


def metrics_files(folder: Path) -> list[Path]:
    """The metrics files of what one variant scored on one task: its first seed's, then the others', by seed.

    The first is named whether it is there or not.
    """
    return [folder / METRICS, *(further / METRICS for _, further in further_seeds(folder))]


def task_folder(file: Path) -> Path:
    """Where the metrics files of the other variants on the same task lie, given one of them."""
    if file.name != METRICS:  # of an analysis
        return file.parent
    return file.parents[3 if is_further(file.parent) else 1]


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write a metrics file; the same scores give the same bytes."""
    write_json(path, metrics.model_dump(mode="json"))


def write_rows(
    rows: Mapping[str, Mapping[str, DatasetScores]],
    folder: Path,
    *,
    variant: str,
    profile: str,
    checkpoint: str,
) -> list[Path]:
    """Write `<row>.json` of each row of a printed table that an analysis fills; return the paths.

    Args:
        rows: row -> dataset -> scores of segmentation.
        folder: where to.
        variant: name of the checkpoint.
        profile: name of the profile.
        checkpoint: SHA-256 of its weights.
    """
    files = {
        folder / f"{name}.json": Metrics(
            profile=profile,
            variant=variant,
            task=SEGMENTATION,
            checkpoint=weights_of(checkpoint),
            main=MIOU,
            metrics=dict(miou_metrics()),
            datasets=dict(datasets),
        )
        for name, datasets in rows.items()
    }
    for path, metrics in files.items():
        write_metrics(path, metrics)
    return list(files)


def read_metrics(path: Path, *, profile: str) -> Metrics:
    """Read a metrics file of a profile.

    Raises:
        RegroupError: the file is missing or malformed, a percentage is not within 0 and 100, or the file is
            from another profile.
    """
    metrics = parse(Metrics, read_json(path), path)
    if metrics.profile != profile:
        raise RegroupError(
            f"{path}: profile: made by profile {metrics.profile!r}, but this report is about {profile!r}; "
            "give files of one profile"
        )
    return metrics


def weights_of(sha256: str) -> dict[str, JsonValue]:
    """What `Metrics.checkpoint` holds for weights of this digest."""
    return {"sha256": sha256}


def miou_metrics(*, boundary: bool = False) -> Mapping[str, Metric]:
    """The metrics of segmentation, which the analyses of a checkpoint share with its evaluation."""
    near = {BOUNDARY_MIOU: Metric(title="boundary mIoU")} if boundary else {}
    return {
        MIOU: Metric(title="mIoU"),
        "macc": Metric(title="mAcc"),
        "aacc": Metric(title="aAcc"),
        **near,
    }
