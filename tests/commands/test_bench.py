"""`regroup bench`: several evaluations in one process, and what it refuses, keeps and reports."""

from __future__ import annotations

import csv
import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from torch import Tensor

from regroup.cli import main
from regroup.model import GroupViT, ImageEncoding, save_checkpoint
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
    project: Path, coco: Path, model: GroupViT, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("runs/mini/one", "--root", f"coco={coco}") == 0
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
        assert "drawn images" not in " ".join(text.split()), "the folder that was given is not the profile's"
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
    project: Path, coco: Path, capsys: pytest.CaptureFixture[str]
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
