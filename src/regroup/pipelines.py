"""The dvc.yaml of a profile's or a study's folder, made from the root's, less what it does not need."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from regroup.params import Params
from regroup.segmentation.settings import EvaluateParams
from regroup.settings import read_yaml
from regroup.sources.settings import SourceParams
from regroup.study import Outline, files_of, load_outline, params_of, results_of

OF_THE_DATA = ("source", "shards", "nouns", "noun_report", "dino")
"""Stages that make what every study of a profile shares; only the profile's own dvc.yaml has them."""

OPTIONAL = ("sweep", "dissect", "figures", "learning")
"""Stages that are there if the parameters have a section of that name."""

_DATA = "data/${data}/"
_OWN_RUNS = "${study}/variants.yaml"


def render_pipeline(pipeline: Path, params: Params) -> str:
    """The text of a profile's or a study's dvc.yaml, from the root's.

    The variants are looked for above the folder; files that its parameters alone name, checkpoints and
    protocols, become dependencies; metrics and plots are the default profile's alone, so that DVC does not
    complain about results that nobody has made here. A source that is used in place lies outside DVC's sight:
    its stage then looks at the folder at every run, and leaves a manifest that still holds as it is.

    A study beside the profile's own has no stages that make data: it reads what those of the profile's
    dvc.yaml write, and DVC finds them there. Only the sources that it brings itself are made by its own stage
    `source`, into the folder of its results. A stage whose section the parameters lack is left out, and so is
    whatever others would read of it. Runs that it borrows are items of the stage `borrow`, and from there on
    like its own.

    Args:
        pipeline: the root's dvc.yaml.
        params: of the profile or study.

    Raises:
        RegroupError: the study's variants.yaml cannot be read.
    """
    yaml = round_trip()
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(pipeline)
    for number, name in enumerate(document["vars"]):
        own = params.variants_file if Path(name).name == params.variants_file.name else name
        document["vars"][number] = (params.root / own).as_posix()
    for section in ("metrics", "plots"):
        document.pop(section, None)
    stages, beside = document["stages"], params.data != params.name
    outline = load_outline(params.variants_file) if beside else Outline.model_construct(variants={"": None})
    if outline.borrowed:
        _take_over(stages, outline, params)
    if params.own_sources:
        _bring(stages, params)
    left_out = {name: stages.pop(name) for name in _left_out(params, outline) if name in stages}
    kept = [out for entry in stages.values() for out in _outputs(_body(entry))]
    gone = [out for entry in left_out.values() for out in _outputs(_body(entry)) if _DATA not in out]
    for entry in stages.values():
        stage = _body(entry)
        stage["params"] = [_watched(files, params) for files in stage.get("params", ())]
        for dep in list(stage.get("deps", ())):
            lost = any(_meet(dep, out) for out in gone) and not any(_meet(dep, out) for out in kept)
            if lost or _missing_claims(dep, params):
                stage["deps"].remove(dep)
        if beside:
            stage["outs"] = [out for out in stage["outs"] if not _path(out).startswith(_DATA)]
    for name, files in _further_files(params).items():
        deps = stages[name]["deps"]
        deps += [file for file in files if not _declared(file, deps, params)]
    if "source" in stages and used_in_place(params):
        source = _body(stages["source"])
        source.insert(1, "always_changed", True)
        source["outs"] = [{out: {"persist": True}} for out in source["outs"]]
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    return buffer.getvalue()


def used_in_place(params: Params) -> dict[str, SourceParams]:
    """The sources made here whose files lie in a folder that is the user's, or that all profiles share."""
    return {name: source for name, source in params.made_sources.items() if source.kind != "mini"}


def pipeline_faults(params: Params) -> Iterator[str]:
    """What is wrong with the dvc.yaml beside a profile's params.yaml, seen from the project's root.

    A line for each fault: made from other parameters than these, so that changed data would go unseen or
    stages would wait for a source that is not there. No dvc.yaml, no faults: stages may run without DVC.
    A study's own is made anew whenever it is asked for.
    """
    root, pipeline = Path("dvc.yaml"), params.params_file.with_name("dvc.yaml")
    if params.data != params.name or not pipeline.is_file() or not root.is_file():
        return
    if pipeline != root:
        expected = YAML(typ="safe", pure=True).load(render_pipeline(root, params))
        if read_yaml(pipeline) != expected:
            yield f"{pipeline}: not what its parameters ask for; run `regroup profile {params.name}`"
        return
    for name, source in used_in_place(params).items():
        yield (
            f"{params.params_file}: sources.{name}: the default profile draws its data, and would not see"
            f" what changes in a folder; put `kind: {source.kind}` into the overrides.yaml of a profile of"
            " your own"
        )
    stages = read_yaml(pipeline)["stages"]
    for stage, files in _further_files(params).items():
        for file in files:
            if not _declared(file, _body(stages[stage]).get("deps", ()), params):
                yield (
                    f"{pipeline}: stages.{stage}.deps: {file} is missing, which {params.params_file} names: "
                    "a change of it would go unseen; add that line"
                )
    for section in OPTIONAL:
        if section in stages and getattr(params, section) is None:
            yield (
                f"{params.params_file}: {section}: this key is missing, and {pipeline} has a stage of that"
                " name; a profile or a study of your own may do without"
            )


