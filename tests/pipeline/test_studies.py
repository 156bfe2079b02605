"""A study beside the thesis: its parameters and graph follow from the profile's, and touch nobody else's."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from regroup.backbones import ROOM as BACKBONES
from regroup.checks import check_study
from regroup.cli import main
from regroup.errors import RegroupError
from regroup.io import read_json, write_bytes
from regroup.metrics import METRICS, MIOU, SEGMENTATION, DatasetScores, Metric, Metrics
from regroup.metrics import write_metrics as write_metrics_file
from regroup.params import ProfilePaths, load_params
from regroup.profile import is_made, make_on_demand, make_profile, make_study
from regroup.profile_tables import printed_numbers, table_files
from regroup.report.claims import load_claims
from regroup.report.reference import load_reference
from regroup.resolved import borrowed_backbones, write_resolved
from regroup.settings import read_yaml
from regroup.study import place_of, results_of
from regroup.variants import load_scored, load_variants
from tests.thesis import ROOT, copy_project

VARIANTS = """
variants:
  captions:
    title: Captions alone
    labels: {source: none, count: 0}
    objectives: [{name: contrastive}]
    rows: [{table: 1, row: captions}]
borrowed:
  original: {study: thesis, variant: original, rows: [{table: 1, row: original}]}
"""
CLIP = """
variants:
  clip: {title: CLIP, checkpoint: clip, trainable: nothing}
"""
BORROWED_CLIP = "  lent: {study: other, variant: clip}\n"
TABLES = """
about: What captions alone do.
tables:
  - number: 1
    title: Captions
    setting: 30 epochs
    labels: [Model]
    columns: [coco, voc]
    rows:
      - {id: original, labels: [Original], trained: false}
      - {id: captions, labels: [Captions alone]}
"""
READ = ("pretrain/groupvit-mini/config.json", "src/regroup/dino/stand_in.py")
"""What the parameters point at."""
PIPELINE = Path("studies/mine/dvc.yaml")
PARAMS = Path("studies/mine/params.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy_project(tmp_path, "dvc.yaml", "full/overrides.yaml", *READ)
    add_study(tmp_path, "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_study(root: Path, name: str, variants: str = VARIANTS) -> None:
    folder = root / "studies" / name
    folder.mkdir()
    (folder / "variants.yaml").write_text(variants)
    (folder / "tables.yaml").write_text(TABLES)


def stages(pipeline: Path) -> Mapping[str, Any]:
    return {name: entry.get("do", entry) for name, entry in read_yaml(pipeline)["stages"].items()}


def outputs(pipeline: Path) -> set[str]:
    return {
        out if isinstance(out, str) else next(iter(out))
        for entry in stages(pipeline).values()
        for out in entry["outs"]
    }


def test_a_folder_with_two_files_is_a_study(project: Path) -> None:
    assert make_on_demand(PIPELINE) == [Path("dvc.yaml"), PIPELINE]
    params = load_params(PARAMS)
    assert (params.name, params.data) == ("mini-mine", "mini")
    assert (PARAMS.parent / params.root).resolve() == project
    assert params.layout.shards == Path("data/mini/shards")
    assert params.layout.run("captions") == Path("runs/mini-mine/captions")
    assert params.finetune == load_params(Path("params.yaml")).finetune
    assert (params.sweep, params.dissect, params.figures, params.learning) == (None,) * 4
    assert check_study(PARAMS).rows == 2


def test_no_output_is_made_twice(project: Path) -> None:
    """What is made of the data alone is the profile's, results are each study's own."""
    make_on_demand(PIPELINE)
    assert list(stages(PIPELINE)) == ["resolve", "finetune", "borrow", "tasks", "evaluate", "tables", "page"]
    assert all("${name}" in out for out in outputs(PIPELINE))
    made = {path.replace("${name}", "mini").replace("${data}", "mini") for path in outputs(Path("dvc.yaml"))}
    read = {
        dep for entry in stages(PIPELINE).values() for dep in entry["deps"] if dep.startswith("data/${data}")
    }
    assert {path.replace("${data}", "mini").removesuffix("/manifest.json") for path in read} <= {
        *made,
        "data/mini/manifests",
        *(f"data/mini/raw/{source}" for source in ("coco", "voc12", "context", "ade")),
    }
    write_resolved(
        load_params(PARAMS), load_variants(project / "studies/mine/variants.yaml"), load_params(PARAMS).layout
    )
    assert Path("data/mini-mine/variants/captions.json").is_file()
    assert not Path("data/mini").exists()


def test_a_borrowed_run_is_copied_and_then_as_any_other(
    project: Path, write_metrics: Callable[..., None]
) -> None:
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
    lender, own = ProfilePaths("mini"), ProfilePaths("mini-mine", "mini")
    with pytest.raises(SystemExit):
        start("borrow", "original", monkeypatch)
    said = capsys.readouterr().err
    assert "runs/mini/original: not there; `dvc repro dvc.yaml:finetune@original` makes it" in said
    for name in ("model.safetensors", "snapshots/step-000010.safetensors"):
        write_bytes(lender.run("original") / name, name.encode())
    write_bytes(lender.curves / "original.csv", b"step,loss\n")
    write_bytes(own.run("original") / "old.safetensors", b"of another time")
    start("borrow", "original", monkeypatch)
    copied = sorted(path for path in own.run("original").rglob("*") if path.is_file())
    assert [path.relative_to(own.run("original")).as_posix() for path in copied] == [
        "model.safetensors",
        "snapshots/step-000010.safetensors",
    ]
    assert copied[0].read_bytes() == b"model.safetensors"
    assert (own.curves / "original.csv").read_bytes() == b"step,loss\n"


def start(stage: str, item: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a stage's script here, as DVC does."""
    monkeypatch.setenv("DVC_STAGE", f"{stage}@{item}")
    monkeypatch.setattr(sys, "argv", [f"stages/{stage}.py", "--params", str(PARAMS), "--item", item])
    runpy.run_path(str(ROOT / "stages" / f"{stage}.py"), run_name="__main__")


