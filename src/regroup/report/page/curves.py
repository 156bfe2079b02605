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
"""Step and value of each point, by the name of the curve."""


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
    """What one run left: the loss, and where it was validated the scores."""

    run: str
    title: str
    charts: tuple[Chart, ...]


def read_curve(run: str, title: str, loss: Path | None, validations: Sequence[Path]) -> Curve | None:
    """The charts of one run; None if there is no curve, as where nothing was trained: one point is none.

    Args:
        run: its name.
        title: as it is shown.
        loss: CSV file over the run's steps; None where there is none.
        validations: CSV files of the main metric of a task at some steps, each beside its metrics file.

    Raises:
        RegroupError: a file is no table of numbers with a column `step`.
    """
    charts = []
    if loss is not None and (points := _read(loss).get("loss")):
        charts.append(_chart("loss", {"loss": points}))
    for path in validations:
        scores = {name.removeprefix(VALIDATION): some for name, some in _read(path).items() if some}
        if len({step for points in scores.values() for step, _ in points}) > 1:
            charts.append(_chart(_unit(path), scores))
    return Curve(run, title, tuple(charts)) if charts else None


def _unit(path: Path) -> str:
    """What a validation curve shows, from the metrics file beside it."""
    file = path.with_name(METRICS)
    if not file.is_file():
        return "mIoU, %"
    metrics = parse(Metrics, read_json(file), file)
    main = metrics.metrics[metrics.main]
    return f"{main.title}, %" if main.unit == "percent" else main.title


def _read(path: Path) -> Series:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        steps = [float(row["step"]) for row in rows]
        names = [name for name in (rows[0] if rows else ()) if name == "loss" or name.startswith(VALIDATION)]
        return {name: _points(steps, [row[name] for row in rows]) for name in names}
    except (KeyError, TypeError, ValueError) as error:
        raise RegroupError(f"{path}: not a learning curve ({error!r}); run its stage again") from None


def _points(steps: Sequence[float], texts: Sequence[str]) -> list[tuple[float, float]]:
    pairs = [(step, float(text)) for step, text in zip(steps, texts, strict=True) if text]
    return [(step, value) for step, value in pairs if math.isfinite(value)]


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
