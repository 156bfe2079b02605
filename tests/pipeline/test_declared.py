"""dvc.yaml says what its stages really read: an edit reruns the stages that use it, and no others."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from ruamel.yaml import YAML

from regroup.dino.settings import DinoParams, StandInParams
from regroup.model.config import GroupViTConfig
from regroup.objectives import OBJECTIVES
from regroup.params import Params, ProfilePaths, load_params
from regroup.pipelines import pipeline_faults, render_pipeline
from regroup.plugins import Room
from regroup.profile import render
from regroup.scoring.code import library
from regroup.settings import read_yaml
from regroup.tasks import TASKS, evaluation
from regroup.training.settings import (
    AugmentationSettings,
    CheckpointParams,
    FinetuneParams,
    OptimiserParams,
)
from regroup.variants import ROOMS, LabelSettings, Variant, load_variants
from tests.thesis import HERE, copy_project, thesis

from .imports import SOURCE, imported_modules, is_carrier

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


def in_digests(stage: str) -> tuple[str, ...]:
    """Folders of plugins whose code a stage knows by the digests in the settings of its run."""
    by_run = "data/${name}/variants/${key}.json" in STAGES[stage]["deps"]
    return tuple(f"{room.key}/" for room in ROOMS.values()) if by_run else ()


def in_the_files_of_tasks() -> set[str]:
    """Modules whose code the stage `evaluate` knows by the digests in the file of any task."""
    files = set.intersection(*({*TASKS.files(task), *library(task)} for task in TASKS.names))
    return {file.relative_to(SOURCE / "regroup").as_posix() for file in files}


def declared(stage: str) -> list[str]:
    return [dep for dep in STAGES[stage]["deps"] if dep.startswith(PACKAGE) or f"{dep}/" == PACKAGE]


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_a_stage_imports_is_declared(stage: str) -> None:
    if declared(stage) == [PACKAGE.removesuffix("/")]:
        return  # all of them
    deps = [dep.removeprefix(PACKAGE) for dep in declared(stage)]
    used = imported_modules(ROOT / "stages" / f"{stage}.py")
    if "data/${name}/tasks/${item.task}.json" in STAGES[stage]["deps"]:
        used -= in_the_files_of_tasks()
    assert not undeclared(used, deps, in_digests(stage))


def undeclared(used: set[str], deps: Sequence[str], known: tuple[str, ...]) -> set[str]:
    others = {name for name in used if not name.startswith(known)} if known else used
    return {name for name in others if not any(name == dep or name.startswith(f"{dep}/") for dep in deps)}


@pytest.mark.parametrize("room", ROOMS.values(), ids=lambda room: room.key)
def test_a_plugin_imports_nothing_that_a_run_does_not_declare(room: Room) -> None:
    """What lies in its own package is in its digest."""
    deps = [dep.removeprefix(PACKAGE) for dep in declared("finetune")]
    for name in room.names:
        used = set[str]().union(*(imported_modules(file) for file in room.files(name)))
        assert not undeclared(used, deps, in_digests("finetune")), name
        others = tuple(f"{other.key}/" for other in ROOMS.values() if other != room)
        assert not [module for module in used if module.startswith(others)], name


def test_what_training_imports_of_the_objectives_is_in_the_digest_of_each() -> None:
    """So a run need not declare it: one that trains has an objective."""
    used = {name for name in imported_modules(ROOT / "stages/finetune.py") if name.startswith("objectives/")}
    assert "objectives/_total.py" in used
    for name in OBJECTIVES.names:
        files = {path.relative_to(SOURCE / "regroup").as_posix() for path in OBJECTIVES.files(name)}
        assert used | {"objectives/__init__.py"} <= files, name


def test_no_run_waits_for_a_plugin_that_it_does_not_use() -> None:
    deps = [dep.removeprefix(PACKAGE) for dep in declared("finetune")]
    own = {f"{room.key}/__init__.py" for room in ROOMS.values()}
    assert not [dep for dep in deps if f"{dep}/".startswith(in_digests("finetune")) and dep not in own]
    assert {f"{PACKAGE}{room.key}" for room in ROOMS.values()} <= set(declared("resolve"))


@pytest.mark.parametrize("stage", STAGES)
def test_every_declared_module_is_imported(stage: str) -> None:
    used = imported_modules(ROOT / "stages" / f"{stage}.py")
    for dep in declared(stage):
        path = ROOT / dep
        if stage == "resolve" or path.name == "__init__.py" or dep == f"{PACKAGE}backbones":
            continue  # it writes down the defaults that these hold: see below; not listed; loaded by name
        assert path.exists(), dep
        modules = sorted(path.rglob("*.py")) if path.is_dir() else [path] * (path.suffix == ".py")
        names = {module.relative_to(SOURCE / "regroup").as_posix() for module in modules}
        data = not names or path.name == "__init__.py"  # a data file, a folder of them, or a package's face
        assert data or names & used, f"{stage} does not use {dep}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_name_everywhere(stage: str) -> None:
    assert f"stages/{stage}.py" in STAGES[stage]["cmd"]
    assert f"stages/{stage}.py" in STAGES[stage]["deps"]
    assert (ROOT / "stages" / f"{stage}.py").is_file()
    params = load_params(ROOT / "params.yaml")
    assert stage in params.resources
    # what is resolved is of several sections
    known = {"source": "sources", "resolve": "finetune", "borrow": "study", "tasks": "evaluate"}
    section = known.get(stage, stage)
    assert section in Params.model_fields


def test_the_layout_is_what_dvc_declares() -> None:
    layout, outs = ProfilePaths("${name}", "${data}"), outputs()
    assert outs["source"] == [str(layout.raw("${key}")), str(layout.manifest("${key}"))]
    assert outs["shards"] == [str(layout.shards)]
    assert outs["nouns"] == [str(layout.captions)]
    assert outs["noun_report"] == [str(layout.nouns)]
    assert outs["weights"] == [str(layout.weights)]
    assert outs["resolve"] == [str(layout.variants), str(layout.dino_settings)]
    assert str(layout.resolved("${key}")) in STAGES["finetune"]["deps"]
    assert str(layout.dino_settings) in STAGES["dino"]["deps"]
    assert outs["dino"] == [str(layout.dino)]
    assert outs["finetune"] == [str(layout.run("${key}")), f"{layout.curves}/${{key}}.csv"]
    assert outs["tasks"] == [str(layout.tasks)]
    assert str(layout.manifests) in STAGES["tasks"]["deps"]
    assert str(layout.task("${item.task}")) in STAGES["evaluate"]["deps"]
    assert outs["evaluate"] == [str(layout.scores("${item.task}", "${item.variant}"))]
    assert outs["sweep"] == [str(layout.sweep)]
    assert outs["dissect"] == [f"{layout.dissection}/${{item}}"]
    assert outs["tables"] == [str(layout.tables), str(layout.table_data)]
    assert outs["figures"] == [str(layout.figures), str(layout.cover)]
    assert outs["learning"] == [str(layout.learning)]
    assert outs["page"] == [str(layout.page)]


def test_every_knob_is_watched_by_the_stage_that_reads_it() -> None:
    """A section of params.yaml that no stage declares could change without anything being run again."""
    watched = {
        key.split(".")[0]
        for entry in STAGES.values()
        for files in entry.get("params", ())
        for keys in files.values()
        for key in keys
    }
    # where things are changes no result; of the resources only threads may, in the last digits
    free = {"name", "data", "root", "params_file", "study", "tracking"}
    assert watched - {"variants"} == set(Params.model_fields) - free


def test_every_default_of_a_run_is_watched_by_the_stage_that_writes_it_down() -> None:
    """A default lives in the module of its class; `resolve` is run again when one of them is edited."""
    deps = set(declared("resolve"))
    waiting: list[Any] = [Variant, CheckpointParams, FinetuneParams, DinoParams]
    seen: set[Any] = set()
    while waiting:
        kind = waiting.pop()
        waiting += get_args(kind)
        if kind in seen or not hasattr(kind, "__annotations__") or not kind.__module__.startswith("regroup."):
            continue
        seen.add(kind)
        waiting += get_type_hints(kind).values()
        file = Path(sys.modules[kind.__module__].__file__).relative_to(ROOT).as_posix()
        assert any(file == dep or file.startswith(f"{dep}/") for dep in deps), kind
    assert {AugmentationSettings, OptimiserParams, LabelSettings, GroupViTConfig, StandInParams} <= seen


def test_a_run_depends_on_its_own_file_alone() -> None:
    """Neither on all parameters of its profile, nor on the modules that hold defaults for others too."""
    for stage in ("finetune", "dino"):
        keys = [key for files in STAGES[stage]["params"] for keys in files.values() for key in keys]
        assert keys == [f"resources.{stage}.threads"]
    watched = [dep.removeprefix(PACKAGE) for dep in declared("finetune")]
    assert not [dep for dep in watched if is_carrier(dep)]
    assert not [dep for dep in watched if (SOURCE / "regroup" / dep / "settings.py").exists()]


@pytest.mark.parametrize(
    "overrides", sorted(ROOT.glob("*/overrides.yaml")), ids=lambda path: path.parent.name
)
def test_every_profile_is_made_of_its_overrides(overrides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`regroup profile NAME` has been run since params.yaml or the overrides were edited."""
    monkeypatch.chdir(ROOT)
    assert (overrides.parent / "params.yaml").read_text() == render(overrides.relative_to(ROOT))


