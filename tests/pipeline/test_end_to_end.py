"""From raw data to Table 11 through the stage scripts, on a world of a few images and random weights."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from regroup.metrics import metrics_files
from regroup.settings import read_yaml
from tests.thesis import HERE, STUDY, copy_project

from .scripts import run_stage

ROOT = Path(__file__).parents[2]
SMALL = {
    "coco_train: 1600": "coco_train: 30",
    "coco_val: 200": "coco_val: 4",
    "voc12_train: 300": "voc12_train: 60",
    "voc12_val: 150": "voc12_val: 4",
    "context_train: 100": "context_train: 2",
    "context_val: 150": "context_val: 4",
    "ade_train: 20": "ade_train: 2",
    "ade_val: 150": "ade_val: 4",
    "images_per_shard: 400": "images_per_shard: 16",
    "freq1k: 128, freq5k: 260": "freq1k: 3, freq5k: 6",
    "    width: 96 ": "    width: 32 ",
    "    steps: 200": "    steps: 2",
    "max_steps: null": "max_steps: 2",
    "batch_divisor: 8": "batch_divisor: 16",
    "image_sizes: {224: 64, 384: 112}": "image_sizes: {224: 32, 384: 48}",
    "enabled: true": "enabled: false",
    "kind: file ": "kind: random ",
    "path: pretrain/groupvit-mini": "path: params.yaml",
    "  model: null": "  model: {image: {image_size: 32, patch_size: 8, width: 32, heads: 2, stages: "
    "[{depth: 1, group_tokens: 8}, {depth: 1, group_tokens: 4}, {depth: 1}]}, "
    "text: {width: 32, depth: 1, heads: 2}, projector_hidden: 32, joint_width: 32}",
}
TABLE_11 = ("original", "refined-384", "ge-384", "noise-free-ge-384")
SOME = (*TABLE_11, "refined", "vocabulary-5k", "blocks-1", "le-384", "dino", "dino-input")
"""The variants that are run: one of each kind that the pipeline treats apart."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts, the variants, and the parameters made small."""
    folder = tmp_path_factory.mktemp("project")
    text = (ROOT / "params.yaml").read_text()
    for old, new in SMALL.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    params = YAML(typ="safe", pure=True).load(text)
    params["learning"]["panels"] = [{"title": "Two seeds", "lines": {"Both": ["refined-384", "ge-384"]}}]
    chosen = {name: entry for name, entry in read_yaml(HERE.variants)["variants"].items() if name in SOME}
    copy_project(folder, "dvc.yaml")
    (folder / "params.yaml").unlink()
    YAML().dump(params, folder / "params.yaml")
    YAML().dump({"variants": chosen}, folder / STUDY.variants)
    return folder


