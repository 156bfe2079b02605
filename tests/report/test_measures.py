"""Claims about what no table has: early points of curves, single classes, numbers of images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regroup.errors import RegroupError
from regroup.report.checked import ClaimResult
from regroup.report.what_moved import format_what_moved, write_what_moved
from tests.thesis import check_claims

WriteMetrics = Callable[..., Path]


def claim(
    name: str, runs: Mapping[int, Mapping[str, list[Path]]], measures: Path | None = None
) -> ClaimResult:
    moved = check_claims(runs, profile="mini", drawn=True, measures=measures)
    (found,) = [result for result in moved.results if result.claim.id == name]
    return found


def curve(metrics: Path, *points: tuple[float, float]) -> Path:
    """A validation curve beside a metrics file: epochs and values."""
    rows = [{"step": 10 * epoch, "epoch": epoch, "val_coco": value} for epoch, value in points]
    pq.write_table(pa.Table.from_pylist(rows), metrics.with_name("validation.parquet"))
    return metrics


def test_early_points_are_those_of_the_first_part_without_the_start(metrics: WriteMetrics) -> None:
    with_it, without = (
        [
            curve(
                metrics(f"{name}{seed}", seed=seed, coco=30.0),
                (0, 99.0),
                (10, 20.0 + seed / 100 + gain),
                (20, 50.0),
                (30, 60.0),
            )
            for seed in (0, 100, 200)
        ]
        for name, gain in (("with", 1.5), ("without", 0.0))
    )
    found = claim("multi_label_starts_faster", {5: {"np_nouns_5": with_it, "caption": without}})
    (one,) = found.comparisons
    assert one.ours.found is not None
    assert one.ours.found.value == pytest.approx(1.5)
    assert (one.ours.found.method, found.ours) == ("blocked", "agree")
    assert [str(run) for run in one.left_runs] == [
        "with0 (seed 0)",
        "with100 (seed 100)",
        "with200 (seed 200)",
    ]


def test_without_curves_a_claim_about_them_is_missing(metrics: WriteMetrics, tmp_path: Path) -> None:
    runs = {5: {row: [metrics(row, seed=0, coco=30.0)] for row in ("np_nouns_5", "caption")}}
    assert claim("multi_label_starts_faster", runs).ours == "missing"
    moved = check_claims(runs, profile="mini", drawn=True)
    text = write_what_moved(moved, tmp_path)[2].read_text()
    line = next(line for line in text.splitlines() if "training starts faster" in line)
    assert line.endswith("| n/a: a figure or a remark, no numbers | missing |")


def per_class(metrics: Path, **iou: float) -> Path:
    """Per-class scores beside a metrics file."""
    rows = [
        {"dataset": "voc", "class": name, "iou": value, "predictable": value >= 0, "true": 10}
        for name, value in iou.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows), metrics.with_name("per_class.parquet"))
    return metrics


def test_classes_are_compared_one_by_one_and_those_of_no_world_are_told(metrics: WriteMetrics) -> None:
    runs = {
        11: {
            "original": [per_class(metrics("o", voc=50.0), person=30.0, plant=40.0, sheep=-1.0, horse=10.0)],
            "noise_free_ge": [
                per_class(metrics(f"n{k}", seed=k, voc=50.0), person=20.0 + k, plant=41.0 + k, horse=20.0 + k)
                for k in range(3)
            ],
        }
    }
    lost = claim("voc_classes_lose", runs)
    assert {one.part: one.ours.holds for one in lost.comparisons} == {"person": True, "plant": False}
    assert lost.absent == ()
    gained = claim("voc_classes_gain", runs)
    assert [one.part for one in gained.comparisons] == ["horse"]
    assert gained.absent == ("aeroplane", "bicycle", "motorbike", "sheep")
    assert gained.ours == "agree"
    text = " ".join(format_what_moved(check_claims(runs, profile="mini", drawn=True)).split())
    assert "not in this world: aeroplane, bicycle, motorbike, sheep" in text


def test_without_scores_of_classes_nothing_is_dropped(metrics: WriteMetrics) -> None:
    found = claim("voc_classes_lose", {11: {"original": [metrics("o", voc=50.0)]}})
    assert (found.ours, found.absent, len(found.comparisons)) == ("missing", (), 2)


def write_images(folder: Path, name: str, values: Mapping[str, list[float]]) -> None:
    folder.mkdir(exist_ok=True)
    numbered = {side: {f"{k:03}": value for k, value in enumerate(some)} for side, some in values.items()}
    text = {"title": "t", "unit": "nats", "runs": dict.fromkeys(values, "run"), "values": numbered}
    (folder / f"{name}.json").write_text(json.dumps(text))


def test_images_are_compared_one_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "measures"
    assert claim("dino_sharper", {}, folder).ours == "missing"
    write_images(folder, "affinity_spread", {"dino": [0.5, 0.7, 0.3, 0.6], "model": [0.3, 0.52, 0.1, 0.41]})
    found = claim("dino_sharper", {}, folder)
    (one,) = found.comparisons
    assert one.ours.found is not None
    assert one.ours.found.value == pytest.approx(0.1925)
    assert (found.ours, one.ours.found.seeds) == ("agree", 4)
    assert "(4 images)" in format_what_moved(check_claims({}, profile="mini", drawn=True, measures=folder))
    write_images(
        folder,
        "group_entropy",
        {"pretrained": [0.5, 0.6, 0.7], "unpenalised": [0.4, 0.5, 0.3], "penalised": [0.41, 0.5, 0.29]},
    )
    assert claim("ge_lowers_entropy", {}, folder).ours == "cannot tell"
    (folder / "group_entropy.json").write_text('{"values": 3}')
    with pytest.raises(RegroupError, match=r"group_entropy\.json: title: this key is missing"):
        claim("ge_lowers_entropy", {}, folder)


def test_a_damaged_file_beside_the_metrics_is_named(metrics: WriteMetrics) -> None:
    file = metrics("o", voc=50.0)
    file.with_name("per_class.parquet").write_bytes(b"nonsense")
    with pytest.raises(RegroupError, match=r"per_class\.parquet: cannot be read .* run the stage `evaluate`"):
        claim("voc_classes_lose", {11: {"original": [file]}})
    pq.write_table(pa.table({"dataset": ["voc"]}), file.with_name("per_class.parquet"))
    with pytest.raises(RegroupError, match=r"per_class\.parquet: no 'class' in it"):
        claim("voc_classes_lose", {11: {"original": [file]}})
