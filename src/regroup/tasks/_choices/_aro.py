"""ARO's sets about Visual Genome, pairs about a box: github.com/mertyg/vision-language-models-are-bows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from regroup.records import Faults, wrong
from regroup.tasks._choices import Choice, check_pictures
from regroup.tasks._choices._records import check_entry, entries
from regroup.texts import text_problem

SOURCE, IMAGES = "aro", "images"

_SIDE = 65_535
_BOX = (("bbox_x", -_SIDE), ("bbox_y", -_SIDE), ("bbox_w", 1), ("bbox_h", 1))


def read_pairs(file: Path, images: Path, group: Callable[[Any], str | None]) -> list[Choice] | None:
    """The pairs of a file whose group is one.

    Args:
        file: a list of entries with `image_path`, `bbox_x`, `bbox_y`, `bbox_w`, `bbox_h`, `true_caption`
            and `false_caption`.
        images: folder of the pictures.
        group: what an entry counts with; None: it is not scored. What it raises as `ValueError` is wrong with
            the entry.

    Raises:
        RegroupError: the file is no such file or empty, an entry lacks something, or a picture is not there.
    """
    if not file.is_file():
        return None
    faults, found = Faults(file), []
    for number, entry in enumerate(entries(file, list, "a list of pairs of captions")):
        where = f"[{number}]"
        if not check_entry(entry, where, "image_path", ("true_caption", "false_caption"), faults):
            continue
        boxes = [(key, wrong(entry, key, int, low, _SIDE)) for key, low in _BOX]
        if problems := [(key, problem) for key, problem in boxes if problem]:
            faults.add(f"{where}.{problems[0][0]}", problems[0][1], entry)
            continue
        try:
            own = group(entry)
        except ValueError as error:
            faults.add(where, str(error), entry)
            continue
        if own is not None and (problem := text_problem(own)):
            faults.add(where, f"the group {own!r} {problem}", entry)
        elif own is not None:
            box = (entry["bbox_x"], entry["bbox_y"], entry["bbox_w"], entry["bbox_h"])
            captions = (entry["true_caption"], entry["false_caption"])
            found.append(Choice(images / entry["image_path"], captions, box, own))
    faults.check()
    check_pictures(found, file)
    return found


def place(roots: Mapping[str, Path], name: str) -> tuple[Path, Path]:
    """A file of the source, and the folder of its pictures."""
    return roots[SOURCE] / name, roots[SOURCE] / IMAGES
