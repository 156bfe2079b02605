"""Metrics files for the tests of the report, and tables read back."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from regroup.metrics import METRICS, DatasetScores, Metric, Metrics, write_metrics
from regroup.report.table_view import write_table
from regroup.report.tables import Table

MIOU = {"miou": Metric(title="mIoU")}


def make_metrics(
    folder: Path,
    name: str,
    scores: Mapping[str, Mapping[str, float]],
    *,
    task: str = "segmentation",
    metrics: Mapping[str, Metric] = MIOU,
    profile: str = "mini",
    protocol: str | None = None,
    chance: Mapping[str, float] | None = None,
    seed: int | None = None,
) -> Path:
    """Write the metrics file of weights called `name`; `folder` is that of all metrics.

    `scores`: dataset -> metric -> value; the first of `metrics` is the main one; a protocol is called as its
    dataset where none is named; `chance` is what a random answer scores, by metric.
    """
    path = folder / task / name / METRICS
    found = Metrics(
        profile=profile,
        variant=name,
        task=task,
        checkpoint={"digest": name},
        seed=seed,
        main=next(iter(metrics)),
        metrics=dict(metrics),
        datasets={
            dataset: DatasetScores(
                values=dict(values),
                images=5,
                protocol={"name": protocol or dataset},
                details={} if chance is None else {"chance": dict(chance)},
            )
            for dataset, values in scores.items()
        },
    )
    write_metrics(path, found)
    return path


def read_csv(table: Table, folder: Path) -> dict[str, dict[str, str]]:
    """Write a table; its CSV by row."""
    (file,) = [path for path in write_table(table, folder) if path.suffix == ".csv"]
    with file.open(newline="") as lines:
        return {row["row"]: row for row in csv.DictReader(lines)}
