"""Metrics files to build tables from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from regroup.metrics import METRICS, DatasetScores, Metric, Metrics, write_metrics

WriteMetrics = Callable[..., Path]


@pytest.fixture
def metrics(tmp_path: Path) -> WriteMetrics:
    """Write a metrics file: a name for the weights, the profile, and mIoU by dataset."""

    def write(name: str, *, profile: str = "mini", protocol: str = "voc", **miou: float) -> Path:
        path = tmp_path / "metrics" / "segmentation" / name / METRICS
        found = Metrics(
            profile=profile,
            variant=name,
            task="segmentation",
            checkpoint={"digest": name},
            main="miou",
            metrics={"miou": Metric(title="mIoU")},
            datasets={
                dataset: DatasetScores(values={"miou": value}, images=5, protocol={"name": protocol})
                for dataset, value in miou.items()
            },
        )
        write_metrics(path, found)
        return path

    return write
