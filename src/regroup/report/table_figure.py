"""A table as a figure, of the same values; which kind of figure is the table's `figure` in tables.yaml."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from regroup.drawing import style
from regroup.drawing.charts import Chart, Line, dots, lines, radar
from regroup.drawing.figures import save_figure
from regroup.drawing.labelling import figure_note
from regroup.report.settings import TableFigure
from regroup.report.tables import Cell, Table, label

_KINDS = {
    "dots": "A dot is a score; axes do not begin at zero.",
    "lines": "A point is a score.",
    "radar": "Each axis goes from zero in the middle to the best score, which is written at its end.",
}


def write_table_figure(table: Table, how: TableFigure, folder: Path) -> list[Path]:
    """Write `table<NN>.png`, `.svg` and `.npz` beside the table's own files; return their paths.

    Where no score is there to be drawn, nothing is written, and what is left of an earlier one goes.
    """
    stem = folder / f"table{table.number:02}"
    chart = chart_of(table, how)
    if chart.empty:
        for suffix in (".png", ".svg", ".npz"):
            stem.with_suffix(suffix).unlink(missing_ok=True)
        return []
    return save_figure(draw_table(table, how), stem, chart.arrays())


def draw_table(table: Table, how: TableFigure) -> Figure:
    """The figure of a table that has a score."""
    chart = chart_of(table, how)
    with style.settings():
        if how.kind == "dots":
            return dots(chart)
        if how.kind == "radar":
            return radar(chart)
        points = how.points or ()
        return lines(
            [
                Chart(title, chart.columns[part], tuple(_part(row, part) for row in chart.rows))
                for title, part in zip(
                    how.panels or ("",), _parts(len(chart.columns), len(points)), strict=True
                )
            ],
            points,
            axis=how.axis or "",
            title=chart.title,
            note=chart.note,
        )


def chart_of(table: Table, how: TableFigure) -> Chart:
    """Our scores in a table, those of the rows and columns that are drawn; bars are the spread over seeds."""
    places = [k for k, name in enumerate(table.columns) if how.columns is None or name in how.columns]
    rows = [row for row in table.rows if how.rows is None or row.id in how.rows]
    drawn = [
        Line(
            label(row.labels),
            tuple(_value(row.cells[k]) for k in places),
            tuple(_error(row.cells[k]) for k in places),
        )
        for row in rows
    ]
    baseline = next((k for k, row in enumerate(rows) if row.id == table.baseline), None)
    several = any(error is not None for line in drawn for error in line.errors)
    words = [
        _KINDS[how.kind],
        *(["A bar is one standard deviation over seeds to each side."] if several else []),
        *(
            [f"Dotted: {drawn[baseline].label}."]
            if how.kind == "dots"
            and baseline is not None
            and any(value is not None for value in drawn[baseline].values)
            else []
        ),
        *([note] if (note := figure_note(table.profile, drawn=table.drawn)) else []),
    ]
    titles = tuple(table.titles[k] for k in places)
    return Chart(table.heading, titles, tuple(drawn), " ".join(words), baseline)


def _value(cell: Cell) -> float | None:
    return None if cell.ours is None else cell.ours.mean


def _error(cell: Cell) -> float | None:
    return None if cell.ours is None else cell.ours.std


def _parts(columns: int, points: int) -> list[slice]:
    return [slice(start, start + points) for start in range(0, columns, points)]


def _part(row: Line, part: slice) -> Line:
    return Line(row.label, row.values[part], row.errors[part])
