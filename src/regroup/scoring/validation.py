"""How well a run does while it trains (Figure 24): its snapshots, scored on less data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from regroup.io import atomic_path, write_text
from regroup.metrics import Metric
from regroup.tasks import Evaluation, TaskResult, Work

if TYPE_CHECKING:
    from regroup.model import Backbone

VALIDATION = "validation.csv"
"""The curve beside a metrics file; its Parquet has every digit."""
START = "_start"
"""What the name of a metric ends in where it was measured before training."""

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
        work: its data. Tokens of the first stage are looked up where a point has the weights that the run
            ended with, and the curve is the same; texts never, since what embeds them moves in every run.

    Returns:
        One row a point: step, epoch, and `val_<dataset>`, the main metric.
    """
    end = _first_stage(model)

    def score() -> dict[str, float]:
        same = _equal(_first_stage(model), end)
        result = evaluation.run(model, replace(_alone(work), token_cache=work.token_cache if same else None))
        return {f"val_{name}": one.values[result.main] for name, one in result.datasets.items()}

    rows: Rows = []
    for point in points:
        apply(model, point)
        rows.append({"step": point.step, "epoch": point.epoch, **score()})
    return rows or [{"step": 0, "epoch": 0.0, **score()}]


def with_start(
    result: TaskResult,
    model: Backbone,
    points: Sequence[PointType],
    apply: Callable[[Backbone, PointType], None],
    evaluation: Evaluation,
    work: Work,
) -> TaskResult:
    """Add what a model scored before its first step, where its run kept that: `<main metric>_start`.

    Arguments are those of `validation_curve`, and of `result`, what the model scored in the end.
    """
    if not points or points[0].step:
        return result
    apply(model, points[0])
    start = evaluation.run(model, _alone(work))
    apply(model, points[-1])
    name, metric = f"{result.main}{START}", result.metrics[result.main]
    named = Metric(title=f"{metric.title} before training", unit=metric.unit)
    datasets = {
        dataset: one
        if result.main not in one.values  # a task of several has its main metric on some data sets alone
        else one.model_copy(
            update={"values": {**one.values, name: start.datasets[dataset].values[result.main]}}
        )
        for dataset, one in result.datasets.items()
    }
    return replace(result, metrics={**result.metrics, name: named}, datasets=datasets)


def _alone(work: Work) -> Work:
    """The same data without what is kept of texts and images: a point of a run has weights of its own."""
    return Work(work.roots, work.progress)


def _first_stage(model: Backbone) -> dict[str, torch.Tensor]:
    """Weights that tokens before the first grouping come from; empty for a backbone without such a stage."""
    stage = model.first_stage()
    if stage is None:
        return {}
    weights = {name: tensor.clone() for name, tensor in stage.state_dict().items()}
    return {name: tensor for name, tensor in weights.items() if not name.startswith("grouping")}


def _equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, others[name].to(tensor.device)) for name, tensor in some.items())


def write_validation(path: Path, rows: Rows) -> None:
    """Write the curve as CSV with four decimals, for `dvc plots`, and beside it as Parquet with all."""
    names = list(rows[0])
    lines = [",".join(names)] + [
        ",".join(f"{row[name]:.4f}".rstrip("0").rstrip(".") for name in names) for row in rows
    ]
    write_text(path, "\n".join(lines) + "\n")
    with atomic_path(path.with_suffix(".parquet")) as file:
        pq.write_table(pa.Table.from_pylist(rows), file)
