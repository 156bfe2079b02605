"""Metrics files for the tests of the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regroup.metrics import METRICS, DatasetScores, Metric, Metrics, write_metrics

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