def test_the_pipeline_ends_in_table_11(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    variants = list(read_yaml(project / STUDY.variants)["variants"])
    for source in ("coco", "voc12", "context", "ade"):
        run_stage(monkeypatch, "source", source)
    for stage in ("weights", "shards", "nouns", "noun_report", "resolve", "dino"):
        run_stage(monkeypatch, stage)
    for variant in variants:
        run_stage(monkeypatch, "finetune", variant)
        run_stage(monkeypatch, "evaluate", f"segmentation-{variant}")
    for variant in ("original", "noise-free-ge-384"):
        run_stage(monkeypatch, "dissect", variant)
    for stage in ("sweep", "learning", "tables", "figures", "page"):
        run_stage(monkeypatch, stage)
    scores = list(csv.DictReader((project / "reports/mini/tables/scores.csv").read_text().splitlines()))
    assert [one["seed"] for one in scores if one["variant"] == "ge-384"] == ["123", "0", "100"]
    assert [one["seed"] for one in scores if one["variant"] == "original"] == [""]

    rows = list(csv.DictReader((project / "reports/mini/table_data/table11.csv").read_text().splitlines()))
    assert len(rows) == 4
    for name, row in zip(TABLE_11, rows, strict=True):
        files = metrics_files(project / f"reports/mini/metrics/segmentation/{name}")
        found = [json.loads(file.read_text()) for file in files]
        assert [one["seed"] for one in found] == ([None] if name == "original" else [123, 0, 100])
        scored = np.mean([one["datasets"]["coco"]["values"]["miou"] for one in found])
        assert float(row["coco_ours"]) == pytest.approx(scored, abs=0.006)
        assert int(row["coco_ours_runs"]) == len(found)
    nouns = project / "reports/mini/nouns"
    assert json.loads((nouns / "noun_frequency.json").read_text())["profile"] == "mini"
    assert "mini" in (nouns / "frequent_nouns.md").read_text()
    markdown = (project / "reports/mini/tables/table11.md").read_text()
    assert "mini" in markdown.splitlines()[0]
    assert "missing" not in markdown
    tables = {number: project / f"reports/mini/tables/table{number:02}.md" for number in (1, 2, 12)}
    for path in tables.values():
        assert "missing" not in path.read_text().replace("| Original | 52.29 | missing | missing |", "")
    assert "Ours stand by position: resolution 128, 146 pixels" in tables[12].read_text()
    figures = project / "reports/mini/figures"
    thesis = set()
    for sidecar in figures.glob("*.json"):
        caption = json.loads(sidecar.read_text())
        assert caption["profile"] == "mini"
        assert {path.suffix for path in figures.glob(f"{sidecar.stem}.*")} == {
            ".json",
            ".npz",
            ".png",
            ".svg",
        }
        thesis.update(caption["thesis"])
    wanted = {*range(1, 24), 25, 26, 27}
    assert thesis == wanted
    assert (figures / "qualitative.png").stat().st_size > 10_000
    cover = project / "reports/mini/qualitative.png"
    assert cover.read_bytes() == (figures / "qualitative.png").read_bytes()
    in_git = {path.suffix for path in (project / "reports/mini/tables").glob("*.*")}
    assert in_git <= {".md", ".csv", ".yaml"}
    page = (project / "reports/mini/index.html").read_text()
    assert "Table 11 (mini)" in page
    assert "data:image/" in page
    assert not (project / ".state").exists() or not list((project / ".state").rglob("state.pt"))
    runs_are_not_scored_on_what_they_learned(project, monkeypatch)


def runs_are_not_scored_on_what_they_learned(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retrieval on the images of the shards: refused for a run that saw them, and for no other."""
    params = read_yaml(project / "params.yaml")
    params["evaluate"]["learned"] = {"task": "retrieval", "split": "train"}
    YAML().dump(params, project / "params.yaml")
    run_stage(monkeypatch, "evaluate", "learned-original")
    assert (project / "reports/mini/metrics/learned/original/metrics.json").is_file()
    with pytest.raises(SystemExit) as stop:
        run_stage(monkeypatch, "evaluate", "learned-ge-384")
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["source", "--item", "voc"],
            "--item voc: no item of the stage `source` in this profile; known: coco",
        ),
        (
            ["finetune", "--item", "ge"],
            "--item ge: no item of the stage `finetune` in this profile; known: original",
        ),
        (["evaluate"], "--item is missing"),
        (["shards"], "no such file"),
    ],
)
def test_a_mistake_ends_with_one_line_and_status_2(
    project: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    copy_project(tmp_path)
    for name in ("params.yaml", STUDY.variants):
        (tmp_path / name).write_text((project / name).read_text())
    stage, *rest = arguments
    script = ROOT / "stages" / f"{stage}.py"
    command = [sys.executable, str(script), "--params", "params.yaml", *rest]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml", "studies"]


def test_a_checkpoint_of_another_shape_is_named(project: Path, tmp_path: Path) -> None:
    from regroup.backbones import load_checkpoint
    from regroup.errors import RegroupError
    from regroup.model import save_checkpoint
    from regroup.training.checkpoint import start_model
    from regroup.training.settings import CheckpointParams

    params = CheckpointParams.model_validate(
        read_yaml(project / "params.yaml")["checkpoint"] | {"path": str(tmp_path)}
    )
    save_checkpoint(start_model(params), tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"joint_width": 32', '"joint_width": 48'))
    with pytest.raises(
        RegroupError,
        match=r"does not fit the model.*image_projector\.out\.weight is \[32, 32\], expected \[48, 32\]",
    ):
        load_checkpoint(tmp_path)
