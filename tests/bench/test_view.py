"""What a bench shows: rows as papers print them, every digit for programs, a figure."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import regroup
from regroup.bench.figure import bench_chart, bench_figure
from regroup.bench.view import (
    PROTOCOL_TITLES,
    Scores,
    bench_console,
    bench_csv,
    bench_markdown,
    columns_of,
    grids,
    shown,
)
from regroup.metrics import DatasetScores, Metric, Metrics

THIRD = 100 / 3


def made(
    task: str, values: dict[str, dict[str, float]], metrics: dict[str, Metric], **details: Any
) -> Metrics:
    return Metrics(
        profile="mini",
        variant="x",
        task=task,
        checkpoint={"sha256": "0"},
        main=next(iter(metrics)),
        metrics=metrics,
        datasets={
            name: DatasetScores(values=some, images=7, protocol={"name": f"of {name}"}, details=details)
            for name, some in values.items()
        },
        settings={"task": task.split("/")[-1]},
    )


def scores(*names: str) -> Scores:
    """Segmentation of two data sets with two metrics, classification with chance, calibration in shares."""
    miou = {"miou": Metric(title="mIoU"), "macc": Metric(title="mAcc")}
    tops = {f"top{k}": Metric(title=f"top-{k}") for k in range(1, 15)} | {
        "rank": Metric(title="median rank", unit="rank")
    }
    error = {"ece": Metric(title="calibration error", unit="ratio")}
    found = {}
    for k, name in enumerate(names):
        tasks = [
            made(
                "segmentation",
                {"coco": {"miou": 10.0 + k, "macc": THIRD}, "voc": {"miou": 50.125, "macc": 1.0}},
                miou,
            ),
            made(
                "classes/classification", {"classes": dict.fromkeys(tops, 20.0)}, tops, chance={"top1": 2.5}
            ),
            made("calibration", {"voc": {"ece": 0.12345}}, error),
        ]
        found[name] = {one.task: one for one in tasks}
    return found


def test_several_data_sets_are_columns_and_a_single_one_shows_every_metric() -> None:
    some = scores("one")
    assert [(c.title, c.name) for c in columns_of(some, "segmentation")] == [
        ("COCO", "miou"),
        ("PVOC", "miou"),
    ]
    assert [c.title for c in columns_of(some, "calibration")] == ["calibration error"]
    segmentation, classes, calibration = grids(some, profile="mini")
    assert segmentation.heading == "segmentation: mIoU [mini]"
    assert segmentation.rows == (("one", "10.00", "50.12"),)
    assert segmentation.notes == ("Percent. coco: of coco, 7 images; voc: of voc, 7 images.",)
    assert classes.heading == "classes/classification [mini]"
    assert classes.columns == ("metric", "one", "chance")
    assert [row[-1] for row in classes.rows] == ["2.50", *[""] * 14]
    assert classes.rows[-1] == ("median rank", "20.0", "")
    assert calibration.rows == (("one", "0.123"),)


def test_a_checkpoint_without_a_score_is_missing_where_others_have_one() -> None:
    some = {name: dict(tasks) for name, tasks in scores("one", "two").items()}
    del some["two"]["segmentation"]
    lacks = some["one"]["segmentation"].datasets["voc"].values
    some["three"] = {
        "segmentation": made(
            "segmentation",
            {"coco": lacks, "ade": lacks},
            {"miou": Metric(title="mIoU"), "macc": Metric(title="mAcc")},
        )
    }
    grid = grids(some, profile="mini")[0]
    assert grid.columns == ("checkpoint", "COCO", "PVOC", "ADE20K")
    assert grid.rows == (("one", "10.00", "50.12", "missing"), ("three", "50.12", "missing", "50.12"))


def test_data_sets_are_called_as_in_papers_unless_two_are_of_one_protocol() -> None:
    miou = {"miou": Metric(title="mIoU")}
    one = made("segmentation", {key: {"miou": 1.0} for key in ("a", "voc", "c", "voc_small")}, miou)
    protocols = {"a": "context459", "voc": "voc", "c": "of my own", "voc_small": "voc"}
    datasets = {
        key: DatasetScores(values={"miou": 1.0}, images=7, protocol={"name": name})
        for key, name in protocols.items()
    }
    some = {"one": {"segmentation": one.model_copy(update={"datasets": datasets})}}
    assert [c.title for c in columns_of(some, "segmentation")] == ["Context459", "PVOC", "c", "voc_small"]
    assert bench_chart(some, title="t", profile="mini", drawn=False).columns[0] == (
        "segmentation Context459, mIoU"
    )
    known = {
        file.stem
        for file in Path(regroup.__file__).with_name("segmentation").joinpath("protocols").glob("*.yaml")
    }
    assert set(PROTOCOL_TITLES) <= known


def test_a_table_of_many_metrics_is_turned_while_there_are_fewer_checkpoints() -> None:
    turned = grids(scores("one", "two"), profile="mini")[1]
    assert turned.columns == ("metric", "one", "two", "chance")
    assert turned.rows[0] == ("top-1", "20.00", "20.00", "2.50")
    assert turned.rows[-1] == ("median rank", "20.0", "20.0", "")
    text = bench_console(scores("one", "two"), profile="mini", drawn=True)
    assert text.count("classes/classification [mini]") == 1
    many = grids(scores(*(f"n{k}" for k in range(14))), profile="mini")[1]
    assert many.columns[:2] == ("checkpoint", "top-1")


def test_an_error_is_no_bar_beside_scores() -> None:
    values, title = {"voc": {"ece": 40.0}}, {"ece": Metric(title="ECE")}
    some = {"one": {**scores("one")["one"], "calibration": made("calibration", values, title)}}
    assert "ECE" not in " ".join(bench_chart(some, title="t", profile="mini", drawn=True).columns)


def test_a_wide_table_goes_on_below_and_fits_the_terminal() -> None:
    names = [f"a-checkpoint-of-a-long-name-{k}" for k in range(15)]
    text = bench_console(scores(*names), profile="mini", drawn=True)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("classes/classification [mini]") > 1
    shown_tops = [word for line in text.splitlines() for word in line.split() if word.startswith("top-")]
    assert shown_tops == [f"top-{k}" for k in range(1, 15)]
    assert text.count("small model on small drawn") == 1
    assert "drawn" not in bench_console(scores("one"), profile="full", drawn=False)


def test_programs_get_every_digit() -> None:
    rows = list(csv.DictReader(bench_csv(scores("one")).splitlines()))
    assert len(rows) == 4 + 15 + 1
    found = {(row["evaluation"], row["dataset"], row["metric"]): row for row in rows}
    assert float(found["segmentation", "coco", "macc"]["value"]) == THIRD
    assert found["calibration", "voc", "ece"] == {
        "checkpoint": "one",
        "evaluation": "calibration",
        "dataset": "voc",
        "metric": "ece",
        "value": "0.12345",
        "unit": "ratio",
    }


def test_what_a_task_s_own_draws_do_stands_beside_its_score() -> None:
    tops = {"shots_1": Metric(title="1 shot"), "shots_2": Metric(title="2 shots")}
    values = {"classes": {"shots_1": 30.0, "shots_2": 40.0}}
    some = {"one": {"few": made("few", values, tops, standard_deviation={"shots_1": 1.5})}}
    assert grids(some, profile="mini")[0].rows == (("one", "30.00 ± 1.50", "40.00"),)
    chart = bench_chart(some, title="t", profile="mini", drawn=True)
    assert [row.errors for row in chart.rows] == [(1.5,)]
    (axes,) = bench_figure(chart).axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[28.5, 31.5]]
    assert "one standard deviation over the task's own draws" in chart.note


def test_what_was_not_scored_stands_in_the_document() -> None:
    text = bench_markdown(
        scores("one"), {"one": {"x": "no | file"}}, title="Bench of <one>", profile="mini", drawn=True
    )
    assert text.startswith("# Bench of \\<one>\n\nmini: our numbers come from a small model")
    assert text.endswith("Not scored:\n\n- one, x: no \\| file\n")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(12.345, "percent", "12.34"), (3.0, "rank", "3.0"), (7.0, "count", "7"), (0.5, "ratio", "0.500")],
)
def test_digits_are_those_of_the_unit(value: float, unit: Any, text: str) -> None:
    assert shown(value, Metric(title="x", unit=unit)) == text
    assert shown(None, Metric(title="x", unit=unit)) == "missing"


def test_one_or_two_checkpoints_are_bars_with_their_values() -> None:
    chart = bench_chart(scores("one", "two"), title="t", profile="mini", drawn=True)
    assert chart.columns == (
        "segmentation COCO, mIoU",
        "segmentation PVOC, mIoU",
        "classification, top-1",
    ), "shares are on no axis of percentages"
    (axes,) = bench_figure(chart).axes
    widths = [[bar.get_width() for bar in container] for container in axes.containers]
    assert widths == [[10.0, 50.125, 20.0], [11.0, 50.125, 20.0]]
    assert [list(line.get_xdata()) for line in axes.lines] == [[2.5, 2.5]]
    assert {text.get_text().strip() for text in axes.texts} == {"10.0", "11.0", "50.1", "20.0"}


def test_more_are_a_radar_and_many_are_dots() -> None:
    names = [f"n{k}" for k in range(9)]
    radar = bench_figure(bench_chart(scores(*names[:3]), title="t", profile="mini", drawn=True))
    (axes,) = radar.axes
    assert axes.name == "polar"
    drawn = [line.get_ydata() for line in axes.lines if not line.get_label().startswith("_")]
    assert [values[0] for values in drawn] == pytest.approx([10 / 12, 11 / 12, 1])
    dots = bench_figure(bench_chart(scores(*names), title="t", profile="mini", drawn=True))
    assert list(dots.axes[0].containers[0].lines[0].get_xdata()) == [10.0 + k for k in range(9)]
    only = {
        name: {"segmentation": made("segmentation", {"coco": {"miou": 5.0}}, {"miou": Metric(title="m")})}
        for name in names[:3]
    }
    assert (
        bench_figure(bench_chart(only, title="t", profile="mini", drawn=False)).axes[0].name == "rectilinear"
    )
