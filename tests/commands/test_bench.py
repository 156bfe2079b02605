"""`regroup bench`: several evaluations in one process, and what it refuses, keeps and reports."""

from __future__ import annotations

import csv
import json
import math
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from ruamel.yaml import YAML
from torch import Tensor

from regroup.captions.index import INDEX, SCHEMA
from regroup.cli import main
from regroup.model import GroupViT, ImageEncoding, save_checkpoint
from regroup.seeds import write_seeds
from regroup.settings import read_yaml
from regroup.tasks import Work, evaluation
from tests.thesis import enter_project

EVALUATE: dict[str, Any] = {
    "retrieval": {"ks": [1, 2], "device": "cpu"},
    "both": {
        "task": "together",
        "tasks": {
            "first": {"task": "retrieval", "ks": [1], "device": "cpu"},
            "some": {"task": "retrieval", "limit": 3, "device": "cpu"},
        },
    },
}
NAMES = ["retrieval", "both/first", "both/some"]


def write_params(file: str, evaluate: dict[str, Any], **others: Any) -> None:
    values = read_yaml(Path("params.yaml")) | {"evaluate": evaluate, "params_file": file} | others
    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False
    with Path(file).open("w") as stream:
        yaml.dump(values, stream)


@pytest.fixture
def project(tmp_path: Path, model: GroupViT, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two checkpoints and no raw data."""
    root = enter_project(tmp_path / "project", monkeypatch, "dvc.yaml")
    save_checkpoint(model, root / "runs/mini/one")
    other = deepcopy(model)
    with torch.no_grad():
        other.image_projector.out.weight.mul_(-1)
    save_checkpoint(other, root / "runs/mini/other")
    write_params("small.yaml", EVALUATE)
    return root


def bench(*words: object, params: str = "small.yaml") -> int:
    with pytest.raises(SystemExit) as end:
        main(["bench", *map(str, words), "--params", *params.split(), "--quiet"])
    return int(end.value.code or 0)


def lines_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


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


def with_segmentation() -> dict[str, Any]:
    values = read_yaml(Path("params.yaml"))["evaluate"]["segmentation"]
    values["datasets"] = {"voc": values["datasets"]["voc"]}
    values["validation"] = {"datasets": [], "images": 1}
    return {"retrieval": EVALUATE["retrieval"], "segmentation": values}


def test_what_cannot_be_scored_is_named_at_the_end_and_the_rest_is_written(
    project: Path, coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_params("small.yaml", with_segmentation())
    assert bench("runs/mini/one", "--root", f"coco={coco}") == 1
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == (
        "not scored: one, segmentation: data/mini/raw/voc12: the source voc12 is not there; make it "
        "(`dvc repro dvc.yaml:source@voc12`) or give --root voc12=FOLDER"
    )
    out = project / "out/bench/mini/one"
    assert metrics(out / "retrieval")["task"] == "retrieval"
    assert not (out / "segmentation").exists()
    assert "Not scored:\n\n- one, segmentation: data/mini/raw/voc12" in (out / "bench.md").read_text()


def test_a_fault_found_while_scoring_ends_that_evaluation_alone(
    project: Path, coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (coco / "val2017" / f"{9:012}.png").write_bytes(b"no picture")
    assert bench("runs/mini/one", "--root", f"coco={coco}", "--limit", 2) == 0
    assert bench("runs/mini/one", "--root", f"coco={coco}") == 2, "nothing is left to be shown"
    write_params("small.yaml", {**EVALUATE, "two": {"task": "retrieval", "limit": 2}})
    capsys.readouterr()
    assert bench("runs/mini/one", "--root", f"coco={coco}", "--out", "out/x") == 1
    said = capsys.readouterr().out
    assert said.count("not scored: one, ") == 3
    assert f"{9:012}.png" in said
    assert {row["evaluation"] for row in lines_of(project / "out/x/bench.csv")} == {"two"}


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


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "the following arguments are required: CHECKPOINT"),
        (["runs/mini/none"], "runs/mini/none"),
        (["runs/mini/one", "runs/mini/one"], "CHECKPOINT: runs/mini/one is given twice"),
        (["runs/mini/one", "runs/mini/../mini/one"], "are both called one"),
        (["runs/mini/one", "--tasks", "retreival"], "no 'retreival'; known: retrieval, both, both/first"),
        (["runs/mini/one", "--tasks", "both", "both"], "--tasks: both is given twice"),
        (["runs/mini/one", "--root", "ade=."], "--root 'ade': no source that is read here; what is: coco"),
        (["runs/mini/one", "--root", "coco"], "'coco' is not SOURCE=FOLDER"),
        (["runs/mini/one", "--root", "coco=none"], "--root coco: no such folder none"),
        (["runs/mini/one", "--root", "coco=.", "--root", "coco=runs"], "--root: coco is given twice"),
        (["runs/mini/one", "--limit", "0"], "argument --limit: '0' is not possible"),
        (["runs/mini/one", "--limit", "1", "--limit", "2"], "argument --limit: is given twice"),
        (["runs/mini/one", "--limit", "200000000"], "limit"),
        (["runs/mini/one", "--batch", "0"], "argument --batch"),
        (["runs/mini/one", "--device", "tpu"], "argument --device"),
        (["runs/mini/one", "--out", "reports/mini"], "belongs to the pipeline"),
        (["runs/mini/one", "--out", "params.yaml"], "params.yaml is a file, but a folder is needed"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_before_anything_is_scored(
    project: Path, coco: Path, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*words, *([] if "--root" in words else ["--root", f"coco={coco}"])) == 2
    assert complaint in capsys.readouterr().err
    assert not (project / "out").exists()


def test_who_lacks_a_source_is_told_which_pipeline_makes_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate: dict[str, Any] = {"retrieval": {}, "composition": {"task": "compositionality"}}
    sources = {**read_yaml(Path("params.yaml"))["sources"], "compositions": {"kind": "mini"}}
    study = {"name": "mini-bench", "data": "mini", "study": "bench", "own_sources": ["compositions"]}
    (project / "other").mkdir()
    write_params("other/small.yaml", evaluate, sources=sources, **study)
    assert bench("runs/mini/one", params="other/small.yaml") == 2
    said = capsys.readouterr().err
    assert "mini/raw/coco: the source coco is not there; make it (`dvc repro dvc.yaml:source@coco`)" in said
    assert "mini-bench/raw/compositions" in said
    assert "(`dvc repro other/dvc.yaml:source@compositions`)" in said


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


def test_where_nothing_can_be_scored_nothing_is_written(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("runs/mini/one") == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "regroup bench: error: retrieval: data/mini/raw/coco: the source coco is not there"
    )
    assert len(said.splitlines()) == len(NAMES)
    assert not (project / "out").exists()


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ("small.yaml small.yaml", "--params: "),
        ("none.yaml", "none.yaml: no such file"),
        ("small.yaml studies/none/params.yaml", "studies/none"),
    ],
)
def test_parameters_that_are_not_there_or_there_twice_are_refused(
    project: Path, params: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("runs/mini/one", params=params) == 2
    assert complaint in capsys.readouterr().err


def test_files_of_others_are_left_alone(
    project: Path, coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["runs/mini/one", "--root", f"coco={coco}", "--tasks", "retrieval", "--out", "out/mine"]
    (project / "out/mine").mkdir(parents=True)
    (project / "out/mine/notes.txt").write_text("mine")
    assert bench(*given) == 0
    for name in ("bench.md", "retrieval/metrics.json"):
        file = project / "out/mine" / name
        content = file.read_bytes()
        file.write_text("edited")
        assert bench(*given) == 2
        assert f"were changed since, and would overwrite: {file.name}" in capsys.readouterr().err
        assert file.read_text() == "edited"
        file.write_bytes(content)
    (project / "out/file").mkdir()
    (project / "out/file/retrieval").write_text("in the way")
    assert bench(*given[:-1], "out/file") == 2
    assert "out/file/retrieval is a file, but a folder is needed" in capsys.readouterr().err


def test_weights_that_are_no_numbers_are_refused(
    project: Path, coco: Path, model: GroupViT, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = deepcopy(model)
    with torch.no_grad():
        broken.image_projector.out.bias.fill_(math.nan)
    save_checkpoint(broken, project / "runs/mini/broken")
    for words in (["runs/mini/broken"], ["runs/mini/one", "runs/mini/broken"]):
        assert bench(*words, "--root", f"coco={coco}") == 2
        assert "not finite" in capsys.readouterr().err
        assert not (project / "out/bench/mini/one/retrieval").exists(), "the second one was looked at first"


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
