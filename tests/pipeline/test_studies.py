"""A study beside the thesis: its parameters and graph follow from the profile's, and touch nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regroup.checks import check_study
from regroup.cli import main
from regroup.errors import RegroupError
from regroup.metrics import METRICS, MIOU, SEGMENTATION, DatasetScores, Metric, Metrics
from regroup.metrics import write_metrics as write_metrics_file
from regroup.params import ProfilePaths, load_params
from regroup.profile import is_made, make_on_demand, make_profile, make_study
from regroup.resolved import write_resolved
from regroup.settings import read_yaml
from regroup.study import place_of, results_of
from regroup.variants_file import load_variants
from tests.thesis import ROOT, edit

from .graph import outputs, stages
from .studies import PARAMS, PIPELINE


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
    own, shared = (
        [out for outs in outputs(stages(file)).values() for out in outs]
        for file in (PIPELINE, Path("dvc.yaml"))
    )
    assert all("${name}" in out for out in own)
    made = {path.replace("${name}", "mini").replace("${data}", "mini") for path in shared}
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


WITHOUT_ADE = "sources.ade: null\nevaluate.segmentation.datasets.ade: null\n"
BRINGS_ADE = """
sources: {ade: {kind: mini}}
evaluate.segmentation.datasets.ade: {source: ade, protocol: ade150, names: drawn}
"""


def without_ade(project: Path, profile: str, more: str = "") -> None:
    """A profile that lacks a source, and a study that brings it."""
    (project / profile).mkdir()
    (project / profile / "overrides.yaml").write_text(WITHOUT_ADE + more)
    make_profile(Path(profile))
    (project / "studies/mine/overrides.yaml").write_text("")
    folder = project / "studies/mine" / profile
    folder.mkdir()
    (folder / "overrides.yaml").write_text(BRINGS_ADE)


def test_a_study_brings_a_source_that_the_profile_lacks(project: Path) -> None:
    """It is made below the study's results: the profile's raw data, manifests and lock stay as they are."""
    without_ade(project, "small")
    pipeline = Path("studies/mine/small/dvc.yaml")
    make_on_demand(pipeline)
    params = load_params(pipeline.with_name("params.yaml"))
    assert params.own_sources == ("ade",)
    assert list(params.made_sources) == ["ade"]
    assert params.layout.raw("ade") == Path("data/small-mine/raw/ade")
    assert params.layout.raw("voc12") == Path("data/small/raw/voc12")
    graph = stages(pipeline)
    assert next(iter(graph)) == "source"
    assert list(read_yaml(pipeline)["stages"]["source"]["foreach"]) == ["ade"]
    assert [out.replace("${key}", "ade") for out in outputs(graph)["source"]] == [
        "data/${name}/raw/ade",
        "data/${name}/manifests/ade.json",
    ]
    assert {"data/${data}/manifests", "data/${name}/manifests"} <= set(graph["tasks"]["deps"])
    assert "ade" not in load_params(Path("small/params.yaml")).sources
    make_on_demand(PIPELINE)  # with the profile that has it, nothing is brought
    assert load_params(PARAMS).own_sources == ()
    assert "source" not in stages(PIPELINE)


def test_what_a_study_brings_is_not_drawn_beside_real_data(project: Path) -> None:
    """Or numbers on toys would stand among numbers on photographs."""
    real = "".join(f"sources.{name}: {{kind: local, root: /d}}\n" for name in ("coco", "voc12", "context"))
    without_ade(project, "photos", real)
    with pytest.raises(RegroupError, match=r"sources\.ade\.kind: `mini`, drawn, in a profile on real data"):
        make_on_demand(Path("studies/mine/photos/dvc.yaml"))


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


def test_what_is_made_is_told_from_what_is_written(project: Path) -> None:
    make_on_demand(PIPELINE)
    assert is_made(PIPELINE)
    assert is_made(PARAMS)
    assert not is_made(Path("dvc.yaml"))


def test_nothing_in_the_sources_names_the_thesis_s_files() -> None:
    """But for the module that answers names of before there were studies."""
    for path in set((ROOT / "src").rglob("*.py")) - {ROOT / "src/regroup/moved.py"}:
        assert "studies/thesis" not in path.read_text(), path
