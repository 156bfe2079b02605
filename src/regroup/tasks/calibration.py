"""How sure class maps are, and what the threshold of background costs.

Expected calibration error: of the pixels that the model is 80% sure of, 80% should be right. And mIoU at the
profile's fixed threshold, at one chosen on the training split, and at the best one of the scored split (an
oracle, which no user has).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regroup.metrics import DatasetScores, Metric
from regroup.reliability.settings import CalibrationParams as Options
from regroup.tasks import TaskResult, Work

if TYPE_CHECKING:
    from regroup.model import Backbone

__all__ = ["Options", "files", "run", "sources"]

MAIN = "ece"
_METRICS = {
    MAIN: Metric(title="ECE"),
    "confidence": Metric(title="mean confidence"),
    "accuracy": Metric(title="pixel accuracy without background"),
}
_THRESHOLDS = {
    "fixed": "fixed threshold",
    "chosen": "threshold chosen on train",
    "best": "best threshold on the scored split (oracle)",
}


def sources(options: Options) -> Iterable[str]:
    """The raw data of its datasets."""
    return (dataset.source for dataset in options.datasets.values())


def files(options: Options) -> Iterable[Path]:
    """The class lists of its protocols, and the readers of their masks."""
    from regroup.segmentation.protocols import files_behind

    return files_behind(dataset.protocol for dataset in options.datasets.values())


def run(model: Backbone, options: Options, work: Work) -> TaskResult:
    """Score a model on every dataset. Without a background there is nothing about thresholds.

    Raises:
        RegroupError: as the task `segmentation`; or no pixel shows a class other than background.
    """
    from regroup.device import choose_device
    from regroup.reliability.thresholds import calibrate
    from regroup.segmentation.resolved import resolve_datasets

    model.to(choose_device(options.device))
    datasets = resolve_datasets(options.datasets, work.roots)
    found = {
        name: calibrate(model, one, options, progress=work.progress, text_cache=work.text_cache).for_metrics()
        for name, one in datasets.items()
    }
    metrics = dict(_METRICS)
    if any("miou_fixed" in scores.values for scores in found.values()):
        metrics |= {f"miou_{name}": Metric(title=f"mIoU, {title}") for name, title in _THRESHOLDS.items()}
        metrics |= {
            f"threshold_{name}": Metric(title=title, unit="ratio") for name, title in _THRESHOLDS.items()
        }
    files = {f"{table}.csv": _table(found, table) for table in ("reliability", "thresholds")}
    return TaskResult(MAIN, metrics, found, {name: content for name, content in files.items() if content})


def _table(found: Mapping[str, DatasetScores], key: str) -> bytes:
    """Rows of `details[key]` of all datasets as CSV; nothing where there are none."""
    from regroup.io import text_bytes

    rows: list[dict[str, Any]] = []
    for name, scores in found.items():
        some: Any = scores.details.get(key, [])
        rows += [{"dataset": name, **{column: _told(value) for column, value in row.items()}} for row in some]
    if not rows:
        return b""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text_bytes(text.getvalue())


def _told(value: float | None) -> str:
    """A cell: whole numbers as they are, others to four digits."""
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
