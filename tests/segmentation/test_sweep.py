from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from regroup.cli import main
from regroup.errors import RegroupError
from regroup.model import GroupViT, ImageEncoding, save_checkpoint
from regroup.segmentation.evaluation import evaluate
from regroup.segmentation.resolved import resolve_dataset
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

    def counted(pixels: Tensor, **options: bool) -> ImageEncoding:
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
        alone = evaluate(model, resolve_dataset(dataset, voc), params)
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
    from regroup.segmentation.sweep_table import write_table
    from tests.thesis import build_table

    save_checkpoint(model, tmp_path / "checkpoint")
    grid = SweepGrid(short_side=(40, 56), threshold=(0.05, 0.1, 0.3))
    rows = sweep(model, {"voc": VOC}, SMALL, grid, {"voc12": voc})
    paths = write_table(rows, grid, tmp_path, variant="v", profile="mini", checkpoint=tmp_path / "checkpoint")
    names = [f"res{side}_bg{percent}" for side in (448, 512) for percent in (90, 95, 98)]
    assert [path.stem for path in paths] == names, "no row for the fourth threshold"
    table = build_table(12, {path.stem: [path] for path in paths}, profile="mini", drawn=True)
    ours = {row.id: row.cells[1].ours for row in table.rows}
    assert [ours[name].mean for name in names] == [row.miou for row in rows]
    assert ours["res448_bg99"] is None


@pytest.fixture
def project(tmp_path: Path, model: GroupViT, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a checkpoint and the study's own sweep, and nothing to score but what is given."""
    root = tmp_path / "project"
    (root / "reports/mini/sweep").mkdir(parents=True)
    (root / "reports/mini/sweep/sweep.csv").write_text("the study's")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(Path(__file__).parents[2] / name, root / name)
    save_checkpoint(model, root / "runs/mini/noise-0.5")
    monkeypatch.chdir(root)
    return root


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["sweep", "runs/mini/noise-0.5", "--datasets", "voc", "--threshold", "0.2", *map(str, words)])
    return int(end.value.code or 0)


def test_the_command_writes_outside_the_study_and_says_how_many_images(
    project: Path, voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--root", f"voc12={voc}", "--short-side", 48, "--window", 48, "--stride", 24, "--limit", 149]
    assert command(*given) == 0
    out = project / "out/sweep/mini/noise-0.5"
    assert (out / "sweep.csv").read_text().startswith("dataset,")
    assert (project / "reports/mini/sweep/sweep.csv").read_text() == "the study's"
    assert "voc: has 5 images, fewer than --limit 149" in capsys.readouterr().out
    assert command(*given) == 0, "its own results it makes again"
    (out / "sweep.csv").write_text("edited")
    assert command(*given) == 2
    assert "were changed since, and would overwrite: sweep.csv" in capsys.readouterr().err
    assert (out / "sweep.csv").read_text() == "edited"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--out", "reports/mini/sweep"], "belongs to the pipeline"),
        (["--out", "params.yaml"], "params.yaml is a file, but a folder is needed"),
        (["--limit", "-149"], "argument --limit: '-149' is not possible: a whole number from 1"),
        (["--top-k", "0"], "argument --top-k"),
        (["--batch", "0"], "argument --batch"),
        (["--stride", "0"], "argument --stride"),
        (["--window", "4", "--stride", "4"], "a patch of the model, 8 pixels, must fit in"),
        (["--short-side", "8192", "--window", "48", "--stride", "1"], "windows in a square image"),
        (["--window", "48", "48"], "--window: 48 is given twice"),
    ],
)
def test_nonsense_is_refused_before_anything_is_scored(
    project: Path, voc: Path, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--root", f"voc12={voc}", *words) == 2
    said = capsys.readouterr()
    assert complaint in said.err
    assert "image/s" not in said.err
    assert not (project / "out").exists()
