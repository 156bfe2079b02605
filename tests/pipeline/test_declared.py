"""dvc.yaml says what its stages really read: an edit reruns the stages that use it, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from imports import SOURCE, imported_modules
from ruamel.yaml import YAML

from regroup.params import Layout, Params, load_params
from regroup.settings import read_yaml
from regroup.variants import load_variants

ROOT = Path(__file__).parents[2]
PACKAGE = "src/regroup/"


def stages(file: Path) -> dict[str, dict[str, Any]]:
    return {name: entry.get("do", entry) for name, entry in read_yaml(file)["stages"].items()}


STAGES = {**stages(ROOT / "dvc.yaml"), **stages(ROOT / "pretrain" / "dvc.yaml")}


def declared(stage: str) -> list[str]:
    return [dep for dep in STAGES[stage]["deps"] if dep.startswith(PACKAGE)]


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_a_stage_imports_is_declared(stage: str):
    deps = [dep.removeprefix(PACKAGE) for dep in declared(stage)]
    used = imported_modules(ROOT / "stages" / f"{stage}.py")
    missing = {name for name in used if not any(name == dep or name.startswith(f"{dep}/") for dep in deps)}
    assert not missing


@pytest.mark.parametrize("stage", STAGES)
def test_every_declared_module_is_imported(stage: str):
    used = imported_modules(ROOT / "stages" / f"{stage}.py")
    for dep in declared(stage):
        path = ROOT / dep
        assert path.exists(), dep
        modules = sorted(path.rglob("*.py")) if path.is_dir() else [path] * (path.suffix == ".py")
        names = {module.relative_to(SOURCE / "regroup").as_posix() for module in modules}
        data = not names  # a data file, or a folder of them
        assert data or names & used, f"{stage} does not use {dep}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_name_everywhere(stage: str):
    assert f"stages/{stage}.py" in STAGES[stage]["cmd"]
    assert f"stages/{stage}.py" in STAGES[stage]["deps"]
    assert (ROOT / "stages" / f"{stage}.py").is_file()
    params = load_params(ROOT / "params.yaml")
    assert stage in params.resources
    section = "sources" if stage == "source" else stage
    assert section in Params.model_fields


def test_the_layout_is_what_dvc_declares():
    layout = Layout("${name}")
    outs = {
        stage: [
            next(iter(out)) if isinstance(out, dict) else out
            for key in ("outs", "metrics", "plots")
            for out in entry.get(key, [])
        ]
        for stage, entry in STAGES.items()
    }
    assert outs["source"] == [str(layout.raw("${key}"))]
    assert outs["shards"] == [str(layout.shards)]
    assert outs["nouns"] == [str(layout.captions)]
    assert outs["noun_report"] == [str(layout.nouns)]
    assert outs["weights"] == [str(layout.weights)]
    assert outs["dino"] == [str(layout.dino)]
    assert outs["finetune"] == [str(layout.run("${key}")), f"{layout.curves}/${{key}}.csv"]
    assert set(outs["evaluate"]) == {
        f"{layout.metrics}/${{key}}.parquet",
        f"{layout.metrics}/${{key}}.json",
        f"{layout.validation}/${{key}}.parquet",
        f"{layout.validation}/${{key}}.csv",
    }
    assert outs["tables"] == [str(layout.tables)]
    assert outs["figures"] == [str(layout.figures)]


def test_every_knob_is_watched_by_the_stage_that_reads_it():
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


def test_every_profile_links_to_the_one_graph():
    for overrides in ROOT.glob("*/overrides.yaml"):
        assert (overrides.parent / "dvc.yaml").resolve() == ROOT / "dvc.yaml"


def test_files_that_full_points_at_are_made_by_its_own_stages():
    """What `weights` fetches is where the other sections look for it."""
    from regroup.sources.weights import find_weights

    params = load_params(ROOT / "full" / "params.yaml")
    fetched = {params.layout.weights / one.file for one in find_weights(params.weights.artefacts).values()}
    assert params.checkpoint.path in fetched
    assert params.nouns.tagger_path in fetched


def test_every_profile_has_the_vocabularies_that_variants_may_name():
    for profile in (".", "full"):
        assert set(load_params(ROOT / profile / "params.yaml").nouns.vocabularies) == {"freq1k", "freq5k"}


def test_every_table_row_that_is_filled_exists():
    from regroup.report.reference import thesis

    for name, variant in load_variants(ROOT / "variants.yaml").items():
        for row in variant.rows:
            assert thesis().table(row.table).row(row.row), name


def test_params_yaml_explains_itself():
    """Every section has a comment above or beside it."""
    document = YAML().load(ROOT / "params.yaml")
    text = (ROOT / "params.yaml").read_text()
    for key in document:
        lines = text.splitlines()
        index = next(i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
        block = "\n".join([lines[index - 1], *lines[index : index + 3]])
        assert "#" in block, key