def round_trip() -> YAML:
    """A reader and writer that keeps comments and looks as our files do."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 110
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _take_over(stages: Any, outline: Outline, params: Params) -> None:
    """Put the runs of other studies where the study's own are scored and shown."""
    borrowed = outline.borrowed
    stages["borrow"]["foreach"] = {
        name: {"results": results_of(one.study, params.data), "variant": one.variant}
        for name, one in borrowed.items()
    }
    stages["evaluate"]["matrix"]["variant"] = [*outline.variants, *borrowed]
    theirs: dict[str, list[str]] = {}  # what says of which backbone a run is, and what it is called
    starts: dict[str, list[str]] = {}
    for one in borrowed.values():
        file = files_of(one.study, params.data).variants.as_posix()
        theirs.setdefault(file, []).append(f"variants.{one.variant}")
        starts[params_of(one.study, params.data).as_posix()] = ["checkpoint", "checkpoints"]
    kinds = ["variants", "borrowed"] if outline.variants else ["borrowed"]
    for name in ("resolve", "tables", "page"):
        for files in stages[name]["params"]:
            if _OWN_RUNS in files:
                files[_OWN_RUNS] = list(kinds)
    for name, watched in (("resolve", {**theirs, **starts}), ("page", theirs)):
        stages[name]["params"] += [{file: list(keys)} for file, keys in watched.items()]


def _bring(stages: Any, params: Params) -> None:
    """Let a study's own sources be made where its results are, and its evaluations look there too."""
    source = _body(stages["source"])
    stages["source"]["foreach"] = {name: {"kind": one.kind} for name, one in params.made_sources.items()}
    source["outs"] = [out.replace(_DATA, "data/${name}/") for out in source["outs"]]
    stages["tasks"]["deps"].append("data/${name}/manifests")


def _left_out(params: Params, outline: Outline) -> list[str]:
    """Stages of the root's dvc.yaml that this one does not have."""
    names = [name for name in OPTIONAL if getattr(params, name) is None]
    names += [*([] if outline.borrowed else ["borrow"]), *([] if outline.variants else ["finetune"])]
    if params.data != params.name:
        names += [name for name in OF_THE_DATA if not (name == "source" and params.own_sources)]
        names += [] if params.weights.artefacts else ["weights"]
    return names


def _watched(files: Any, params: Params) -> Any:
    """The parameters of a stage less those of sections that are not there; a study makes no features."""
    lacking = {name for name in OPTIONAL if getattr(params, name) is None}
    if params.data != params.name:
        lacking.add("dino")
    for keys in files.values():
        keys[:] = [key for key in keys if key.partition(".")[0] not in lacking]
    return files


def _body(entry: Mapping[str, Any]) -> Any:
    """What a stage does: below `do`, where it has items by `foreach`."""
    return entry.get("do", entry)


def _path(out: str | Mapping[str, Any]) -> str:
    return out if isinstance(out, str) else next(iter(out))


def _outputs(stage: Mapping[str, Any]) -> list[str]:
    return [_path(out) for out in stage.get("outs", ())]


def _meet(dep: str, out: str) -> bool:
    """Whether a dependency is an output, lies in one, or is a folder that has one."""
    return dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/")


def _further_files(params: Params) -> dict[str, tuple[str, ...]]:
    """What stages read because a parameter names it, and no parameter that a template could write."""
    named = (one.options for one in params.evaluate.values())
    protocols = (file for some in named if isinstance(some, EvaluateParams) for file in some.own_protocols)
    checkpoints = (one.path.as_posix() for one in params.checkpoints.values())
    return {"resolve": tuple(dict.fromkeys(checkpoints)), "tasks": tuple(dict.fromkeys(protocols))}


def _declared(file: str, deps: Sequence[str], params: Params) -> bool:
    """Whether a file is one of the dependencies, or lies in one."""
    paths = (dep.replace("${name}", params.name).replace("${data}", params.data) for dep in deps)
    return any(file == path or file.startswith(f"{path}/") for path in paths)


def _missing_claims(dep: str, params: Params) -> bool:
    return dep == "${study}/claims.yaml" and not params.files.claims.is_file()