def test_the_summary_shows_ours_alone_where_nothing_is_published(
    project: Path, write_metrics: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    make_on_demand(PIPELINE)
    write_metrics("mini-mine", "original", coco=14.0, voc=63.0)
    write_metrics("mini-mine", "captions", coco=18.5, voc=59.25)
    with pytest.raises(SystemExit) as done:
        main(["summary", "--params", str(PARAMS)])
    said = capsys.readouterr().out
    assert done.value.code == 0
    assert "Table 1 (mini-mine): Captions" in said
    assert [line.split()[-2:] for line in said.splitlines() if line.startswith(("Original", "Captions"))] == [
        ["14.00", "63.00"],
        ["18.50", "59.25"],
    ]
    assert "delta" not in said
    write_metrics("mini-mine", "captions", profile="mini", coco=18.5)
    with pytest.raises(SystemExit):
        main(["summary", "--params", str(PARAMS)])
    assert "made by profile 'mini', but this report is about 'mini-mine'" in capsys.readouterr().err


@pytest.fixture
def write_metrics(project: Path) -> Callable[..., None]:
    def write(results: str, name: str, *, profile: str | None = None, **miou: float) -> None:
        scores = {
            key: DatasetScores(values={MIOU: value}, images=5, protocol={"name": key})
            for key, value in miou.items()
        }
        metrics = Metrics(
            profile=profile or results,
            variant=name,
            task=SEGMENTATION,
            checkpoint={"sha256": name},
            main=MIOU,
            metrics={MIOU: Metric(title="mIoU")},
            datasets=scores,
        )
        write_metrics_file(ProfilePaths(results).scores(SEGMENTATION, name) / METRICS, metrics)

    return write


def test_the_parameters_follow_the_profile_s(project: Path) -> None:
    make_on_demand(PIPELINE)
    before = PARAMS.stat().st_mtime_ns, PIPELINE.stat().st_mtime_ns
    make_on_demand(PIPELINE)
    assert (PARAMS.stat().st_mtime_ns, PIPELINE.stat().st_mtime_ns) == before
    edit(project / "params.yaml", "max_steps: null", "max_steps: 7")
    make_on_demand(PIPELINE)
    assert load_params(PARAMS).finetune.max_steps == 7
    (project / "studies/mine/overrides.yaml").write_text(
        "finetune: {max_steps: 3}\ndissect: {variants: [captions]}\n"
    )
    make_on_demand(PIPELINE)
    params = load_params(PARAMS)
    assert params.finetune.max_steps == 3
    assert params.dissect is not None
    assert (params.dissect.variants, params.dissect.chosen) == (("captions",), 10)
    assert "dissect" in stages(PIPELINE)
    assert "reports/${name}/dissection" in stages(PIPELINE)["tables"]["deps"]


def test_a_study_runs_with_any_profile(project: Path) -> None:
    make_profile(Path("full"))
    place = place_of("mine", Path("full"))
    (place.folder).mkdir()
    (place.folder / "overrides.yaml").write_text("finetune: {batch_divisor: 2}\n")
    params = load_params(make_study(place))
    assert (params.name, params.data, params.params_file) == (
        "full-mine",
        "full",
        Path("studies/mine/full/params.yaml"),
    )
    assert params.finetune.batch_divisor == 2
    assert params.segmentation.window == 448
    assert make_on_demand(Path("studies/mine/full/dvc.yaml"))[0] == Path("full/dvc.yaml")
    borrowed = read_yaml(place.folder / "dvc.yaml")["stages"]["borrow"]["foreach"]
    assert borrowed == {"original": {"results": "full", "variant": "original"}}
    assert results_of("thesis", "full") == "full"
    assert check_study(params.params_file).trained == 1


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


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "overrides.yaml",
            "world: {seed: 8}",
            "world: belongs to the data that all studies of the profile `mini`",
        ),
        ("overrides.yaml", "dino.layer: 3", "dino: belongs to the data"),
        ("overrides.yaml", "name: mine", "name: follows from the folder of the study"),
        (
            "overrides.yaml",
            "finetune: {max_step: 3}",
            "finetune.max_step: unknown key; did you mean `max_steps`?",
        ),
        ("overrides.yaml", "tables: {numbers: [7]}", "tables.numbers: there is no table 7"),
        (
            "overrides.yaml",
            "sweep: {variant: nobody}",
            "sweep.variant: nobody is not in studies/mine/variants.yaml",
        ),
        ("dvc.yaml", "stages: {}\n", "dvc.yaml: was not made by `regroup profile`"),
        ("claims.yaml", "margin: 1\nclaims: [{}]", "claims.0.id: this key is missing"),
        (
            "variants.yaml",
            VARIANTS.replace("study: thesis", "study: thesi"),
            "borrowed.original.study: studies/thesi/variants.yaml: no such file",
        ),
        ("variants.yaml", VARIANTS.replace("study: thesis", "study: mine"), "is this study itself"),
        (
            "variants.yaml",
            VARIANTS.replace("variant: original", "variant: orig"),
            "no orig in studies/thesis",
        ),
        (
            "variants.yaml",
            VARIANTS.replace("row: original", "row: first"),
            "borrowed.original.rows: table 1: no row",
        ),
        ("variants.yaml", "variants: {}\n", "a study has a run"),
        (
            "variants.yaml",
            VARIANTS.replace("  original:", "  captions:"),
            "borrowed.captions: is under `variants` too",
        ),
        (
            "variants.yaml",
            VARIANTS + "  again: {study: thesis, variant: original}\n",
            "borrowed.again: is the same run as original; list the rows of both in one entry",
        ),
        (
            "overrides.yaml",
            "tracking.register: original",
            "tracking.register: original is not in studies/mine/variants.yaml",
        ),
        ("variants.yaml", VARIANTS.partition("borrowed")[0], "no variant fills table 1, row original"),
    ],
)
def test_a_fault_of_a_study_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, message: str
) -> None:
    (project / "studies/mine" / file).write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["check", "--params", str(PARAMS)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ("thesis", "is the study of params.yaml itself; start it with `dvc repro`"),
        ("theses", "there is no study `theses`; known: mine, thesis"),
    ],
)
def test_only_another_study_has_a_pipeline_of_its_own(project: Path, study: str, message: str) -> None:
    with pytest.raises(RegroupError, match=message):
        make_on_demand(Path("studies", study, "dvc.yaml"))


def test_results_are_not_called_as_a_profile_s(project: Path) -> None:
    (project / "mini-mine").mkdir()
    (project / "mini-mine/overrides.yaml").write_text("finetune.max_steps: 3\n")
    with pytest.raises(RegroupError, match="its results would have the name of the profile mini-mine"):
        make_on_demand(PIPELINE)


def test_what_is_made_is_told_from_what_is_written(project: Path) -> None:
    make_on_demand(PIPELINE)
    assert is_made(PIPELINE)
    assert is_made(PARAMS)
    assert not is_made(Path("dvc.yaml"))


def test_nothing_in_the_sources_names_the_thesis_s_files() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        assert "studies/thesis" not in path.read_text(), path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))
