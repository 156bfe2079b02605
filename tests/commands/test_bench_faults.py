"""`regroup bench`: what it refuses, and what it says where something cannot be scored."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from regroup.model import GroupViT, save_checkpoint
from regroup.settings import read_yaml

from .benched import EVALUATE, NAMES, bench, lines_of, metrics, with_segmentation, write_params


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
