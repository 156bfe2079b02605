"""Metrics files to build tables from."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

WriteMetrics = Callable[..., Path]


@pytest.fixture
def metrics(tmp_path: Path) -> WriteMetrics:
    """Write a metrics file: a name for the weights, the profile, and mIoU by dataset."""

    def write(name: str, *, profile: str = "mini", protocol: str = "voc", **miou: float) -> Path:
        path = tmp_path / "metrics" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        content = {
            "variant": name,
            "profile": profile,
            "checkpoint": {"digest": name},
            "datasets": {
                dataset: {
                    "miou": value,
                    "macc": 1.0,
                    "aacc": 1.0,
                    "images": 5,
                    "protocol": {"name": protocol},
                }
                for dataset, value in miou.items()
            },
        }
        path.write_text(json.dumps(content))
        return path

    return write
