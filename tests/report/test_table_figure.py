"""Figures of tables: what is drawn is what the table says, and what cannot be drawn is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regroup.errors import RegroupError
from regroup.metrics import Metric
from regroup.report.page.build import build_page
from regroup.report.page.pictures import read_pictures
from regroup.report.reference import Reference, ReferenceTable, load_reference
from regroup.report.settings import PageParams, TableFigure
from regroup.report.table_figure import chart_of, draw_table, write_table_figure
from regroup.report.table_view import write_table
from regroup.report.tables import Table, build_table

from .made_metrics import make_metrics

SHOTS = (1, 2, 4)
COLUMNS = tuple(f"few/{way}_{n}/classes" for way in ("probe", "adapter") for n in SHOTS)


def reference(figure: Any, rows: int = 3, columns: tuple[str, ...] = COLUMNS) -> Reference:
    return Reference(
        tables=(
            ReferenceTable.model_validate(
                {
                    "number": 7,
                    "title": "Few images a class",
                    "setting": "made up",
                    "labels": ["Model", "Size"],
                    "columns": columns,
                    "titles": {column: column.split("/")[1] for column in columns},
                    "rows": [{"id": f"r{k}", "labels": [f"model {k}", "64"]} for k in range(rows)],
                    "baseline": "r0" if rows > 1 else None,
                    "figure": figure,
                }
            ),
        )
    )


def scores(row: int, seed: int) -> dict[str, float]:
    return {
        column.split("/")[1]: 20 + 7.125 * row + 3.5 * k + 0.75 * seed * (row + 1)
        for k, column in enumerate(COLUMNS)
    }


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Table]:
    """A table of three rows: one run, two seeds, and one that lacks its last three columns."""

    def made(figure: Any, rows: tuple[int, ...] = (0, 1, 2)) -> Table:
        runs: dict[str, list[Path]] = {}
        metrics = {column.split("/")[1]: Metric(title=column) for column in COLUMNS}
        for row in rows:
            for seed in range(2 if row == 1 else 1):
                some = dict(list(scores(row, seed).items())[: 3 if row == 2 else 6])
                runs.setdefault(f"r{row}", []).append(
                    make_metrics(tmp_path, f"{row}-{seed}", {"classes": some}, task="few", metrics=metrics)
                )
        return build_table(7, runs, profile="mini", drawn=True, reference=reference(figure))

    return made


def means(row: int) -> list[float]:
    seeds = [list(scores(row, seed).values()) for seed in range(2 if row == 1 else 1)]
    found = np.mean(seeds, axis=0)
    if row == 2:
        found[3:] = math.nan
    return list(found)


def test_dots_stand_at_the_values_of_the_table(build: Callable[..., Table]) -> None:
    table = build("dots")
    figure = draw_table(table, TableFigure(kind="dots"))
    assert [axes.get_title() for axes in figure.axes] == list(table.titles)
    for column, axes in enumerate(figure.axes):
        (container,) = axes.containers
        dots, _, (bars,) = container.lines
        assert list(dots.get_xdata()) == pytest.approx([means(row)[column] for row in range(3)], nan_ok=True)
        assert list(dots.get_ydata()) == [0, 1, 2]
        half = np.std([list(scores(1, seed).values())[column] for seed in (0, 1)], ddof=1)
        lengths = [np.ptp(segment[:, 0]) for segment in bars.get_segments() if len(segment)]
        assert lengths[:2] == pytest.approx([0, 2 * half])
        words = [text.get_text() for text in axes.texts]
        assert words == (["missing"] if column >= 3 else [])
        (low, high) = axes.get_xlim()
        assert all(low < mean < high for row in range(3) if math.isfinite(mean := means(row)[column]))
    title, *notes = [text.get_text() for text in figure.texts]
    assert title == "Table 7 (mini): Few images a class"
    text = " ".join(reversed(notes))
    assert "drawn images, small model" in text
    assert "one standard deviation over seeds" in text
    assert "Dotted: model 0 · 64" in text


def test_lines_go_over_the_points_in_their_panels(build: Callable[..., Table]) -> None:
    how = TableFigure(kind="lines", points=SHOTS, axis="images a class", panels=("Probe", "Adapter"))
    figure = draw_table(build(how), how)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Probe", "Adapter"]
    for panel, axes in enumerate(figure.axes):
        assert axes.get_xlabel() == "images a class"
        for row, container in enumerate(axes.containers):
            line = container.lines[0]
            assert list(line.get_xdata()) == list(SHOTS)
            wanted = means(row)[3 * panel : 3 * panel + 3]
            assert list(line.get_ydata()) == pytest.approx(wanted, nan_ok=True)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"model {k} · 64" for k in range(3)]


def test_a_radar_goes_from_zero_to_the_best(build: Callable[..., Table]) -> None:
    how = TableFigure(kind="radar")
    figure = draw_table(build(how), how)
    (axes,) = figure.axes
    best = np.nanmax([means(row) for row in range(3)], axis=0)
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    for row, line in enumerate(lines):
        wanted = [*(np.array(means(row)) / best), means(row)[0] / best[0]]
        assert list(line.get_ydata()) == pytest.approx(wanted, nan_ok=True)
    rim = [text.get_text().split("\n")[-1] for text in axes.get_xticklabels()]
    assert rim == [f"{value:.1f}" for value in best]
    assert axes.get_ylim()[0] == 0


def test_some_rows_and_columns_may_be_named(build: Callable[..., Table]) -> None:
    how = TableFigure(kind="dots", columns=(COLUMNS[4], COLUMNS[0]), rows=("r2", "r1"))
    chart = chart_of(build(how), how)
    assert chart.columns == ("probe_1", "adapter_2")  # the table's order
    assert [row.label for row in chart.rows] == ["model 1 · 64", "model 2 · 64"]
    assert chart.baseline is None
    assert chart.rows[0].values == pytest.approx((means(1)[0], means(1)[4]))


@pytest.mark.parametrize("figure", ["dots", {"kind": "lines", "points": [1], "axis": "shots"}])
def test_a_single_cell_is_drawn(figure: Any, tmp_path: Path) -> None:
    study = reference(figure, rows=1, columns=COLUMNS[:1])
    metrics = {"probe_1": Metric(title="top-1")}
    one = {"classes": {"probe_1": 0.0}}
    file = make_metrics(tmp_path, "one", one, task="few", metrics=metrics, profile="full")
    table = build_table(7, {"r0": [file]}, profile="full", drawn=False, reference=study)
    how = study.tables[0].figure
    assert how is not None
    png, _, npz = write_table_figure(table, how, tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "drawn images" not in " ".join(text.get_text() for text in draw_table(table, how).texts)
    with np.load(npz) as data:
        assert data["values"].tolist() == [[0.0]]


@pytest.mark.parametrize("kind", ["dots", "radar", "lines"])
def test_where_all_is_missing_no_figure_is_left(
    kind: str, build: Callable[..., Table], tmp_path: Path
) -> None:
    lines = {"points": range(6), "axis": "shots"} if kind == "lines" else {}
    how = TableFigure.model_validate({"kind": kind, **lines})
    assert len(write_table_figure(build(how), how, tmp_path / "out")) == 3
    assert write_table_figure(build(how, ()), how, tmp_path / "out") == []
    assert list((tmp_path / "out").iterdir()) == []


def test_the_same_table_gives_the_same_bytes(build: Callable[..., Table], tmp_path: Path) -> None:
    how = TableFigure(kind="dots")
    first = [path.read_bytes() for path in write_table_figure(build(how), how, tmp_path / "a")]
    assert [path.read_bytes() for path in write_table_figure(build(how), how, tmp_path / "b")] == first


def test_forty_five_rows_can_be_told_apart(tmp_path: Path) -> None:
    """No label may lie on another."""
    study = reference("dots", rows=45)
    metrics = {column.split("/")[1]: Metric(title=column) for column in COLUMNS}
    runs = {
        f"r{k}": [make_metrics(tmp_path, f"{k}", {"classes": scores(k % 8, 0)}, task="few", metrics=metrics)]
        for k in range(45)
    }
    figure = draw_table(
        build_table(7, runs, profile="mini", drawn=True, reference=study), TableFigure(kind="dots")
    )
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == 45
    assert all(one.y0 >= other.y1 for one, other in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("pie", r"figure\.kind: .*'dots', 'lines' or 'radar'"),
        ({"kind": "dots", "columns": ["few/x/classes"]}, r"figure\.columns: the table has no few/x/classes"),
        ({"kind": "dots", "rows": ["r9"]}, r"figure\.rows: the table has no r9; it has r0, r1, r2"),
        ({"kind": "dots", "rows": []}, r"figure\.rows: "),
        (
            {"kind": "lines", "columns": [COLUMNS[1], COLUMNS[0]], "points": [1, 2], "axis": "shots"},
            rf"figure\.columns: points go by the table's order; .*: {COLUMNS[0]}, {COLUMNS[1]}",
        ),
        ({"kind": "dots", "points": [1]}, r"points: is for `kind: lines` alone"),
        ("lines", r"needs `points`"),
        ({"kind": "lines", "points": [1, 2], "axis": "n", "columns": list(COLUMNS[:3])}, r"2 for 3 columns"),
        ({"kind": "lines", "points": [2, 1, 3], "axis": "n"}, r"must increase"),
        ({"kind": "lines", "points": [1, 1, 3], "axis": "n"}, r"listed twice"),
        ({"kind": "lines", "points": [1, 2, 4], "axis": "n"}, r"6 columns are 2 panels; give each its title"),
        ({"kind": "lines", "points": [1, float("inf"), 4], "axis": "n"}, r"points"),
        ({"kind": "radar", "columns": list(COLUMNS[:2])}, r"a radar has 3 or more columns .* here 2 and 3"),
        ({"kind": "dots", "colour": "red"}, r"figure\.colour"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(figure: Any, message: str, tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    values = reference("dots").model_dump(mode="json", exclude_none=True)
    values["tables"][0]["figure"] = figure
    with (tmp_path / "tables.yaml").open("w") as file:
        YAML(typ="safe").dump(values, file)
    with pytest.raises(RegroupError, match=message):
        load_reference(tmp_path / "tables.yaml")


def test_a_radar_of_many_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 8 rows, here 6 and 9: name some .* or take `dots`"):
        reference("radar", rows=9)
    reference({"kind": "radar", "rows": [f"r{k}" for k in range(8)]}, rows=9)


def test_the_page_shows_it_beside_its_table_and_not_among_the_figures(
    build: Callable[..., Table], tmp_path: Path
) -> None:
    report = tmp_path / "report"

    def page() -> str:
        return build_page(
            report,
            profile="mini",
            drawn=True,
            settings=PageParams(),
            params_file=Path("params.yaml"),
            titles={},
            reference=reference("dots"),
        )

    table = build("dots")
    write_table(table, report / "tables", data=report / "table_data")
    without = page()
    assert "<figure" not in without
    write_table_figure(table, TableFigure(kind="dots"), report / "table_data")
    shown = page()
    assert shown.count('<figure class="of-table">') == 1
    assert shown.count("data:image/") == 1
    assert 'href="table_data/table07.svg"' in shown
    assert "<h2>Figures</h2>" not in shown
    assert read_pictures(report, PageParams()) == []
