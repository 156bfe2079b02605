"""`regroup bench`: several evaluations in one process, and what it keeps and reports."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from regroup.captions.index import INDEX, SCHEMA
from regroup.cli import main
from regroup.model import GroupViT, ImageEncoding, save_checkpoint
from regroup.seeds import write_seeds
from regroup.tasks import Work, evaluation

from .benched import EVALUATE, NAMES, bench, lines_of, metrics, write_params


def test_every_evaluation_scores_what_it_does_alone(
    project: Path,
    coco: Path,
    model: GroupViT,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    assert bench("runs/mini/one", "--root", f"coco={coco}") == 0
    assert threads == [1], "as many as the stage evaluate has"
    out = project / "out/bench/mini/one"
    rows = lines_of(out / "bench.csv")
    assert list(dict.fromkeys(row["evaluation"] for row in rows)) == NAMES
    for name, options in zip(NAMES, ({"ks": [1, 2]}, {"ks": [1]}, {"limit": 3}), strict=True):
        alone = evaluation("retrieval", options).run(model, Work({"coco": coco}))
        found = metrics(out / name)
        assert found["datasets"]["coco"]["values"] == alone.datasets["coco"].values
        assert (found["variant"], found["profile"], found["task"]) == ("one", "mini", name)
        assert (out / name / "ranks.parquet").read_bytes() == alone.files["ranks.parquet"]
        written = {row["metric"]: float(row["value"]) for row in rows if row["evaluation"] == name}
        assert written == alone.datasets["coco"].values
    assert {row["unit"] for row in rows} == {"percent", "rank"}
    printed, told = capsys.readouterr().out, (out / "bench.md").read_text()
    for text in (printed, told):
        assert "both/some (retrieval)" in text
        assert "chance" in text
        assert "drawn images" not in " ".join(text.split()), "they were given"
    assert told.startswith("# Bench of one (mini; given: coco)\n")
    assert (out / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_are_encoded_once_and_kept_results_need_none(
    project: Path, coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    encode = GroupViT.encode_image

    def counted(self: GroupViT, pixels: Tensor, **options: bool) -> ImageEncoding:
        seen.append(len(pixels))
        return encode(self, pixels, **options)

    monkeypatch.setattr(GroupViT, "encode_image", counted)
    given = ["runs/mini/one", "--root", f"coco={coco}"]
    assert bench(*given, "--tasks", "both") == 0
    # both/some has three of the four images: another block
    assert sum(seen) == 4 + 3
    assert bench(*given) == 0
    assert sum(seen) == 4 + 3, "retrieval has the images of both/first"
    before = {path: path.read_bytes() for path in (project / "out").rglob("*") if path.is_file()}
    assert bench(*given) == 0
    assert {path: path.read_bytes() for path in (project / "out").rglob("*") if path.is_file()} == before
    assert bench(*given, "--limit", 2) == 0
    assert sum(seen) == 4 + 3 + 2, "other options are scored again"
    out = project / "out/bench/mini/one"
    assert {metrics(out / name)["datasets"]["coco"]["images"] for name in NAMES} == {2}


def test_what_was_scored_is_kept_only_if_nothing_has_changed(
    project: Path, coco: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [
        "bench",
        "runs/mini/one",
        "--params",
        "small.yaml",
        "--root",
        f"coco={coco}",
        "--tasks",
        "retrieval",
    ]

    def kept() -> bool:
        with pytest.raises(SystemExit) as end:
            main(given)
        assert not end.value.code
        return "retrieval: kept from before" in capsys.readouterr().out

    out = project / "out/bench/mini/one/retrieval"
    assert not kept()
    assert kept()
    (out / "evaluation.json").unlink()  # as a kill leaves it
    assert not kept()
    captions = coco / "annotations/captions_val2017.json"
    captions.write_text(captions.read_text() + " ")
    assert not kept()
    save_checkpoint(deepcopy_of(project), project / "runs/mini/one")
    assert not kept()
    assert kept()
    monkeypatch.setattr("regroup.bench.score.code_of", lambda *_: {"library": "edited"})
    assert not kept()


def test_a_run_of_ours_is_not_scored_on_what_it_was_trained_on(
    project: Path, coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told by its `seeds.json`; of another checkpoint, or another profile's run, nothing is known."""
    rows = {
        name: pa.array([7 if name == "image_id" else None], kind)
        for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True)
    }
    shards = project / "data/mini/shards"
    shards.mkdir(parents=True)
    pq.write_table(pa.table(rows, schema=SCHEMA), shards / INDEX)
    run, other = project / "runs/mini-mine/one", project / "runs/full/one"
    for folder in (run, other):
        shutil.copytree(project / "runs/mini/one", folder)
        write_seeds(folder, [3])
    given = ["--root", f"coco={coco}", "--tasks", "retrieval"]
    for checkpoint in ("runs/mini/one", other):
        assert bench(checkpoint, *given) == 0
    assert bench(run, *given) == 2
    assert "the model was trained on 1 of the 4 images" in capsys.readouterr().err
    write_params("marked.yaml", {"retrieval": {"leak": "mark", "device": "cpu"}})
    assert bench(run, *given, params="marked.yaml") == 0
    assert "25.0% of it trained on" in capsys.readouterr().out


