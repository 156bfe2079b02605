"""Profiles and studies: parameters made from the default's by laying short overrides over them.

A profile folder holds `overrides.yaml` (what its author writes), `params.yaml` (every knob, made from it,
read by DVC and the stages) and a `dvc.yaml`, made from the root's when it is first asked for. It is no link,
because DVC cannot follow links in other commits, and because a profile that uses folders in place looks at
them in every run.

A study beside the profile's own gets both files in its folder, made from the profile's whenever it is asked
for and one of the files behind them has changed: nobody edits them.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from regroup import pipelines
from regroup.errors import RegroupError
from regroup.io import write_text
from regroup.moved import MADE, first_line, made_before, refuse_moved
from regroup.params import Params
from regroup.pipelines import OPTIONAL, render_pipeline, round_trip
from regroup.settings import parse, read_yaml
from regroup.study import STUDIES, Place, find_place, load_borrowed, own_study, place_of

HEADER = """\
# Made from {overrides} and {base}: edit the first, then run `regroup profile {name}`.
"""
STUDY_HEADER = (
    "# Made from {base} for the study {study}: edit that, or overrides.yaml. Of the state {state}\n"
)

SHARED = ("sources", "world", "shards", "nouns", "noun_report", "dino", "pretrain")
"""Sections of what all studies of a profile have in common."""
PLACED = ("name", "data", "root", "params_file", "study", "own_sources")
"""Keys that follow from where a folder is."""


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
    _check_root()
    if folder.is_absolute() or ".." in folder.parts or len(folder.parts) != 1:
        raise RegroupError(f"{folder}: a profile is a folder directly under the project's root")
    text = render(overrides)
    params = parse(Params, YAML(typ="safe", pure=True).load(text), overrides)
    head = "# Made from ../dvc.yaml by `regroup profile`: edit that.\n"
    return _write(folder, text, head + render_pipeline(Path("dvc.yaml"), params))


def make_study(place: Place) -> Path:
    """Write params.yaml and dvc.yaml of a study that is run with a profile; nothing, if they are up to date.

    Returns:
        The params.yaml.

    Raises:
        RegroupError: as `make_profile`; or an override of what belongs to the profile's data.
    """
    _check_root()
    state = f"{_state(place)}\n"
    files = [place.folder / "params.yaml", place.folder / "dvc.yaml"]
    if all(first_line(path).endswith(state) for path in files):
        return files[0]
    base = place.profile / "params.yaml"
    head = STUDY_HEADER.format(base=base, study=place.study.name, state=state.strip())
    text = _render_study(place, base)
    params = parse(
        Params, YAML(typ="safe", pure=True).load(text), ", ".join(map(str, place.overrides)) or base
    )
    pipeline = render_pipeline(Path("dvc.yaml"), params)
    print(f"{files[1]}: made of {base} and {place.study.folder}", file=sys.stderr)
    return _write(place.folder, head + text, head + pipeline)


def make_on_demand(pipeline: Path) -> list[Path]:
    """Make a dvc.yaml that is asked for, if it is a profile's and not there yet, or a study's.

    Git has what people write: DVC reads every dvc.yaml it finds, and would complain in each of its commands
    of outputs that nobody here has made.

    Returns:
        The dvc.yaml files that its stages depend on, itself last: a study's on its profile's.

    Raises:
        RegroupError: as `make_profile` and `make_study`; or the file is there, and of an earlier layout.
    """
    folder = pipeline.parent
    if pipeline.name == "dvc.yaml" and made_before(pipeline):
        raise RegroupError(
            f"{pipeline}: was made by an earlier state of the project: run `regroup profile {folder}`"
        )
    place = find_place(folder) if pipeline.name == "dvc.yaml" else None
    if place is None:
        if pipeline.name == "dvc.yaml" and not pipeline.exists() and (folder / "overrides.yaml").is_file():
            make_profile(folder)
            print(f"{pipeline}: made of {folder / 'overrides.yaml'}", file=sys.stderr)
        return [pipeline]
    places = _with_lenders(place)
    for one in places:
        make_study(one)
    return [*make_on_demand(place.profile / "dvc.yaml"), *(one.folder / "dvc.yaml" for one in places)]


def follow_profile(params_file: Path) -> None:
    """Let a study's params.yaml follow its profile's before it is read; others are left as they are.

    Raises:
        RegroupError: as `make_on_demand`.
    """
    if params_file.parts[:1] == STUDIES.parts:
        make_on_demand(params_file.with_name("dvc.yaml"))


def _with_lenders(place: Place) -> list[Place]:
    """A study, behind others that have runs which it shows, or which those show."""
    own = own_study(place.profile / "params.yaml").name
    names = [place.study.name]
    for name in names:  # grows
        variants = place_of(name, place.profile).study.variants
        for key, one in load_borrowed(variants).items():
            if one.study in (own, *names):
                continue
            try:
                place_of(one.study, place.profile)
            except RegroupError as error:
                raise RegroupError(f"{variants}: borrowed.{key}.study: {error}") from None
            names.append(one.study)
    return [place_of(name, place.profile) for name in reversed(names)]


def render(overrides: Path) -> str:
    """The text of a profile's params.yaml: the base's with its comments, the overrides laid over it.

    The base is the default params.yaml, or the profile that the key `base` of the overrides names.

    Raises:
        RegroupError: the overrides are not a mapping, or their base is no profile.
    """
    values = _read_overrides(overrides)
    name, other = overrides.parent.name, values.pop("base", None)
    base = Path("params.yaml") if other is None else Path(str(other), "params.yaml")
    if not base.is_file():
        raise RegroupError(f"{overrides}: base: no profile `{other}` here ({base} does not exist)")
    if base.parent == overrides.parent:
        raise RegroupError(f"{overrides}: base: `{other}` is this profile itself")
    placed = {"name": name, "data": name, "root": "..", "params_file": f"{name}/params.yaml"}
    for key, own in placed.items():
        if values.get(key, own) != own:
            raise RegroupError(f"{overrides}: {key}: is {own!r} for a profile in this folder; leave it out")
    text = _laid_over(base, {**placed, **values}, overrides)
    if other is not None:  # without the header of the base
        text = text.split("\n", 1)[1]
    return HEADER.format(overrides=overrides, base=base, name=name) + text


def _render_study(place: Place, base: Path) -> str:
    """The text of a study's params.yaml: the profile's, less what the profile's own study asks for."""
    profile = str(read_yaml(base)["name"])
    name = f"{profile}-{place.study.name}"
    if Path(name, "overrides.yaml").is_file():
        raise RegroupError(f"{place.study.folder}: its results would have the name of the profile {name}")
    text = _laid_over(
        base,
        {
            "name": name,
            "root": "/".join([".."] * len(place.folder.parts)),
            "params_file": (place.folder / "params.yaml").as_posix(),
            "study": place.study.folder.as_posix(),
            "weights.artefacts": [],
            "tables.numbers": None,
            "tracking.register": None,
        },
        base,
    )
    asked: set[str] = set()
    lent = read_yaml(base)["sources"]
    for path in place.overrides:
        values = _read_overrides(path)
        _check_brought(values, lent, path)
        for dotted in values:
            key = str(dotted).partition(".")[0]
            asked.add(key)
            if key in (*PLACED, "base"):
                raise RegroupError(f"{path}: {key}: follows from the folder of the study; leave it out")
            if key in SHARED and key != "sources":
                raise RegroupError(
                    f"{path}: {key}: belongs to the data that all studies of the profile `{profile}` share;"
                    " change it there, or make a profile of your own"
                )
        text = _laid_over(text, values, path)
    if own := sorted(set(round_trip().load(text)["sources"]) - set(lent)):
        text = _laid_over(text, {"own_sources": own}, base)
    text = _laid_over(text, dict.fromkeys(set(OPTIONAL) - asked), base)
    return text.split("\n", 1)[1] if text.startswith(MADE) else text


