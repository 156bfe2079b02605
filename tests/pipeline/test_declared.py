"""dvc.yaml says what its stages really read: an edit reruns the stages that use it, and no others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from regroup.params import Layout, Params, load_params
from regroup.profile import render, render_pipeline
from regroup.settings import read_yaml
from regroup.variants import load_variants

from .imports import SOURCE, imported_modules

ROOT = Path(__file__).parents[2]
PACKAGE = "src/regroup/"


def stages(file: Path) -> dict[str, dict[str, Any]]:
    return {name: entry.get("do", entry) for name, entry in read_yaml(file)["stages"].items()}


STAGES = {**stages(ROOT / "dvc.yaml"), **stages(ROOT / "pretrain" / "dvc.yaml")}


def outputs() -> dict[str, list[str]]:
    """What each stage writes, as dvc.yaml spells it."""
    return {
        stage: [
            next(iter(out)) if isinstance(out, dict) else out
            for key in ("outs", "metrics", "plots")
            for out in entry.get(key, [])
        ]
        for stage, entry in STAGES.items()
    }


def declared(stage: str) -> list[str]:
    return [dep for dep in STAGES[stage]["deps"] if dep.startswith(PACKAGE)]


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_a_stage_imports_is_declared(stage: str) -> None:
    deps = [dep.removeprefix(PACKAGE) for dep in declared(stage)]
    used = imported_modules(ROOT / "stages" / f"{stage}.py")
    missing = {name for name in used if not any(name == dep or name.startswith(f"{dep}/") for dep in deps)}
    assert not missing


@pytest.mark.parametrize("stage", STAGES)
def test_every_declared_module_is_imported(stage: str) -> None:
    used = imported_modules(ROOT / "stages" / f"{stage}.py")
    for dep in declared(stage):
        path = ROOT / dep
        assert path.exists(), dep
        modules = sorted(path.rglob("*.py")) if path.is_dir() else [path] * (path.suffix == ".py")
        names = {module.relative_to(SOURCE / "regroup").as_posix() for module in modules}
        data = not names  # a data file, or a folder of them
        assert data or names & used, f"{stage} does not use {dep}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_name_everywhere(stage: str) -> None:
    assert f"stages/{stage}.py" in STAGES[stage]["cmd"]
    assert f"stages/{stage}.py" in STAGES[stage]["deps"]
    assert (ROOT / "stages" / f"{stage}.py").is_file()
    params = load_params(ROOT / "params.yaml")
    assert stage in params.resources
    section = "sources" if stage == "source" else stage
    assert section in Params.model_fields


def test_the_layout_is_what_dvc_declares() -> None:
    layout, outs = Layout("${name}"), outputs()
    assert outs["source"] == [str(layout.raw("${key}"))]
    assert outs["shards"] == [str(layout.shards)]
    assert outs["nouns"] == [str(layout.captions)]
    assert outs["noun_report"] == [str(layout.nouns)]
    assert outs["weights"] == [str(layout.weights)]
    assert outs["dino"] == [str(layout.dino)]
    assert outs["finetune"] == [str(layout.run("${key}")), f"{layout.curves}/${{key}}.csv"]
    assert set(outs["evaluate"]) == {
        *(f"{layout.metrics}/${{key}}.{kind}" for kind in ("parquet", "csv", "json")),
        *(f"{layout.validation}/${{key}}.{kind}" for kind in ("parquet", "csv")),
    }
    assert outs["sweep"] == [str(layout.sweep)]
    assert outs["dissect"] == [f"{layout.dissection}/${{item}}"]
    assert outs["tables"] == [str(layout.tables)]
    assert outs["figures"] == [str(layout.figures)]
    assert outs["learning"] == [str(layout.learning)]
    assert outs["page"] == [str(layout.page)]


def test_every_knob_is_watched_by_the_stage_that_reads_it() -> None:
    """A section of params.yaml that no stage declares could change without anything being run again."""
    watched = {
        key.split(".")[0]
        for entry in STAGES.values()
        for files in entry["params"]
        for keys in files.values()
        for key in keys
    }
    # where things are changes no result; of the resources only threads may, in the last digits
    free = {"name", "root", "params_file", "variants_file", "tracking"}
    assert watched - {"variants"} == set(Params.model_fields) - free


@pytest.mark.parametrize(
    "overrides", sorted(ROOT.glob("*/overrides.yaml")), ids=lambda path: path.parent.name
)
def test_every_profile_is_made_of_its_overrides_and_the_one_graph(overrides: Path, monkeypatch) -> None:
    """`regroup profile NAME` has been run since params.yaml, dvc.yaml or the overrides were edited."""
    monkeypatch.chdir(ROOT)
    assert (overrides.parent / "dvc.yaml").read_text() == render_pipeline(Path("dvc.yaml"))
    assert (overrides.parent / "params.yaml").read_text() == render(overrides.relative_to(ROOT))


def test_the_full_profile_has_the_stages_of_mini() -> None:
    """Both graphs resolve, every template included, and differ in nothing but where things are."""
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    mini, full = (
        subprocess.run([*command, *file], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        for file in ([], ["full/dvc.yaml"])
    )
    assert [f"full/dvc.yaml:{name}" for name in mini] == full
    assert {f"finetune@{name}" for name in load_variants(ROOT / "variants.yaml")} <= set(mini)


def test_everything_that_is_reported_is_on_the_page() -> None:
    """The page shows what lies below reports/<profile>, so it has to wait for all of it."""
    made = {path for outs in outputs().values() for path in outs if path.startswith("reports/${name}/")}
    folders = {"/".join(path.split("/")[:3]) for path in made} - {"reports/${name}/page.html"}
    # of the metrics it shows what the tables say of them
    assert folders - {"reports/${name}/metrics"} <= set(STAGES["page"]["deps"])


def test_files_that_full_points_at_are_made_by_its_own_stages() -> None:
    """What `weights` fetches is where the other sections look for it."""
    from regroup.sources.weights import find_weights

    params = load_params(ROOT / "full" / "params.yaml")
    fetched = {params.layout.weights / one.file for one in find_weights(params.weights.artefacts).values()}
    assert params.checkpoint.path in fetched
    assert params.nouns.tagger_path in fetched


def test_every_profile_has_the_vocabularies_that_variants_may_name() -> None:
    for profile in (".", "full"):
        assert set(load_params(ROOT / profile / "params.yaml").nouns.vocabularies) == {"freq1k", "freq5k"}


def test_every_table_row_that_is_filled_exists() -> None:
    from regroup.report.reference import thesis

    for name, variant in load_variants(ROOT / "variants.yaml").items():
        for row in variant.rows:
            assert thesis().table(row.table).row(row.row), name


def test_every_row_of_a_printed_table_is_filled() -> None:
    from regroup.report.reference import thesis

    variants = load_variants(ROOT / "variants.yaml")
    rows = [(row.table, row.row, Path(name)) for name, v in variants.items() for row in v.rows]
    numbers = load_params(ROOT / "params.yaml").tables.numbers
    # what tables 1, 2 and 12 score is not a fine-tuning run of its own
    trained = [number for number in numbers if number not in (1, 2, 12)]
    assert [str(ref) for ref in thesis().unfilled(thesis().fill(rows), trained)] == []


def test_params_yaml_explains_itself() -> None:
    """Every section has a comment above or beside it."""
    document = YAML().load(ROOT / "params.yaml")
    text = (ROOT / "params.yaml").read_text()
    for key in document:
        lines = text.splitlines()
        index = next(i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
        block = "\n".join([lines[index - 1], *lines[index : index + 3]])
        assert "#" in block, key
