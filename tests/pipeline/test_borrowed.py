"""A study that borrows runs of another: what its graph says, and what is copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from regroup.backbones import ROOM as BACKBONES
from regroup.checks import check_study
from regroup.io import read_json, write_bytes
from regroup.params import ProfilePaths, load_params
from regroup.profile import make_on_demand
from regroup.profile_tables import printed_numbers, table_files
from regroup.report.claims import load_claims
from regroup.report.reference import load_reference
from regroup.resolved import borrowed_backbones, write_resolved
from regroup.settings import read_yaml
from regroup.variants_file import load_scored, load_variants
from tests.thesis import edit

from .graph import stages
from .scripts import run_stage
from .studies import BORROWED_CLIP, CLIP, PARAMS, PIPELINE, VARIANTS, add_study


def test_a_borrowed_run_is_copied_and_then_as_any_other(project: Path) -> None:
    make_on_demand(PIPELINE)
    found = stages(PIPELINE)
    borrow = read_yaml(PIPELINE)["stages"]["borrow"]
    assert borrow["foreach"] == {"original": {"results": "mini", "variant": "original"}}
    assert read_yaml(PIPELINE)["stages"]["evaluate"]["matrix"]["variant"] == ["captions", "original"]
    assert "finetune" in found
    # the tables read the study's own scores, and wait for nothing and watch nothing that it lacks
    tables = found["tables"]
    assert [dep for dep in tables["deps"] if dep.startswith("reports/")] == ["reports/${name}/metrics"]
    assert not [dep for dep in tables["deps"] if "claims.yaml" in dep]
    assert {"${study}/variants.yaml": ["variants", "borrowed"]} in tables["params"]
    assert {"${params_file}": ["tables", "sources"]} in tables["params"]
    # of which backbone it is, and what it is called, its own study says
    theirs = {"studies/thesis/variants.yaml": ["variants.original"]}
    assert theirs in found["page"]["params"]
    assert theirs in found["resolve"]["params"]
    assert {"params.yaml": ["checkpoint", "checkpoints"]} in found["resolve"]["params"]
    params = load_params(PARAMS)
    reference = load_reference(params.files.tables)
    scored = load_scored(params.variants_file, params.data)
    assert scored["original"].title == "Original checkpoint"
    assert set(table_files(params, scored, reference)) == {
        (1, name, Path(f"reports/mini-mine/metrics/segmentation/{name}/metrics.json")) for name in scored
    }
    assert printed_numbers(params, reference) == (1,)
    assert not load_claims(params.files.claims, reference=reference).claims


def test_each_checkpoint_is_read_by_its_own_backbone_s_code(project: Path) -> None:
    (project / "studies/other").mkdir()
    (project / "studies/other/variants.yaml").write_text(CLIP)
    (project / "studies/mine/variants.yaml").write_text(VARIANTS + BORROWED_CLIP)
    make_on_demand(PIPELINE)
    params = load_params(PARAMS)
    variants = load_variants(params.variants_file)
    write_resolved(params, variants, params.layout, borrowed_backbones(params))
    written = {path.name for path in params.layout.variants.iterdir()}
    assert written == {"captions.json", "captions.backbone", "original.backbone", "lent.backbone"}
    backbones = {name: read_json(params.layout.backbone(name)) for name in ("original", "lent")}
    assert [one["backbone"] for one in backbones.values()] == ["groupvit", "clip"]
    assert all(one["code"] == BACKBONES.digest(one["backbone"]) for one in backbones.values())


def test_a_study_may_do_without_runs_of_its_own(project: Path) -> None:
    (project / "studies/mine/variants.yaml").write_text(
        "borrowed:\n"
        "  original: {study: thesis, variant: original, rows: [{table: 1, row: original}]}\n"
        "  one: {study: thesis, variant: ge, rows: [{table: 1, row: captions}]}\n"
    )
    make_on_demand(PIPELINE)
    found = stages(PIPELINE)
    assert list(found) == ["resolve", "borrow", "tasks", "evaluate", "tables", "page"]
    assert "reports/${name}/curves" in found["page"]["deps"]
    assert {"${study}/variants.yaml": ["borrowed"]} in found["resolve"]["params"]
    study = check_study(PARAMS)
    assert (study.runs, study.rows) == (2, 2)


def test_what_is_borrowed_are_the_checkpoint_and_the_curve(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_on_demand(PIPELINE)
    monkeypatch.setenv("DVC_STAGE", "borrow@original")
    lender, own = ProfilePaths("mini"), ProfilePaths("mini-mine", "mini")
    with pytest.raises(SystemExit):
        run_stage(monkeypatch, "borrow", "original", params=str(PARAMS))
    said = capsys.readouterr().err
    assert "runs/mini/original: not there; `dvc repro dvc.yaml:finetune@original` makes it" in said
    for name in (
        "model.safetensors",
        "seeds/0/model.safetensors",
        "seeds.json",
        "snapshots/step-000010.safetensors",
    ):
        write_bytes(lender.run("original") / name, name.encode())
    write_bytes(lender.curves / "original.csv", b"step,loss\n")
    write_bytes(own.run("original") / "old.safetensors", b"of another time")
    run_stage(monkeypatch, "borrow", "original", params=str(PARAMS))
    copied = sorted(path for path in own.run("original").rglob("*") if path.is_file())
    assert [path.relative_to(own.run("original")).as_posix() for path in copied] == [
        "model.safetensors",
        "seeds/0/model.safetensors",
        "seeds.json",
        "snapshots/step-000010.safetensors",
    ]
    assert copied[0].read_bytes() == b"model.safetensors"
    assert (own.curves / "original.csv").read_bytes() == b"step,loss\n"


def test_a_study_may_borrow_from_another_and_that_one_from_it(project: Path) -> None:
    add_study(
        project,
        "other",
        VARIANTS.replace("study: thesis, variant: original", "study: mine, variant: captions"),
    )
    edit(
        project / "studies/mine/variants.yaml",
        "study: thesis, variant: original",
        "study: other, variant: captions",
    )
    assert make_on_demand(PIPELINE) == [Path("dvc.yaml"), Path("studies/other/dvc.yaml"), PIPELINE]
    for study, lender in (("mine", "mini-other"), ("other", "mini-mine")):
        borrowed = read_yaml(Path("studies", study, "dvc.yaml"))["stages"]["borrow"]["foreach"]
        assert borrowed == {"original": {"results": lender, "variant": "captions"}}
    assert check_study(PARAMS).rows == 2
