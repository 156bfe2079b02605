"""dvc.yaml says what its stages really read: an edit reruns the stages that use it, and no others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from regroup.dino.settings import DinoParams, StandInParams
from regroup.model.config import GroupViTConfig
from regroup.objectives import OBJECTIVES
from regroup.params import Params
from regroup.plugins import Room
from regroup.scoring.code import library
from regroup.tasks import TASKS
from regroup.training.settings import (
    AugmentationSettings,
    CheckpointParams,
    FinetuneParams,
    OptimiserParams,
)
from regroup.variants import ROOMS, LabelSettings, Variant

from .graph import PACKAGE, ROOT, STAGES, declared
from .imports import SOURCE, imported_modules, is_carrier


def in_digests(stage: str) -> tuple[str, ...]:
    """Folders of plugins whose code a stage knows by the digests in the settings of its run."""
    by_run = "data/${name}/variants/${key}.json" in STAGES[stage]["deps"]
    return tuple(f"{room.key}/" for room in ROOMS.values()) if by_run else ()


def in_the_files_of_tasks() -> set[str]:
    """Modules whose code the stage `evaluate` knows by the digests in the file of any task."""
    files = set.intersection(*({*TASKS.files(task), *library(task)} for task in TASKS.names))
    return {file.relative_to(SOURCE / "regroup").as_posix() for file in files}


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
    free = {"name", "data", "root", "params_file", "study", "own_sources", "tracking"}
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


def test_who_scores_sees_its_data_and_protocols_by_the_file_of_the_task() -> None:
    """Whatever sources and protocols a profile has: none is named in dvc.yaml."""
    for stage in ("sweep", "dissect", "figures"):
        deps = STAGES[stage]["deps"]
        assert "data/${name}/tasks/segmentation.json" in deps
        assert not [dep for dep in deps if "/raw/" in dep]
    assert not [dep for dep in STAGES["evaluate"]["deps"] if "/raw/" in dep]
