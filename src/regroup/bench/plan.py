"""Which evaluations of which parameters are run, with which options, and where their data lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from regroup.errors import RegroupError
from regroup.params import Params
from regroup.settings import Settings, rule_name
from regroup.sources.manifest import MANIFEST, raw_root
from regroup.study import profile_folder
from regroup.tasks import Evaluation, evaluation
from regroup.tasks.together import Options as Together


@dataclass(frozen=True)
class Entry:
    """An evaluation of some parameters.

    Attributes:
        name: of the entry under `evaluate:`, `<entry>/<member>` for a member of several tasks together; where
            studies call different things the same, `<study>_<name>`.
        evaluation: the task with its options, called so.
        params: whose it is.
        roots: where each source that it reads lies.
        missing: why it cannot be run; None: it can.
    """

    name: str
    evaluation: Evaluation
    params: Params
    roots: Mapping[str, Path] = field(default_factory=dict)
    missing: str | None = None


def collect(files: Sequence[Params]) -> dict[str, Entry]:
    """The evaluations of parameters, by name; what several have alike is there once.

    Raises:
        RegroupError: the parameters are of data of several profiles, or two evaluations cannot be told apart.
    """
    profiles = {params.data: params.params_file for params in files}
    if len(profiles) > 1:
        named = " and ".join(f"{name} ({file})" for name, file in profiles.items())
        raise RegroupError(f"--params: data of {named}; scores on both do not belong in one table: run twice")
    every = [
        Entry(name, replace(one, name=name), params)
        for params in files
        for name, one in _members(params.evaluate)
    ]
    distinct: dict[tuple[str, str], Entry] = {}
    for entry in every:
        distinct.setdefault((entry.name, _content(entry)), entry)
    count = Counter(name for name, _ in distinct)
    entries: dict[str, Entry] = {}
    for entry in distinct.values():
        called = f"{rule_name(entry.params.files.name)}_{entry.name}" if count[entry.name] > 1 else entry.name
        if called in entries:
            other = entries[called].params.params_file
            raise RegroupError(
                f"{entry.params.params_file}: evaluate.{entry.name}: {other} has another evaluation of this "
                "name; score them in two calls"
            )
        entries[called] = replace(entry, name=called, evaluation=replace(entry.evaluation, name=called))
    return entries


def known_names(entries: Iterable[str]) -> list[str]:
    """What `--tasks` may name: entries, and what several members have in front."""
    return list(dict.fromkeys(name for one in entries for name in (one.partition("/")[0], one)))


def chosen(entries: Mapping[str, Entry], names: Iterable[str] | None) -> list[Entry]:
    """The entries that some of `known_names` mean, in their own order; None: all."""
    if names is None:
        return list(entries.values())
    wanted = set(names)
    return [one for name, one in entries.items() if {name, name.partition("/")[0]} & wanted]


def with_options(entry: Entry, given: Mapping[str, Any]) -> tuple[Entry, set[str]]:
    """An entry with other values of some options, wherever its task has them; and those it has nowhere.

    Args:
        entry: any.
        given: value by name, e.g. `limit`; of a segmentation's data sets each gets it.

    Raises:
        RegroupError: a value that is out of its range there.
    """
    found: set[str] = set()
    one = entry.evaluation
    options = _replaced(one.options, given, found)
    values = {"task": one.task, **options.model_dump(mode="json")}
    return replace(entry, evaluation=evaluation(one.name, values)), set(given) - found


def with_roots(entry: Entry, given: Mapping[str, Path]) -> Entry:
    """An entry with the folders of its sources: those given, else the profile's raw data."""
    roots, missing = {}, []
    for source in entry.evaluation.sources:
        if source in given:
            roots[source] = given[source]
            continue
        raw = entry.params.layout.raw(source)
        if not (raw / MANIFEST).is_file():
            pipeline = _pipeline_of(source, entry.params)
            missing.append(
                f"{raw}: the source {source} is not there; make it (`dvc repro {pipeline}:source@{source}`) "
                f"or give --root {source}=FOLDER"
            )
            continue
        try:
            roots[source] = raw_root(raw)
        except RegroupError as error:
            missing.append(str(error))
    return replace(entry, roots=roots, missing="; ".join(missing) or None)


def _pipeline_of(source: str, params: Params) -> Path:
    """Which pipeline makes a source: a study's own one, or that of the profile whose data it takes."""
    if source in params.made_sources:
        return params.params_file.with_name("dvc.yaml")
    return profile_folder(params.data) / "dvc.yaml"


def check_roots(given: Iterable[tuple[str, Path]], entries: Sequence[Entry]) -> dict[str, Path]:
    """What `--root` says, by source.

    Raises:
        RegroupError: a source that no entry reads, one that is given twice, or no such folder.
    """
    read = list(dict.fromkeys(source for one in entries for source in one.evaluation.sources))
    roots: dict[str, Path] = {}
    for source, folder in given:
        if source not in read:
            raise RegroupError(f"--root {source!r}: no source that is read here; what is: {', '.join(read)}")
        if source in roots:
            raise RegroupError(f"--root: {source} is given twice")
        if not folder.is_dir():
            raise RegroupError(f"--root {source}: no such folder {folder}")
        roots[source] = folder
    return roots


def _members(evaluations: Mapping[str, Evaluation]) -> Iterator[tuple[str, Evaluation]]:
    """What is run on its own: a fault of one member of several tasks together leaves the others alone."""
    for name, one in evaluations.items():
        if isinstance(one.options, Together):
            yield from ((f"{name}/{member}", its) for member, its in one.options.tasks.items())
        else:
            yield name, one


def _content(entry: Entry) -> str:
    """What is scored: evaluations that say the same of the same files are one."""
    one, layout = entry.evaluation, entry.params.layout
    places = [layout.raw(source).as_posix() for source in one.sources]
    return f"{one.task} {one.options.model_dump_json()} {places}"


def _replaced(value: Any, given: Mapping[str, Any], found: set[str]) -> Any:
    if isinstance(value, Settings):
        own = {name: getattr(value, name) for name in type(value).model_fields}
        found |= own.keys() & given.keys()
        return value.model_copy(
            update={
                name: given[name] if name in given else _replaced(it, given, found)
                for name, it in own.items()
            }
        )
    if isinstance(value, Mapping):
        return {key: _replaced(it, given, found) for key, it in value.items()}
    return value