def test_no_pipeline_but_the_default_is_in_git_before_it_has_results() -> None:
    """DVC reads every dvc.yaml it finds, and complains of outputs that nobody here has made."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    pipelines = {Path(path).parent for path in tracked if Path(path).name == "dvc.yaml"}
    locked = {Path(path).parent for path in tracked if Path(path).name == "dvc.lock"}
    assert pipelines <= locked


def test_the_full_profile_has_the_stages_of_mini(tmp_path: Path) -> None:
    """Both graphs resolve, every template included, and differ in nothing but where things are.

    The pipeline of `full` is made when it is first asked for.
    """
    copy_project(tmp_path, "dvc.yaml", "full/overrides.yaml", "full/params.yaml")
    command = [sys.executable, "-m", "regroup.safe_dvc"]
    subprocess.run([*command, "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    mini, full = (
        subprocess.run(
            [*command, "stage", "list", "--name-only", *file],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for file in ([], ["full/dvc.yaml"])
    )
    assert [f"full/dvc.yaml:{name}" for name in mini] == full
    assert {f"finetune@{name}" for name in load_variants(HERE.variants)} <= set(mini)
    assert (tmp_path / "full/params.yaml").read_text() == (ROOT / "full/params.yaml").read_text()


def test_who_scores_sees_its_data_and_protocols_by_the_file_of_the_task() -> None:
    """Whatever sources and protocols a profile has: none is named in dvc.yaml."""
    for stage in ("sweep", "dissect", "figures"):
        deps = STAGES[stage]["deps"]
        assert "data/${name}/tasks/segmentation.json" in deps
        assert not [dep for dep in deps if "/raw/" in dep]
    assert not [dep for dep in STAGES["evaluate"]["deps"] if "/raw/" in dep]


@pytest.mark.parametrize("checkpoint", ["models/clip.pth", "data/full/weights/clip.pth"])
def test_files_that_parameters_alone_name_are_watched(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A protocol of one's own, and a further checkpoint, unless it lies in what is watched anyhow."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "streets.yaml").touch()
    mini, full = load_params(ROOT / "params.yaml"), load_params(ROOT / "full/params.yaml")
    whole = full.evaluate["segmentation"]
    values = whole.options.model_dump(mode="json")
    values["datasets"]["streets"] = {**values["datasets"]["voc"], "protocol": "streets.yaml"}
    changed = {
        "checkpoints": {"clip": CheckpointParams(path=Path(checkpoint), backbone="clip")},
        "evaluate": {"segmentation": evaluation("segmentation", values)},
    }
    params = full.model_copy(update=changed)
    made = YAML(typ="safe", pure=True).load(render_pipeline(Path("dvc.yaml"), params))["stages"]
    assert "streets.yaml" in made["tasks"]["deps"]
    assert (checkpoint in made["resolve"]["deps"]) is (checkpoint == "models/clip.pth")
    faults = list(pipeline_faults(mini.model_copy(update=changed)))
    assert any(fault.startswith("dvc.yaml: stages.tasks.deps: streets.yaml is missing") for fault in faults)
    assert any(fault.startswith(f"dvc.yaml: stages.resolve.deps: {checkpoint} is") for fault in faults)


def test_only_a_folder_in_use_is_looked_at_in_every_run() -> None:
    full = load_params(ROOT / "full/params.yaml")
    drawn = full.model_copy(update={"sources": load_params(ROOT / "params.yaml").sources})
    watched, quiet = (
        YAML(typ="safe", pure=True).load(render_pipeline(ROOT / "dvc.yaml", params))["stages"]["source"]["do"]
        for params in (full, drawn)
    )
    assert watched["always_changed"] is True
    outs = ["data/${data}/raw/${key}", "data/${data}/manifests/${key}.json"]
    assert watched["outs"] == [{out: {"persist": True}} for out in outs]
    assert "always_changed" not in quiet


def test_a_pipeline_that_would_not_see_changes_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "mine").mkdir()
    mini, full = load_params(ROOT / "params.yaml"), load_params(ROOT / "full/params.yaml")
    assert list(pipeline_faults(mini)) == []
    (fault,) = pipeline_faults(
        mini.model_copy(update={"sources": mini.sources | {"ade": full.sources["ade"]}})
    )
    assert "sources.ade" in fault
    assert "profile of your own" in fault
    mine = full.model_copy(update={"name": "mine", "data": "mine", "params_file": Path("mine/params.yaml")})
    drawn = mine.model_copy(update={"sources": mini.sources})
    (tmp_path / "mine/dvc.yaml").write_text(render_pipeline(Path("dvc.yaml"), drawn))
    assert list(pipeline_faults(drawn)) == []
    (fault,) = pipeline_faults(mine)
    assert fault.startswith("mine/dvc.yaml: ")
    assert "regroup profile mine" in fault


def test_everything_that_is_reported_is_on_the_page() -> None:
    """The page shows what lies below reports/<profile>, so it has to wait for all of it."""
    made = {path for outs in outputs().values() for path in outs if path.startswith("reports/${name}/")}
    folders = {"/".join(path.split("/")[:3]) for path in made} - {"reports/${name}/page.html"}
    # the Markdown and the cover are there for git
    others = {"reports/${name}/tables", "reports/${name}/qualitative.png"}
    assert folders - others <= set(STAGES["page"]["deps"])


def test_git_has_what_people_read_and_dvc_the_rest() -> None:
    """An output that neither had would be lost, and one that both had would be refused by DVC."""
    cached = {}
    for entry in stages(ROOT / "dvc.yaml").values():
        for out in entry["outs"]:
            path, how = next(iter(out.items())) if isinstance(out, dict) else (out, {})
            path = re.sub(r"\$\{\w+\}", "mini", path)
            # git ignores files; a folder is as its files are
            cached[path if Path(path).suffix else f"{path}/x"] = how.get("cache", True)
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    found = subprocess.run(command, cwd=ROOT, input="\n".join(cached), capture_output=True, text=True)
    assert set(found.stdout.splitlines()) == {path for path, is_cached in cached.items() if is_cached}


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
    for name, variant in load_variants(HERE.variants).items():
        for row in variant.rows:
            assert thesis().table(row.table).row(row.row), name


def test_every_row_of_a_printed_table_is_filled() -> None:
    variants = load_variants(HERE.variants)
    rows = [(row.table, row.row, Path(name)) for name, v in variants.items() for row in v.rows]
    numbers = load_params(ROOT / "params.yaml").tables.numbers
    assert numbers is not None
    # what the others score is not a fine-tuning run of its own
    trained = [number for number in numbers if thesis().table(number).filled_by == "variants"]
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
