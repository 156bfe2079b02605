"""Metrics files: what one checkpoint scored, as evaluation and the analyses write it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from regroup.errors import RegroupError
from regroup.io import read_json
from regroup.report.reference import Dataset
from regroup.settings import parse


class _Model(BaseModel):
    # evaluation may write more than a table needs, so other keys are left alone here
    model_config = ConfigDict(frozen=True, extra="ignore")


class DatasetScores(_Model):
    """Scores on one dataset, in percent, and how they were made."""

    miou: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
    images: int = Field(ge=1)
    protocol: dict[str, JsonValue]


class Metrics(_Model):
    """One metrics file: `{"variant", "profile", "checkpoint", "datasets": {"coco": {"miou", ...}, ...}}`.

    `checkpoint` identifies the weights by their digest: two files with the same `checkpoint` scored the same
    weights.
    """

    variant: str
    profile: str
    checkpoint: dict[str, JsonValue] = Field(min_length=1)
    datasets: dict[str, DatasetScores]

    @property
    def weights(self) -> str:
        """The checkpoint's identity as one comparable string."""
        return json.dumps(self.checkpoint, sort_keys=True)


def read_metrics(path: Path, *, profile: str) -> Metrics:
    """Read a metrics file of a profile.

    Raises:
        RegroupError: the file is missing or malformed, a score is not within 0 and 100, or the file is from
            another profile.
    """
    metrics = parse(Metrics, read_json(path), path)
    if metrics.profile != profile:
        raise RegroupError(
            f"{path}: profile: made by profile {metrics.profile!r}, but this report is about {profile!r}; "
            "give files of one profile"
        )
    return metrics


def read_runs(paths: Sequence[Path], *, profile: str) -> tuple[Metrics, ...]:
    """Read the metrics files of one row's runs (several: seeds); files that do not exist yet are left out.

    Raises:
        RegroupError: as `read_metrics`; or two of the files scored the same weights, which would make the
            spread over seeds look smaller than it is.
    """
    there = [path for path in sorted(set(paths)) if path.is_file()]
    runs = [(path, read_metrics(path, profile=_whose(path, profile))) for path in there]
    seen: dict[str, Path] = {}
    for path, run in runs:
        if run.weights in seen:
            raise RegroupError(
                f"{path}: checkpoint: the same weights as in {seen[run.weights]}; "
                "one run cannot count as two seeds, so list only one of them"
            )
        seen[run.weights] = path
    return tuple(run for _, run in runs)


def _whose(path: Path, profile: str) -> str:
    """What results a file is of: those it lies among, which for a borrowed run are another study's."""
    return path.parts[1] if path.parts[0] == "reports" else profile


@dataclass(frozen=True)
class Score:
    """mIoU in percent over `runs` runs: the mean, and for several the sample standard deviation."""

    mean: float
    std: float | None = None
    runs: int = 1


def score(runs: Sequence[Metrics], dataset: Dataset) -> Score | None:
    """Mean and spread of the runs that were scored on `dataset`; None where none was."""
    values = [run.datasets[dataset].miou for run in runs if dataset in run.datasets]
    if not values:
        return None
    # fmean and stdev are exactly rounded, so the order of the runs does not matter
    return Score(
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        runs=len(values),
    )


def protocol_name(scores: DatasetScores) -> str | None:
    """The protocol's name, where the metrics file gives one."""
    name: Any = scores.protocol.get("name")
    return str(name) if name else None
