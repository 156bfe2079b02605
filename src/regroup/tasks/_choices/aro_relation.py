"""ARO's Visual Genome Relation: "the horse is eating the grass" or "the grass is eating the horse".

The score is the mean over relations, less those that may hold both ways (`aro_relation.yaml`), as in the
notebook that ARO's authors publish.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from regroup.records import wrong
from regroup.settings import Settings, parse, read_yaml
from regroup.tasks._choices import Choice
from regroup.tasks._choices._aro import SOURCE, place, read_pairs

KINDS = ("relation",)
LEAST = 1

_FILE = Path(__file__).with_suffix(".yaml")


class _Left(Settings):
    both_ways: tuple[str, ...]


def sources() -> Iterable[str]:
    """Pairs and pictures in one."""
    return (SOURCE,)


def read(kind: str, roots: Mapping[str, Path]) -> list[Choice] | None:
    """The pairs; errors as `read_pairs`."""
    both_ways = frozenset(parse(_Left, read_yaml(_FILE), _FILE).both_ways)

    def relation(entry: Any) -> str | None:
        if problem := wrong(entry, "relation_name", str):
            raise ValueError(f"relation_name {problem}")
        name: str = entry["relation_name"]
        return None if name in both_ways else name

    return read_pairs(*place(roots, f"visual_genome_{kind}.json"), relation)
