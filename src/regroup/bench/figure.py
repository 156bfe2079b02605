"""The main metrics of a bench as one figure: bars for one or two checkpoints, a radar or dots for more.

Tasks whose scores are read as curves have a figure of their own besides, one a checkpoint.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from regroup.bench.view import Scores, main_columns
from regroup.drawing import style
from regroup.drawing.charts import Chart, Line, bars, dots, radar
from regroup.drawing.figures import Drawn
from regroup.drawing.labelling import figure_note
from regroup.metrics import Metrics
from regroup.reliability.figures import calibration_figure, robustness_figure
from regroup.report.settings import LEAST_SPOKES, MOST_POLYGONS

FEW = 2
"""Checkpoints that are drawn as bars."""

ERRORS = ("ece",)
"""Main metrics of which less is better: no bar beside scores."""

TASK_FIGURES = {"calibration": calibration_figure, "robustness": robustness_figure}
"""How the scores of a task are drawn; the others are read from tables."""


def bench_chart(scores: Scores, *, title: str, profile: str, drawn: bool) -> Chart:
    """The percentages among the main metrics of which more is better, a row a checkpoint."""
    columns = [
        column
        for column in main_columns(scores)
        if column.metric.unit == "percent" and column.name not in ERRORS
    ]
    rows = [
        Line(
            name,
            tuple(column.value(some) for column in columns),
            tuple(column.deviation(some) for column in columns),
        )
        for name, some in scores.items()
    ]
    chance = tuple(column.chance(scores) for column in columns)
    words = ["Percent: the main metric of each evaluation."]
    if len(rows) > FEW and not _is_radar(len(rows), len(columns)):
        words.append("Axes do not begin at zero.")
    elif len(rows) > FEW:
        words.append("Each axis goes from zero in the middle to the best score, which is written at its end.")
    elif any(value is not None for value in chance):
        words.append("A line across a bar: what a random answer scores.")
    if any(error is not None for row in rows for error in row.errors):
        words.append("A thin line along an axis: one standard deviation over the task's own draws.")
    if (note := figure_note(profile, drawn=drawn)) is not None:
        words.append(note)
    return Chart(title, tuple(c.title for c in columns), tuple(rows), " ".join(words), chance=chance)


def bench_figure(chart: Chart) -> Figure:
    """Draw it."""
    with style.settings():
        if len(chart.rows) <= FEW:
            return bars(chart)
        return radar(chart) if _is_radar(len(chart.rows), len(chart.columns)) else dots(chart)


def task_figure(task: str, metrics: Metrics, *, profile: str, drawn: bool) -> Drawn | None:
    """The figure of one checkpoint's scores on a task; None: the task has none.

    Args:
        task: the module of `regroup.tasks`, whatever the evaluation is called.
        metrics: what it scored.
        profile: whose data it is.
        drawn: whether that is drawn.
    """
    if (draw := TASK_FIGURES.get(task)) is None:
        return None
    return draw(metrics.datasets, variant=metrics.variant, profile=profile, drawn=drawn)


def _is_radar(rows: int, columns: int) -> bool:
    return FEW < rows <= MOST_POLYGONS and columns >= LEAST_SPOKES
