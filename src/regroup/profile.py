"""Profiles: a folder whose short `overrides.yaml` is laid over the default parameters.

A profile folder holds `overrides.yaml` (what its author writes), `params.yaml` (every knob, made from it,
read by DVC and the stages) and a copy of the one `dvc.yaml`. It is a copy and no link, because DVC cannot
follow links in other commits, and then `dvc metrics diff` would compare with nothing.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from regroup.errors import RegroupError
from regroup.io import write_text
from regroup.params import Params
from regroup.settings import parse, read_yaml

HEADER = """\
# Made from {overrides} and {base}: edit the first, then run `regroup profile {name}`.
"""


def make_profile(folder: Path) -> Path:
    """Write `folder/params.yaml` and `folder/dvc.yaml` of a profile from `folder/overrides.yaml`.

    Run it from the project's root, again after each change of the overrides or of the root's params.yaml.

    Returns:
        The params.yaml that was written.

    Raises:
        RegroupError: not at the project's root, no overrides, or an override that is unknown or ill-typed.
    """
    overrides = folder / "overrides.yaml"
    if not Path("params.yaml").is_file() or not Path("dvc.yaml").is_file():
        raise RegroupError("params.yaml and dvc.yaml are not here; run this from the project's root")
    if folder.is_absolute() or ".." in folder.parts or len(folder.parts) != 1:
        raise RegroupError(f"{folder}: a profile is a folder directly under the project's root")
    text = render(overrides)
    parse(Params, YAML(typ="safe").load(text), overrides)
    write_text(folder / "dvc.yaml", render_pipeline(Path("dvc.yaml")))
    target = folder / "params.yaml"
    write_text(target, text)
    return target


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
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.width = 110
    document = yaml.load(base)
    placed = {
        "name": name,
        "root": "..",
        "params_file": f"{name}/params.yaml",
        "variants_file": "variants.yaml",
    }
    _lay_over(document, {**placed, **values})
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    text = buffer.getvalue()
    if other is not None:  # without the header of the base
        text = text.split("\n", 1)[1]
    return HEADER.format(overrides=overrides, base=base, name=name) + text


def render_pipeline(pipeline: Path) -> str:
    """The text of a profile's dvc.yaml: the root's, with the path to the variants as seen from the folder.

    Raises:
        RegroupError: the root's dvc.yaml does not name its variants as expected.
    """
    text = pipeline.read_text(encoding="utf-8")
    here, there = "\n  - variants.yaml\n", "\n  - ../variants.yaml\n"
    if text.count(here) != 1:
        raise RegroupError(f"{pipeline}: vars: the line `  - variants.yaml` is not there once")
    return f"# Made from ../dvc.yaml by `regroup profile`: edit that.\n{text.replace(here, there)}"


def _lay_over(document: CommentedMap, values: Mapping[str, Any]) -> None:
    """Mappings are merged key by key, anything else is replaced; null drops an entry that is a mapping.

    A dotted key reaches inside.
    """
    for dotted, value in values.items():
        *parents, key = dotted.split(".") if isinstance(dotted, str) else [dotted]
        place = document
        for parent in parents:
            place = place.setdefault(parent, CommentedMap())
        if isinstance(value, dict) and isinstance(place.get(key), dict):
            _lay_over(place[key], value)
        elif value is None and isinstance(place.get(key), dict):
            del place[key]
        elif isinstance(value, list) and isinstance(place.get(key), CommentedSeq):
            place[key][:] = value  # keeps the list's style and the comment behind it
        else:
            place[key] = value
