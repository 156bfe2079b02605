"""How well a run segments while it trains (Figure 24): its snapshots, scored on a few images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from regroup.io import atomic_path, write_text
from regroup.segmentation.evaluation import evaluate_all
from regroup.segmentation.settings import EvaluateParams

if TYPE_CHECKING:
    from regroup.model import Backbone

Rows = list[dict[str, float]]


class Point(Protocol):
    """A place on the curve: the optimiser steps and epochs that were done."""

    @property
    def step(self) -> int:
        """Optimiser steps."""

    @property
    def epoch(self) -> float:
        """Epochs, with fractions."""


PointType = TypeVar("PointType", bound=Point)


def validation_curve(
    model: Backbone,
    points: Sequence[PointType],
    apply: Callable[[Backbone, PointType], None],
    params: EvaluateParams,
    raw_roots: Mapping[str, Path],
    *,
    progress: bool = False,
) -> Rows:
    """Score a model at every point of its run; it is left as it was at the last.

    Args:
        model: as the run ended.
        points: the run's snapshots, by step; without any, the model as it is becomes the point of step 0.
        apply: puts a snapshot into the model.
        params: the datasets of the curve, limited to its images.
        raw_roots: the root of each source's raw data.
        progress: whether to show progress bars.

    Returns:
        One row a point: step, epoch, and `val_<dataset>`, the mIoU in percent.
    """
    rows: Rows = []
    for point in points:
        apply(model, point)
        rows.append({"step": point.step, "epoch": point.epoch, **_score(model, params, raw_roots, progress)})
    return rows or [{"step": 0, "epoch": 0.0, **_score(model, params, raw_roots, progress)}]


def write_validation(path: Path, rows: Rows) -> None:
    """Write the curve as CSV with four decimals, for `dvc plots`, and beside it as Parquet with all."""
    names = list(rows[0])
    lines = [",".join(names)] + [
        ",".join(f"{row[name]:.4f}".rstrip("0").rstrip(".") for name in names) for row in rows
    ]
    write_text(path, "\n".join(lines) + "\n")
    with atomic_path(path.with_suffix(".parquet")) as file:
        pq.write_table(pa.Table.from_pylist(rows), file)


def _score(
    model: Backbone, params: EvaluateParams, raw_roots: Mapping[str, Path], progress: bool
) -> dict[str, float]:
    scores = evaluate_all(model, params, raw_roots, progress=progress)
    return {f"val_{name}": dataset.miou for name, dataset in scores.datasets.items()}
