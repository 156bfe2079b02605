"""Reading a study's `variants.yaml`, and what can be wrong with it as a whole.

Reading is cheap and imports no torch: of plugins, only the names are looked at. What they are told and what
they need, `check_plugins` looks at, for the stage `resolve` and for `regroup check`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field

from regroup.adaptation import ADAPTATIONS
from regroup.errors import RegroupError
from regroup.heads import HEADS
from regroup.objectives import Need, check_names, needed_heads, needs
from regroup.settings import Name, parse, read_yaml, same_rule
from regroup.study import Outline, files_of, load_borrowed
from regroup.variants import ROOMS, Variant


class _File(Outline):
    variants: dict[Name, Variant] = Field(default_factory=dict)


def load_variants(path: Path) -> Mapping[str, Variant]:
    """Read and check the runs of a `variants.yaml`, without those that it borrows.

    Raises:
        RegroupError: a name that DVC or Snakemake cannot address, an unknown key or objective, a variant
            without a title, nothing to train where something is named, or two variants that would be the same
            run. What plugins are told, `check_plugins` checks; which table rows exist, `regroup check` knows.
    """
    file = parse(_File, read_yaml(path), path)
    variants = file.variants
    where = dict.fromkeys(variants, "variants") | dict.fromkeys(file.borrowed, "borrowed")
    faults = [
        f"{path}: {where[second]}.{second}: to Snakemake it is the same name as {first}; rename one of them"
        for first, second in same_rule(where)
    ]
    for name, variant in variants.items():
        faults += [f"{path}: variants.{name}.{fault}" for fault in _faults(variant)]
    if faults:
        raise RegroupError("\n".join(faults))
    _refuse_twins(variants, path)
    return variants


def load_lent(path: Path, profile: str) -> Mapping[str, Variant]:
    """The runs that a `variants.yaml` borrows, as their own studies have them, with the rows they fill here.

    Args:
        path: the file.
        profile: the profile of both studies.

    Raises:
        RegroupError: as for `load_variants` of the other studies; or there is no such study or run, or the
            study is this one.
    """
    lent: dict[str, Variant] = {}
    known: dict[Path, Mapping[str, Variant]] = {}
    faults = []
    for name, one in load_borrowed(path).items():
        where, theirs = f"{path}: borrowed.{name}", files_of(one.study, profile).variants
        if theirs == path:
            faults.append(f"{where}.study: is this study itself; add the row to its variant")
            continue
        if not theirs.is_file():
            faults.append(f"{where}.study: no study `{one.study}` here ({theirs} does not exist)")
            continue
        if theirs not in known:
            known[theirs] = load_variants(theirs)
        if one.variant in known[theirs]:
            lent[name] = known[theirs][one.variant].model_copy(update={"rows": one.rows})
        else:
            faults.append(f"{where}.variant: no {one.variant} in {theirs} ({', '.join(known[theirs])})")
    if faults:
        raise RegroupError("\n".join(faults))
    return lent


def load_scored(path: Path, profile: str) -> Mapping[str, Variant]:
    """Every run that a study scores: its own, and behind them those it borrows; errors as for `load_lent`."""
    return {**load_variants(path), **load_lent(path, profile)}


def check_plugins(variants: Mapping[str, Variant], path: Path) -> None:
    """Check what the variants of a file tell their plugins, and that they have what those need.

    Raises:
        RegroupError: every fault, one a line, with the file, the variant and the key.
    """
    if faults := list(plugin_faults(variants, path)):
        raise RegroupError("\n".join(faults))


def plugin_faults(variants: Mapping[str, Variant], path: Path) -> Iterator[str]:
    """The faults that `check_plugins` raises."""
    for name, variant in variants.items():
        where = f"{path}: variants.{name}"
        for field, room in ROOMS.items():
            for use in getattr(variant, field):
                try:
                    room.options(use.name, use.options, where=f"{where}.{field}.{use.name}")
                except RegroupError as error:
                    yield str(error)
        hungry = [term.name for term in variant.objectives if Need.LABELS in needs([term])]
        if hungry and not variant.labelled:
            yield f"{where}.labels: {', '.join(hungry)} needs labels: source, count"
        yield from _faults_of_heads(variant, where)


def _faults_of_heads(variant: Variant, where: str) -> Iterator[str]:
    listed = {use.name for use in variant.heads}
    for term in variant.objectives:
        for head in sorted(needed_heads([term]) - listed):
            yield f"{where}.heads: {term.name} needs the head {head}; add `{{name: {head}}}` to the list"
    for head in sorted(listed - needed_heads(variant.objectives)):
        yield f"{where}.heads: {head}: no objective of this variant uses it; drop it"


def _faults(variant: Variant) -> Iterator[str]:
    if not variant.title.strip():
        yield "title: is empty; tables and curves are labelled with it"
    if not variant.trained and len(variant.seeds) > 1:
        yield "seeds: nothing is trained, so there is one result; drop them"
    if not variant.trained and (variant.adapt or variant.heads):
        yield "objectives: there are none, so nothing is trained; give some, or say `trainable: nothing`"
    try:
        check_names(variant.objectives)
    except RegroupError as error:
        yield f"objectives: {error}"
    for field, room in (("adapt", ADAPTATIONS), ("heads", HEADS)):
        names = [use.name for use in getattr(variant, field)]
        try:
            for name in names:
                room.check(name)
        except RegroupError as error:
            yield f"{field}: {error}"
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{field}: {name}: listed twice; give it once"


def _refuse_twins(variants: Mapping[str, Variant], path: Path) -> None:
    """Two entries with the same science would train the same model twice, or are seeds of one experiment.

    Two that differ in their seeds are allowed where each fills rows of its own, as in a publication that
    prints an experiment twice.
    """
    seen: dict[str, list[str]] = {}
    for name, variant in variants.items():
        others = seen.setdefault(_science_of_any_seed(variant), [])
        for other in others:
            twin = variants[other]
            if not variant.trained or set(variant.seeds) & set(twin.seeds):
                raise RegroupError(
                    f"{path}: variants.{name} and variants.{other} are the same run; "
                    "keep one entry and list the rows of both in its `rows`"
                )
            if shared := [row for row in variant.rows if row in twin.rows]:
                seeds = [*twin.seeds, *variant.seeds]
                raise RegroupError(
                    f"{path}: variants.{name} and variants.{other} differ in their seeds alone, and fill the "
                    f"same row of table {shared[0].table}, {shared[0].row}; keep one entry with "
                    f"`seeds: {seeds}`"
                )
        others.append(name)


def _science_of_any_seed(variant: Variant) -> str:
    """What a variant computes but for its seeds, as one comparable string."""
    return json.dumps({key: value for key, value in variant.science.items() if key != "seeds"})
