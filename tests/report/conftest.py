"""Metrics files to build tables from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .made_metrics import make_metrics

WriteMetrics = Callable[..., Path]


@pytest.fixture
def metrics(tmp_path: Path) -> WriteMetrics:
    """Write a metrics file: a name for the weights, the profile, and mIoU by dataset."""

    def write(
        name: str, *, profile: str = "mini", protocol: str = "voc", seed: int | None = None, **miou: float
    ) -> Path:
        scores = {dataset: {"miou": value} for dataset, value in miou.items()}
        return make_metrics(tmp_path / "metrics", name, scores, profile=profile, protocol=protocol, seed=seed)

    return write