def _check_brought(values: Mapping[str, Any], lent: Collection[str], path: Path) -> None:
    """Refuse overrides of sources that the profile has: all its studies read the same data.

    Raises:
        RegroupError: names the key.
    """
    given = values.get("sources", {})
    if not isinstance(given, dict):
        raise RegroupError(f"{path}: sources: a mapping of sources that the study brings is wanted")
    dotted = (str(key).split(".") for key in values)
    named = {*given, *(parts[1] for parts in dotted if parts[0] == "sources" and len(parts) > 1)}
    if taken := sorted(named.intersection(lent)):
        raise RegroupError(
            f"{path}: sources.{taken[0]}: belongs to the data that all studies of the profile share; change"
            " it there, or make a profile of your own. A study may bring sources that the profile lacks"
        )


def _state(place: Place) -> str:
    """A digest of all that a study's files are made of, this code included."""
    sources = [
        place.profile / "params.yaml",
        Path("dvc.yaml"),
        place.study.variants,
        *place.overrides,
        Path(__file__),
        Path(str(pipelines.__file__)),
    ]
    digest = hashlib.sha256(repr(place.study.claims.is_file()).encode())
    for path in sources:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _write(folder: Path, params: str, pipeline: str) -> Path:
    texts = {folder / "dvc.yaml": pipeline, folder / "params.yaml": params}
    for path in texts:
        if path.is_file() and not is_made(path):
            raise RegroupError(f"{path}: was not made by `regroup profile`, and would be overwritten")
    for path, text in texts.items():
        write_text(path, text)
    return folder / "params.yaml"


def is_made(path: Path) -> bool:
    """Whether a dvc.yaml or params.yaml is one of those written here."""
    return first_line(path).startswith(MADE)


def _check_root() -> None:
    if not Path("params.yaml").is_file() or not Path("dvc.yaml").is_file():
        raise RegroupError("params.yaml and dvc.yaml are not here; run this from the project's root")


def _read_overrides(path: Path) -> dict[str, Any]:
    values = read_yaml(path) or {}
    if not isinstance(values, dict):
        raise RegroupError(f"{path}: must be a mapping of keys, as in params.yaml")
    refuse_moved(values, path)
    return values


def _laid_over(base: Path | str, values: Mapping[str, Any], source: Path) -> str:
    """The text of a params.yaml, comments kept, with other values; `base` is a file or a text."""
    if isinstance(base, Path):
        refuse_moved(read_yaml(base), base)
    document = round_trip().load(base)
    _lay_over(document, values, source)
    buffer = io.StringIO()
    round_trip().dump(document, buffer)
    return buffer.getvalue()


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
