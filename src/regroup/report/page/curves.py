"""Learning curves as small line charts."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regroup.errors import RegroupError
from regroup.io import read_json
from regroup.metrics import METRICS, Metrics
from regroup.settings import parse

WIDTH, HEIGHT = 240, 96
"""Of the area that the lines fill, in the chart's own pixels."""
VALIDATION = "val_"
"""Columns of this prefix hold a score on a dataset, at some steps."""


Series = dict[str, list[tuple[float, float]]]
"""Step and value of each point, by the name of the curve; several seeds' values are a mean."""


@dataclass(frozen=True)
class Line:
    """One curve: its name, the SVG path, the first and the last value, and the mark of its end."""

    name: str
    path: str
    first: float
    last: float
    end: tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """Lines over the same steps; `low` and `high` are the values at the lower and the upper edge."""

    unit: str
    lines: tuple[Line, ...]
    low: float
    high: float
    steps: int


@dataclass(frozen=True)
class Curve:
    """What a variant's runs left: the loss, and where they were validated the scores."""

    run: str
    title: str
    charts: tuple[Chart, ...]


def read_curve(
    run: str, title: str, loss: Path | None, validations: Sequence[Sequence[Path]]
) -> Curve | None:
    """The charts of one variant; None if there is no curve, as where nothing was trained: one point is none.

    Args:
        run: its name.
        title: as it is shown.
        loss: CSV file over the steps of its runs; None where there is none.
        validations: for each task, CSV files of the main metric at some steps, one a seed and each beside its
            metrics file.

    Raises:
        RegroupError: a file is no table of numbers with a column `step`.
    """
    charts = []
    if loss is not None:
        series, seeds = _read([loss])
        if points := series.get("loss"):
            charts.append(_chart(_of_seeds("loss", seeds), {"loss": points}))
    for paths in validations:
        series, seeds = _read(paths)
        scores = {name.removeprefix(VALIDATION): some for name, some in series.items() if some}
        if len({step for points in scores.values() for step, _ in points}) > 1:
            charts.append(_chart(_of_seeds(_unit(paths[0]), seeds), scores))
    return Curve(run, title, tuple(charts)) if charts else None


def _of_seeds(unit: str, seeds: int) -> str:
    return unit if seeds < 2 else f"{unit}, mean of {seeds} seeds"


def _unit(path: Path) -> str:
    """What a validation curve shows, from the metrics file beside it."""
    file = path.with_name(METRICS)
    if not file.is_file():
        return "mIoU, %"
    metrics = parse(Metrics, read_json(file), file)
    main = metrics.metrics[metrics.main]
    return f"{main.title}, %" if main.unit == "percent" else main.title


def _read(paths: Sequence[Path]) -> tuple[Series, int]:
    """The curves in the files of a variant's seeds, and how many seeds there are."""
    values: dict[str, dict[float, list[float]]] = {}
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        try:
            for row in rows:
                for name in row:
                    if name == "loss" or name.startswith(VALIDATION):
                        found = values.setdefault(name, {}).setdefault(float(row["step"]), [])
                        found += [
                            value for text in [row[name]] if text and math.isfinite(value := float(text))
                        ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RegroupError(f"{path}: not a learning curve ({error!r}); run its stage again") from None
    seeds = max((len(some) for steps in values.values() for some in steps.values()), default=0)
    means = {
        name: [(step, math.fsum(some) / len(some)) for step, some in sorted(steps.items()) if some]
        for name, steps in values.items()
    }
    return means, seeds


def _chart(unit: str, series: Series) -> Chart:
    values = [value for points in series.values() for _, value in points]
    steps = [step for points in series.values() for step, _ in points]
    low, high, first, last = min(values), max(values), min(steps), max(steps)
    lines = []
    for name, points in series.items():
        placed = [
            (
                WIDTH * (step - first) / (last - first or 1),
                HEIGHT * (1 - (value - low) / (high - low or 1)),
            )
            for step, value in points
        ]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        lines.append(Line(name, path, points[0][1], points[-1][1], placed[-1]))
    return Chart(unit, tuple(lines), low, high, int(last))
