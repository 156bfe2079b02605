"""Learning curves as small line charts."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regroup.errors import RegroupError

WIDTH, HEIGHT = 240, 96
"""Of the area that the lines fill, in the chart's own pixels."""
VALIDATION = "val_"
"""Columns of this prefix hold mIoU in percent on a dataset, at some steps."""


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


def read_curve(paths: Sequence[Path], title: str) -> Curve | None:
    """The charts of one run's CSV files; None if nothing was trained. Files that do not exist are left out.

    Raises:
        RegroupError: a file is no table of numbers with a column `step`.
    """
    loss: Series = {}
    scores: Series = {}
    for path in paths:
        for name, points in _read(path).items() if path.is_file() else ():
            if name == "loss" and points:
                loss[name] = points
            elif points:
                scores[name.removeprefix(VALIDATION)] = points
    charts = [_chart(unit, some) for unit, some in (("loss", loss), ("mIoU, %", scores)) if some]
    return Curve(paths[0].stem, title, tuple(charts)) if charts else None


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