def deepcopy_of(project: Path) -> Any:
    from regroup.backbones import load_checkpoint

    return load_checkpoint(project / "runs/mini/other")


def test_several_checkpoints_stand_in_one_table(
    project: Path, coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("runs/mini/one", "runs/mini/other", "--root", f"coco={coco}", "--tasks", "retrieval") == 0
    out = project / "out/bench/mini"
    assert [row["checkpoint"] for row in lines_of(out / "bench.csv")[::7]] == ["one", "other"]
    first, second = (metrics(out / name / "retrieval") for name in ("one", "other"))
    assert first["checkpoint"] != second["checkpoint"]
    assert first["datasets"] != second["datasets"]
    table = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    assert table[table.index("one") : table.index("one") + 3] == ["one", "other", "chance"]
    # the results of one alone are found again
    before = (out / "one/retrieval/metrics.json").stat().st_mtime_ns
    assert bench("runs/mini/one", "--root", f"coco={coco}", "--tasks", "retrieval") == 0
    assert (out / "one/retrieval/metrics.json").stat().st_mtime_ns == before


def test_evaluations_of_several_files_are_told_apart(
    project: Path, coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    retrieval = {"task": "retrieval", "ks": [3]}
    (project / "studies/an-other").mkdir()
    write_params("more.yaml", {**EVALUATE, "both": retrieval, "own": retrieval}, study="studies/an-other")
    given = ["runs/mini/one", "--root", f"coco={coco}"]
    write_params("clash.yaml", {"retrieval": {"ks": [1]}}, study="studies/an-other")
    assert bench(*given, params="small.yaml more.yaml") == 0
    names = list(
        dict.fromkeys(row["evaluation"] for row in lines_of(project / "out/bench/mini/one/bench.csv"))
    )
    assert names == [*NAMES, "both", "own"]
    assert bench(*given, "--out", "out/y", params="small.yaml clash.yaml") == 0
    names = list(dict.fromkeys(row["evaluation"] for row in lines_of(project / "out/y/bench.csv")))
    assert names == ["thesis_retrieval", "both/first", "both/some", "an_other_retrieval"]
    write_params("far.yaml", EVALUATE, data="elsewhere", name="elsewhere")
    capsys.readouterr()
    assert bench(*given, params="small.yaml far.yaml") == 2
    assert "data of mini (small.yaml) and elsewhere (far.yaml)" in capsys.readouterr().err


DENSE = {"short_side": 40, "window": 40, "stride": 20, "batch": 4}
CURVES: dict[str, Any] = {
    "worse": {**DENSE, "task": "robustness", "corruptions": ["jpeg"], "levels": [5], "sizes": []},
    "larger": {**DENSE, "task": "robustness", "corruptions": [], "sizes": [60]},
    "both": {"task": "together", "tasks": {"sure": {**DENSE, "task": "calibration", "images": 2}}},
}


def test_curves_are_drawn_beside_the_scores_and_named(
    project: Path, voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"voc": {"source": "voc12", "protocol": "voc", "threshold": 0.1}}
    evaluate = deepcopy(CURVES)
    for one in (evaluate["worse"], evaluate["larger"], evaluate["both"]["tasks"]["sure"]):
        one["datasets"] = data
    write_params("small.yaml", evaluate)
    figures = ["worse/robustness.png", "larger/robustness.png", "both/sure/calibration.png"]
    for _ in range(2):  # scored, then kept from before
        with pytest.raises(SystemExit) as end:
            main(["bench", "runs/mini/one", "--params", "small.yaml", "--root", f"voc12={voc}"])
        assert not end.value.code
        said = capsys.readouterr().out.splitlines()
        assert f"figures: {', '.join(f'out/bench/mini/one/{name}' for name in figures)}" in said
    assert said[0] == "worse: kept from before"
    out = project / "out/bench/mini/one"
    for name in figures:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    clean, worse = (metrics(out / "worse")["datasets"]["voc"]["values"][k] for k in ("miou", "miou_jpeg_5"))
    with np.load(out / "worse/robustness.npz") as drawn:
        assert drawn["voc_jpeg"].tolist() == [[0, 5], [clean, worse]]
    caption = json.loads((out / "both/sure/calibration.json").read_text())
    assert (caption["title"], caption["profile"]) == ("Calibration of one", "mini")
    (out / "worse/robustness.png").unlink()
    assert bench("runs/mini/one", "--root", f"voc12={voc}") == 0
    assert (out / "worse/robustness.png").exists()


def test_every_file_of_parameters_follows_its_profile(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[Path] = []
    monkeypatch.setattr("regroup.profile.follow_profile", followed.append)
    bench("runs/mini/one", params="small.yaml params.yaml")
    assert followed == [Path("small.yaml"), Path("params.yaml")]


def test_the_studies_of_the_bench_are_the_default(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[Path] = []
    monkeypatch.setattr("regroup.profile.follow_profile", followed.append)
    for study in (None, "dense", "bench"):
        if study is not None:
            (project / "studies" / study).mkdir()
            (project / "studies" / study / "variants.yaml").write_text("variants: {}\n")
        with pytest.raises(SystemExit):
            main(["bench", "runs/mini/one"])
    assert list(map(str, followed)) == [
        "params.yaml",
        "studies/dense/params.yaml",
        "studies/bench/params.yaml",
        "studies/dense/params.yaml",
    ]
