from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from regroup.errors import RegroupError
from regroup.model import GroupViT, ImageFeatures
from regroup.segmentation.evaluation import evaluate
from regroup.segmentation.settings import DatasetParams, InferenceParams, SweepGrid
from regroup.segmentation.sweep import best, format_markdown, sweep, write_sweep
from regroup.segmentation.sweep_figure import write_heat_maps

SMALL = InferenceParams(short_side=48, window=48, stride=24)
VOC = DatasetParams(source="voc12", protocol="voc", limit=3)
GRID = SweepGrid(short_side=(40, 56), stride=(24, 64), top_k=(1, 5), threshold=(0.05, 0.3))
FILES = [
    "sweep-voc.json",
    "sweep-voc.npz",
    "sweep-voc.png",
    "sweep-voc.svg",
    "sweep.csv",
    "sweep.json",
    "sweep.md",
]


def test_every_point_scores_as_it_does_alone_and_the_model_runs_once_an_encoding(
    model: GroupViT, voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = []
    encode = model.encode_image

    def counted(pixels: Tensor, **options: bool) -> ImageFeatures:
        windows.append(len(pixels))
        return encode(pixels, **options)

    monkeypatch.setattr(model, "encode_image", counted)
    rows = sweep(model, {"voc": VOC}, SMALL, GRID, {"voc12": voc})
    # a stride of 64 exceeds the window; 2 resolutions, a window, a stride, 2 top-k and 2 thresholds are left
    assert [(r.short_side, r.stride, r.top_k, r.threshold) for r in rows] == [
        (side, 24, k, t) for side in (40, 56) for k in (1, 5) for t in (0.05, 0.3)
    ]
    once = sum(windows)
    windows.clear()
    for row in rows:
        dataset = VOC.model_copy(update={"threshold": row.threshold})
        params = InferenceParams(short_side=row.short_side, window=48, stride=24, top_k=row.top_k)
        alone = evaluate(model, dataset, params, voc)
        assert (row.miou, row.macc, row.aacc, row.images) == (alone.miou, alone.macc, alone.aacc, 3)
    assert sum(windows) == 4 * once
    assert len({row.miou for row in rows}) > 4

    paths = write_sweep(rows, tmp_path, title="mini") + write_heat_maps(
        rows, tmp_path, profile="mini", drawn=True
    )
    assert sorted(path.name for path in paths) == FILES
    with (tmp_path / "sweep.csv").open() as file:
        stored = list(csv.DictReader(file))
    assert [float(row["miou"]) for row in stored] == [row.miou for row in rows]
    top = max(rows, key=lambda row: row.miou)
    assert json.loads((tmp_path / "sweep.json").read_text())["best"]["voc"]["miou"] == top.miou
    assert (tmp_path / "sweep.md").read_text().count(f"**{top.miou:.2f}**") == 1
    with np.load(tmp_path / "sweep-voc.npz") as data:
        assert data["miou"].tolist() == [row.miou for row in rows]
    first = {path.name: path.read_bytes() for path in paths}
    write_sweep(rows, tmp_path, title="mini")
    write_heat_maps(rows, tmp_path, profile="mini", drawn=True)
    assert {path.name: path.read_bytes() for path in paths} == first


def test_a_protocol_without_background_has_no_thresholds_to_sweep(model: GroupViT, tmp_path: Path) -> None:
    from PIL import Image

    base = tmp_path / "ADEChallengeData2016"
    for folder in ("images", "annotations"):
        (base / folder / "validation").mkdir(parents=True)
    Image.new("RGB", (60, 50), "green").save(base / "images/validation/ADE_val_00000001.jpg")
    Image.new("L", (60, 50), 5).save(base / "annotations/validation/ADE_val_00000001.png")
    ade = DatasetParams(source="ade", protocol="ade150")
    rows = sweep(model, {"ade": ade}, SMALL, SweepGrid(threshold=(0.2, 0.9)), {"ade": tmp_path})
    assert [row.threshold for row in rows] == [None]
    assert "no background" in format_markdown(rows, "t")
    assert best(rows)["ade"] is rows[0]


def test_a_grid_without_a_possible_window_is_refused(model: GroupViT, voc: Path) -> None:
    with pytest.raises(RegroupError, match="every stride is larger than every window"):
        sweep(model, {"voc": VOC}, SMALL, SweepGrid(stride=(64, 100)), {"voc12": voc})


def test_rows_of_table_12_are_filled_by_position(model: GroupViT, voc: Path, tmp_path: Path) -> None:
    from regroup.model import save_checkpoint
    from regroup.report.tables import build_table
    from regroup.segmentation.sweep_table import write_rows

    save_checkpoint(model, tmp_path / "checkpoint")
    grid = SweepGrid(short_side=(40, 56), threshold=(0.05, 0.1, 0.3))
    rows = sweep(model, {"voc": VOC}, SMALL, grid, {"voc12": voc})
    paths = write_rows(rows, grid, tmp_path, variant="v", profile="mini", checkpoint=tmp_path / "checkpoint")
    names = [f"res{side}_bg{percent}" for side in (448, 512) for percent in (90, 95, 98)]
    assert [path.stem for path in paths] == names, "no row for the fourth threshold"
    table = build_table(12, {path.stem: [path] for path in paths}, profile="mini", drawn=True)
    ours = {row.id: row.cells[1].ours for row in table.rows}
    assert [ours[name].mean for name in names] == [row.miou for row in rows]
    assert ours["res448_bg99"] is None
