"""ARO's Visual Genome Attribution: "the paved road and the white house" or the attributes exchanged.

The score is the mean over pairs of attributes that have at least 25 entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from regroup.tasks._choices import Choice
from regroup.tasks._choices._aro import SOURCE, place, read_pairs

KINDS = ("attribution",)
LEAST = 25


def sources() -> Iterable[str]:
    """Pairs and pictures in one."""
    return (SOURCE,)


def read(kind: str, roots: Mapping[str, Path]) -> list[Choice] | None:
    """The pairs; errors as `read_pairs`."""
    return read_pairs(*place(roots, f"visual_genome_{kind}.json"), _attributes)


def _attributes(entry: Any) -> str:
    pair = entry.get("attributes")
    if not (isinstance(pair, list) and len(pair) >= 2 and all(isinstance(one, str) for one in pair)):
        raise ValueError("attributes: two words are wanted")
    return f"{pair[0]}_{pair[1]}"
