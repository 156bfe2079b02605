"""How well a run does while it trains (Figure 24): its snapshots, scored on less data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from regroup.io import atomic_path, write_text
from regroup.tasks import Evaluation, Work

if TYPE_CHECKING:
    from regroup.model import Backbone

VALIDATION = "validation.csv"
"""The curve beside a metrics file; its Parquet has every digit."""

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
    evaluation: Evaluation,
    work: Work,
) -> Rows:
    """Score a model at every point of its run; it is left as it was at the last.

    Args:
        model: as the run ended.
        points: the run's snapshots, by step; without any, the model as it is becomes the point of step 0.
        apply: puts a snapshot into the model.
        evaluation: what a point is scored on, see `Evaluation.validating`.
        work: its data; caches are left alone, since every point has other weights.

    Returns:
        One row a point: step, epoch, and `val_<dataset>`, the main metric.
    """
    own = Work(work.roots, work.progress)

    def score() -> dict[str, float]:
        result = evaluation.run(model, own)
        return {f"val_{name}": one.values[result.main] for name, one in result.datasets.items()}

    rows: Rows = []
    for point in points:
        apply(model, point)
        rows.append({"step": point.step, "epoch": point.epoch, **score()})
    return rows or [{"step": 0, "epoch": 0.0, **score()}]


def write_validation(path: Path, rows: Rows) -> None:
    """Write the curve as CSV with four decimals, for `dvc plots`, and beside it as Parquet with all."""
    names = list(rows[0])
    lines = [",".join(names)] + [
        ",".join(f"{row[name]:.4f}".rstrip("0").rstrip(".") for name in names) for row in rows
    ]
    write_text(path, "\n".join(lines) + "\n")
    with atomic_path(path.with_suffix(".parquet")) as file:
        pq.write_table(pa.Table.from_pylist(rows), file)
