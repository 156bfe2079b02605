"""SugarCrepe's pairs of captions about COCO's val2017, and drawn ones: github.com/RAIVNLab/sugar-crepe.

A kind is a file, `{"0": {"filename": ..., "caption": ..., "negative_caption": ...}, ...}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from regroup.errors import RegroupError
from regroup.records import Faults
from regroup.sources.manifest import MANIFEST
from regroup.sources.settings import SOURCES
from regroup.tasks._choices import Choice, check_pictures
from regroup.tasks._choices._records import check_entry, entries

SOURCE = "compositions"
KINDS = tuple(Path(part).stem for part in SOURCES.load(SOURCE).any_of)

_GROUPS = {
    "add": ("add_att", "add_obj"),
    "replace": ("replace_att", "replace_obj", "replace_rel"),
    "swap": ("swap_att", "swap_obj"),
}
GROUPS = {f"{name}_mean": kinds for name, kinds in _GROUPS.items()}
"""Of the published seven."""


def sources() -> Iterable[str]:
    """The pairs, and the pictures."""
    return (SOURCE, "coco")


def check(root: Path) -> None:
    """Refuse a file that looks like a kind and is none: it would not be scored, and nobody would notice.

    Raises:
        RegroupError: names it and the kinds there are.
    """
    found = {path.stem for path in root.glob("*.json") if path.name != MANIFEST}
    if odd := sorted(found - set(KINDS)):
        raise RegroupError(
            f"{root / odd[0]}.json: no such kind of pairs; there are {', '.join(KINDS)}. Name it like one of"
            " them, or put it elsewhere"
        )


def read(kind: str, roots: Mapping[str, Path]) -> list[Choice] | None:
    """The pairs of a kind.

    Raises:
        RegroupError: the file is no such file or empty, an entry lacks a text, or a picture is not there.
    """
    file, pictures = roots[SOURCE] / f"{kind}.json", roots["coco"] / "val2017"
    if not file.is_file():
        return None
    faults, found = Faults(file), []
    for key, entry in entries(file, dict, "pairs of captions by number").items():
        if check_entry(entry, key, "filename", ("caption", "negative_caption"), faults):
            captions = (entry["caption"], entry["negative_caption"])
            found.append(Choice(pictures / entry["filename"], captions))
    faults.check()
    check_pictures(found, file)
    return found
