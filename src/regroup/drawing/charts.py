"""Scores as charts: dots with intervals, lines over points of an axis, a radar."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from regroup.drawing.style import INK, PAGE_WIDTH, PALETTE, Page

COLOURS = tuple(PALETTE[place] for place in (4, 0, 2, 5, 6, 7, 9, 18))
"""Those that show on white as lines."""
MARKERS = "osD^vPX"

_LETTER, _LINE, _ROW, _MARGIN = 0.056, 0.125, 0.16, 0.1
"""Inches: width of a letter of 7 points, height of a line of 6, of a row of dots, and what is left free."""
_LONGEST = 46
_MUTED = "#767b83"


@dataclass(frozen=True)
class Line:
    """One row of scores.

    Attributes:
        label: what it is called.
        values: a score for each column; None: missing.
        errors: half the length of its bar, likewise; None: a single run.
    """

    label: str
    values: tuple[float | None, ...]
    errors: tuple[float | None, ...]


@dataclass(frozen=True)
class Chart:
    """What a chart shows.

    Attributes:
        title: above it.
        columns: what each value of a row is.
        rows: in their order.
        note: below it; wrapped.
        baseline: place of the row that the others are to be compared with.
        chance: what a random answer scores in each column, where that is known; empty: nowhere.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Line, ...]
    note: str = ""
    baseline: int | None = None
    chance: tuple[float | None, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be drawn."""
        return all(value is None for row in self.rows for value in row.values)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is drawn: `rows` [R] and `columns` [C] by name, `values` and `errors` [R, C], nan for none."""
        return {
            "rows": np.array([row.label for row in self.rows], dtype=np.str_),
            "columns": np.array(self.columns, dtype=np.str_),
            "values": np.array([_numbers(row.values) for row in self.rows]),
            "errors": np.array([_numbers(row.errors) for row in self.rows]),
        }


def dots(chart: Chart) -> Figure:
    """A panel a column, rows one below the other in all of them: a dot, its error as a bar.

    Axes do not begin at zero: read places, not lengths. Dotted: the baseline's score.
    """
    labels = [_short(row.label) for row in chart.rows]
    left = _MARGIN + 0.1 + _LETTER * max(map(len, labels))
    most = max(1, int((PAGE_WIDTH - left) / 1.0))
    lines = -(-len(chart.columns) // most)
    across = -(-len(chart.columns) // lines)
    width, height = (PAGE_WIDTH - left - _MARGIN) / across, _ROW * len(chart.rows) + 0.1
    heads = [textwrap.wrap(title, max(8, int((width - 0.1) / (1.2 * _LETTER)))) for title in chart.columns]
    head = 0.1 + 0.15 * max(map(len, heads))
    page, bottom = _page(chart, lines * (head + height + 0.3))
    for number, title in enumerate(heads):
        line, place = divmod(number, across)
        y = bottom + (lines - 1 - line) * (head + height + 0.3) + 0.3
        axes = page.axes(left + place * width + 0.05, y, width - 0.1, height)
        _dot_panel(axes, chart, number)
        axes.set_title("\n".join(title))
        axes.set_yticks(range(len(labels)), labels if place == 0 else [""] * len(labels))
    return page.figure


def bars(chart: Chart) -> Figure:
    """A group of bars a column, one a row, from zero, with their values; for a row or a few of them.

    A line across a group: what a random answer scores.
    """
    labels = [_short(title) for title in chart.columns]
    left = _MARGIN + 0.1 + _LETTER * max(map(len, labels))
    many = len(chart.rows)
    legend = 0.15 * many + 0.1 if many > 1 else 0.0
    step = 0.12 * many + 0.08
    page, bottom = _page(chart, step * len(labels) + legend + 0.5)
    axes = page.axes(left, bottom + legend + 0.35, PAGE_WIDTH - left - 0.5, step * len(labels))
    thick = 0.85 / many
    for k, row in enumerate(chart.rows):
        places = np.arange(len(labels)) + (k - (many - 1) / 2) * thick
        values, errors = _numbers(row.values), np.nan_to_num(_numbers(row.errors))
        axes.barh(places, values, height=0.92 * thick, color=COLOURS[k % len(COLOURS)], label=row.label)
        for place, value, error in zip(places, values, errors, strict=True):
            there = math.isfinite(value)
            if there and error:
                axes.plot([value - error, value + error], [place, place], color=_MUTED, linewidth=1)
            axes.text(
                value + error if there else 0,
                place,
                f" {value:.1f}" if there else " missing",
                fontsize=5.5,
                va="center",
                color=INK if there else _MUTED,
            )
    for k, value in enumerate(chart.chance):
        if value is not None:
            axes.plot([value, value], [k - 0.47, k + 0.47], color=INK, linewidth=1)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=6, length=2)
    if legend:
        _legend(page, bottom, *axes.get_legend_handles_labels(), columns=1)
    return page.figure


def lines(charts: Sequence[Chart], points: Sequence[float], *, axis: str, title: str, note: str) -> Figure:
    """Lines over points of an axis, one a row, a panel a chart; bars are errors.

    Args:
        charts: of the same rows; their columns are the points.
        points: of each column, increasing. Over a range of 8 or more times the axis is logarithmic.
        axis: what the points are.
        title: above all.
        note: below all.
    """
    labels = [row.label for row in charts[0].rows]
    across = min(2, len(charts))
    down = -(-len(charts) // across)
    columns = 3 if max(map(len, labels)) <= 30 else 2
    legend = 0.14 * -(-len(labels) // columns) + 0.1
    page, bottom = _page(Chart(title, (), (), note), down * 2.5 + legend)
    width = PAGE_WIDTH / across
    handles: list[Any] = []
    for number, chart in enumerate(charts):
        row, column = divmod(number, across)
        axes = page.axes(
            0.55 + column * width, bottom + legend + (down - 1 - row) * 2.5 + 0.45, width - 0.75, 1.75
        )
        drawn = [
            axes.errorbar(
                points,
                _numbers(line.values),
                yerr=np.nan_to_num(_numbers(line.errors)),
                color=COLOURS[k % len(COLOURS)],
                marker=MARKERS[k % len(MARKERS)],
                linestyle=("-", "--", ":", "-.")[k // len(COLOURS) % 4],
                markersize=3,
                elinewidth=0.8,
                capsize=2,
            )
            for k, line in enumerate(chart.rows)
        ]
        handles = handles or drawn
        if len(points) > 1 and points[0] > 0 and points[-1] >= 8 * points[0]:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xticks(points, [f"{point:g}" for point in points])
        axes.set_xlabel(axis)
        axes.set_title(chart.title, loc="left")
        axes.grid(axis="y", color="#e4e6e9", linewidth=0.5)
        axes.set_axisbelow(True)
    _legend(page, bottom, handles, labels, columns=columns)
    return page.figure


def radar(chart: Chart) -> Figure:
    """A polygon a row; each axis goes from zero in the middle to the best score, which is written there."""
    scores = np.array([_numbers(row.values) for row in chart.rows])
    best = [float(np.nanmax(column)) if np.isfinite(column).any() else 0.0 for column in scores.T]
    scale = np.array([value or 1.0 for value in best])
    legend = 0.15 * -(-len(chart.rows) // 2) + 0.1
    page, bottom = _page(chart, 4.1 + legend)
    box = (1.9 / PAGE_WIDTH, (bottom + legend + 0.5) / page.height, 3.1 / PAGE_WIDTH, 3.1 / page.height)
    axes: Any = page.figure.add_axes(box, projection="polar")
    axes.set_theta_offset(math.pi / 2)
    axes.set_theta_direction(-1)
    angles = np.arange(len(chart.columns)) * (2 * math.pi / len(chart.columns))
    around = np.append(angles, angles[0])
    for k, (row, values) in enumerate(zip(chart.rows, scores / scale, strict=True)):
        look = {"color": COLOURS[k], "marker": MARKERS[k % len(MARKERS)], "markersize": 3}
        axes.plot(around, np.append(values, values[0]), label=row.label, **look)
        for angle, value, error in zip(angles, values, _numbers(row.errors) / scale, strict=True):
            if math.isfinite(value + error) and error:
                axes.plot([angle, angle], [max(0, value - error), value + error], color=COLOURS[k], lw=0.8)
    axes.set_ylim(0, 1.08)
    axes.set_yticks([0.25, 0.5, 0.75, 1], [""] * 4)
    axes.set_xticks(
        angles,
        [
            "\n".join([*textwrap.wrap(title, 24, break_long_words=False), f"{value:.1f}"])
            for title, value in zip(chart.columns, best, strict=True)
        ],
    )
    for angle, text in zip(angles, axes.get_xticklabels(), strict=True):
        side = math.sin(angle)
        text.set_ha("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    axes.grid(color="#d5d8dc", linewidth=0.5)
    axes.spines["polar"].set_visible(False)
    _legend(page, bottom, *axes.get_legend_handles_labels(), columns=2)
    return page.figure


def _dot_panel(axes: Axes, chart: Chart, column: int) -> None:
    values = _numbers([row.values[column] for row in chart.rows])
    errors = np.nan_to_num(_numbers([row.errors[column] for row in chart.rows]))
    places = np.arange(len(values))
    for place in range(len(values)):
        axes.axhline(place, color="#e4e6e9", linewidth=0.5, zorder=0)
    axes.errorbar(
        values,
        places,
        xerr=errors,
        fmt="o",
        markersize=3.5,
        color=PALETTE[4],
        elinewidth=1,
        capsize=0,
        clip_on=False,
    )
    if chart.baseline is not None and math.isfinite(values[chart.baseline]):
        axes.axvline(values[chart.baseline], color=INK, linestyle=":", linewidth=0.8, zorder=1)
    there = np.isfinite(values)
    if there.any():
        low, high = (values - errors)[there].min(), (values + errors)[there].max()
        room = 0.08 * (high - low) or max(0.5, 0.05 * abs(high))
        axes.set_xlim(low - room, high + room)
        axes.locator_params(axis="x", nbins=3)
    else:
        axes.set_xticks([])
    for place in places[~there]:
        axes.text(
            0.5,
            place,
            "missing",
            transform=axes.get_yaxis_transform(),
            fontsize=5,
            color=_MUTED,
            ha="center",
            va="center",
        )
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=6, length=2)
    axes.spines["left"].set_visible(False)


def _legend(
    page: Page, bottom: float, handles: Sequence[Any], labels: Sequence[str], *, columns: int
) -> None:
    """Names of the rows, from `bottom` inches up."""
    page.figure.legend(
        handles,
        [_short(label, 60) for label in labels],
        loc="lower left",
        bbox_to_anchor=(_MARGIN / PAGE_WIDTH, bottom / page.height),
        ncols=columns,
        fontsize=6,
        borderaxespad=0,
    )


def _page(chart: Chart, height: float) -> tuple[Page, float]:
    """A page with title and note, and where what is between them begins; `height`: of that."""
    titles, notes = textwrap.wrap(chart.title, 105), textwrap.wrap(chart.note, 138)
    bottom = _MARGIN + _LINE * len(notes)
    page = Page(bottom + height + 0.15 + 0.17 * len(titles))
    for number, line in enumerate(titles):
        page.text(_MARGIN, page.height - 0.2 - 0.17 * number, line, fontsize=9, weight="bold")
    for number, line in enumerate(reversed(notes)):
        page.text(_MARGIN, 0.07 + _LINE * number, line, fontsize=6)
    return page, bottom


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _short(label: str, most: int = _LONGEST) -> str:
    return label if len(label) <= most else f"{label[: most - 3]}..."
