"""ARO's COCO Order and Flickr30k Order: a caption among four of its words in another order.

ARO publishes no file of them: its code shuffles anew whenever it is started. `coco_order.json` and
`flickr30k_order.json` are its lists `test_cases` as JSON, `[{"image": ..., "caption_options": [...]}, ...]`,
the true caption first. A shuffle that gave the caption again is no choice and left out, and so is a caption
without another; ARO's code counts it as right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from regroup.records import Faults
from regroup.tasks._choices import Choice, check_pictures
from regroup.tasks._choices._aro import SOURCE
from regroup.tasks._choices._records import check_entry, entries
from regroup.tasks._ranks import same_text
from regroup.texts import text_problem

KINDS = ("coco_order", "flickr30k_order")


def sources() -> Iterable[str]:
    """Captions and pictures in one."""
    return (SOURCE,)


def read(kind: str, roots: Mapping[str, Path]) -> list[Choice] | None:
    """The captions with their shuffles.

    Raises:
        RegroupError: the file is no such file or empty, an entry lacks something, or a picture is not there.
    """
    file = roots[SOURCE] / f"{kind}.json"
    if not file.is_file():
        return None
    faults, found = Faults(file), []
    for number, entry in enumerate(entries(file, list, "a list of captions with their shuffles")):
        if not check_entry(entry, f"[{number}]", "image", (), faults):
            continue
        options = entry.get("caption_options")
        if not (
            isinstance(options, list) and len(options) > 1 and all(isinstance(one, str) for one in options)
        ):
            faults.add(f"[{number}].caption_options", "two texts or more are wanted", entry)
            continue
        if problem := next(filter(None, map(text_problem, options)), None):
            faults.add(f"[{number}].caption_options", problem, entry)
            continue
        true = same_text(options[0])
        others = [one for one in options[1:] if same_text(one) != true]
        if others:
            found.append(Choice(roots[SOURCE] / entry["image"], (options[0], *others)))
    faults.check()
    check_pictures(found, file)
    return found
