"""Profiles: a folder whose short `overrides.yaml` is laid over the default parameters.

A profile folder holds `overrides.yaml` (what its author writes), `params.yaml` (every knob, made from it,
read by DVC and the stages) and a `dvc.yaml`, made from the root's when it is first asked for. It is no link,
because DVC cannot follow links in other commits, and because a profile that uses folders in place looks at
them in every run.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from regroup.errors import RegroupError
from regroup.io import write_text
from regroup.params import Params
from regroup.settings import parse, read_yaml
from regroup.sources.settings import SourceParams

MADE = "# Made from "
HEADER = """\
# Made from {overrides} and {base}: edit the first, then run `regroup profile {name}`.
"""


def make_profile(folder: Path) -> Path:
    """Write `folder/params.yaml` and `folder/dvc.yaml` of a profile from `folder/overrides.yaml`.

    Run it from the project's root, again after each change of the overrides or of the root's params.yaml.

    Returns:
        The params.yaml that was written.

    Raises:
        RegroupError: not at the project's root, no overrides, an override that is unknown, ill-typed or out
            of its range, or files of another origin in the folder.
    """
    overrides = folder / "overrides.yaml"
    if not Path("params.yaml").is_file() or not Path("dvc.yaml").is_file():
        raise RegroupError("params.yaml and dvc.yaml are not here; run this from the project's root")
    if folder.is_absolute() or ".." in folder.parts or len(folder.parts) != 1:
        raise RegroupError(f"{folder}: a profile is a folder directly under the project's root")
    for path in (folder / "dvc.yaml", folder / "params.yaml"):
        if path.is_file() and not path.read_text(encoding="utf-8", errors="replace").startswith(MADE):
            raise RegroupError(f"{path}: was not made by `regroup profile`, and would be overwritten")
    text = render(overrides)
    params = parse(Params, YAML(typ="safe", pure=True).load(text), overrides)
    write_text(folder / "dvc.yaml", render_pipeline(Path("dvc.yaml"), params))
    target = folder / "params.yaml"
    write_text(target, text)
    return target


def make_if_missing(pipeline: Path) -> None:
    """Make the dvc.yaml of a profile's folder, if it is asked for and not there yet.

    Git has the overrides and the parameters alone: DVC reads every dvc.yaml it finds, and would complain in
    each of its commands of outputs that nobody here has made.

    Raises:
        RegroupError: as `make_profile`.
    """
    folder = pipeline.parent
    if pipeline.name == "dvc.yaml" and not pipeline.exists() and (folder / "overrides.yaml").is_file():
        make_profile(folder)
        print(f"{pipeline}: made of {folder / 'overrides.yaml'}", file=sys.stderr)


def render(overrides: Path) -> str:
    """The text of a profile's params.yaml: the base's with its comments, the overrides laid over it.

    The base is the default params.yaml, or the profile that the key `base` of the overrides names.

    Raises:
        RegroupError: the overrides are not a mapping, or their base is no profile.
    """
    values = read_yaml(overrides) or {}
    if not isinstance(values, dict):
        raise RegroupError(f"{overrides}: must be a mapping of keys, as in params.yaml")
    name, other = overrides.parent.name, values.pop("base", None)
    base = Path("params.yaml") if other is None else Path(str(other), "params.yaml")
    if not base.is_file():
        raise RegroupError(f"{overrides}: base: no profile `{other}` here ({base} does not exist)")
    if base.parent == overrides.parent:
        raise RegroupError(f"{overrides}: base: `{other}` is this profile itself")
    read_yaml(base)  # for its words about a file that is no YAML
    yaml = _round_trip()
    document = yaml.load(base)
    placed = {
        "name": name,
        "root": "..",
        "params_file": f"{name}/params.yaml",
        "variants_file": "variants.yaml",
    }
    for key, own in placed.items():
        if key != "variants_file" and values.get(key, own) != own:
            raise RegroupError(f"{overrides}: {key}: is {own!r} for a profile in this folder; leave it out")
    _lay_over(document, {**placed, **values}, overrides)
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    text = buffer.getvalue()
    if other is not None:  # without the header of the base
        text = text.split("\n", 1)[1]
    return HEADER.format(overrides=overrides, base=base, name=name) + text


def render_pipeline(pipeline: Path, params: Params) -> str:
    """The text of a profile's dvc.yaml, from the root's.

    The variants are looked for above the profile's folder; manifests of sources that the profile does not
    have are no dependencies; metrics and plots are the default profile's alone, so that DVC does not complain
    about studies that nobody has run here. A source that is used in place lies outside DVC's sight: its stage
    then looks at the folder at every run, and leaves a manifest that still holds as it is.
    """
    yaml = _round_trip()
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(pipeline)
    for number, name in enumerate(document["vars"]):
        document["vars"][number] = f"../{name}"
    for section in ("metrics", "plots"):
        document.pop(section, None)
    for entry in document["stages"].values():
        stage = entry.get("do", entry)
        gone = [dep for dep in stage.get("deps", ()) if _source_of(dep) not in (None, *params.sources)]
        for dep in gone:
            stage["deps"].remove(dep)
    if used_in_place(params):
        source = document["stages"]["source"]["do"]
        source.insert(1, "always_changed", True)
        source["outs"] = [{out: {"persist": True}} for out in source["outs"]]
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    return f"# Made from ../dvc.yaml by `regroup profile`: edit that.\n{buffer.getvalue()}"


def used_in_place(params: Params) -> dict[str, SourceParams]:
    """The sources whose files lie in a folder that is the user's, or that all profiles share."""
    return {name: source for name, source in params.sources.items() if source.kind != "mini"}


