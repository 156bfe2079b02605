"""A study beside the thesis: its parameters and graph follow from the profile's, and touch nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from regroup.checks import check_study
from regroup.cli import main
from regroup.errors import RegroupError
from regroup.metrics import METRICS, MIOU, SEGMENTATION, DatasetScores, Metric, Metrics
from regroup.metrics import write_metrics as write_metrics_file
from regroup.params import ProfilePaths, load_params
from regroup.profile import is_made, make_on_demand, make_profile, make_study
from regroup.profile_tables import printed_numbers, table_files
from regroup.report.claims import load_claims
from regroup.report.reference import load_reference
from regroup.resolved import write_resolved
from regroup.settings import read_yaml
from regroup.study import load_borrowed, place_of, results_of
from regroup.variants import load_variants
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
    assert list(stages(PIPELINE)) == ["resolve", "finetune", "tasks", "evaluate", "tables", "page"]
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


def test_the_tables_wait_for_a_borrowed_run_and_read_its_scores(
    project: Path, write_metrics: Callable[..., None]
) -> None:
    make_on_demand(PIPELINE)
    tables = stages(PIPELINE)["tables"]
    assert "reports/mini/metrics/segmentation/original/metrics.json" in tables["deps"]
    assert {"${study}/variants.yaml": ["variants", "borrowed"]} in tables["params"]
    # of what this study lacks, nothing is waited for and nothing is watched
    assert not [
        dep for dep in tables["deps"] if "sweep" in dep or "dissection" in dep or "claims.yaml" in dep
    ]
    assert {"${params_file}": ["tables", "sources"]} in tables["params"]
    params = load_params(PARAMS)
    reference = load_reference(params.files.tables)
    files = list(
        table_files(
            params, load_variants(params.variants_file), reference, load_borrowed(params.variants_file)
        )
    )
    assert (1, "original", Path("reports/mini/metrics/segmentation/original/metrics.json")) in files
    assert (1, "captions", Path("reports/mini-mine/metrics/segmentation/captions/metrics.json")) in files
    assert printed_numbers(params, reference) == (1,)
    assert not load_claims(params.files.claims, reference=reference).claims


def test_the_summary_shows_ours_alone_where_nothing_is_published(
    project: Path, write_metrics: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    write_metrics("mini", "original", coco=14.0, voc=63.0)
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
    assert (
        "reports/full/metrics/segmentation/original/metrics.json"
        in stages(place.folder / "dvc.yaml")["tables"]["deps"]
    )
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
    assert (
        "reports/mini-other/metrics/segmentation/captions/metrics.json" in stages(PIPELINE)["tables"]["deps"]
    )
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