def pipeline_faults(params: Params) -> Iterator[str]:
    """What is wrong with the dvc.yaml beside a profile's params.yaml, seen from the project's root.

    A line for each fault: made from other parameters than these, so that changed data would go unseen or
    stages would wait for a source that is not there. No dvc.yaml, no faults: stages may run without DVC.
    """
    root, pipeline = Path("dvc.yaml"), params.params_file.with_name("dvc.yaml")
    if not pipeline.is_file() or not root.is_file():
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
    stages = read_yaml(pipeline)["stages"].values()
    deps = {dep for entry in stages for dep in entry.get("do", entry).get("deps", ())}
    read = {_source_of(dep) for dep in deps} - {None}
    for missing in sorted(map(str, read.difference(params.sources))):
        yield f"{params.params_file}: sources: {pipeline} reads {missing}; a profile of your own may lack it"


def _source_of(dep: str) -> str | None:
    """The source whose manifest a dependency is, or None."""
    found = re.fullmatch(r"data/[^/]+/raw/([^/]+)/manifest\.json", dep)
    return found[1] if found else None


def _round_trip() -> YAML:
    """A reader and writer that keeps comments and looks as our files do."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 110
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _lay_over(document: CommentedMap, values: Mapping[str, Any], source: Path) -> None:
    """Mappings are merged key by key, anything else is replaced; null drops an entry that is a mapping.

    A dotted key reaches inside.
    """
    for dotted, value in values.items():
        *parents, key = dotted.split(".") if isinstance(dotted, str) else [dotted]
        place = document
        for parent in parents:
            place = place.setdefault(parent, CommentedMap())
            if not isinstance(place, CommentedMap):
                raise RegroupError(f"{source}: {dotted}: `{parent}` is one value, not a mapping of keys")
        if isinstance(value, dict) and isinstance(place.get(key), dict):
            _lay_over(place[key], value, source)
        elif value is None and isinstance(place.get(key), dict):
            del place[key]
        elif isinstance(value, list) and isinstance(place.get(key), CommentedSeq):
            place[key][:] = value  # keeps the list's style and the comment behind it
        else:
            place[key] = value
