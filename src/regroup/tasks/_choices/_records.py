"""What the layouts have in common: entries of a JSON file, looked at before anything computes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regroup.errors import RegroupError
from regroup.io import read_json
from regroup.records import Faults, file_name_problem, wrong
from regroup.texts import text_problem


def entries(path: Path, kind: type, what: str) -> Any:
    """The list or mapping that a file holds.

    Raises:
        RegroupError: it holds anything else, or nothing.
    """
    content = read_json(path)
    if not isinstance(content, kind):
        raise RegroupError(f"{path}: holds a {type(content).__name__}, not {what}")
    if not content:
        raise RegroupError(f"{path}: is empty; nothing can be chosen. Remove the file, or get it again")
    return content


def check_entry(entry: Any, where: str, image: str, texts: Sequence[str], faults: Faults) -> bool:
    """Note what is wrong with an entry's picture and texts; whether all is well.

    Args:
        entry: as read.
        where: it stands in the file.
        image: key of the picture's path below its folder.
        texts: keys of captions.
        faults: gets what is wrong.
    """
    found = [(key, wrong(entry, key, str)) for key in (image, *texts)]
    if not any(problem for _, problem in found):
        found = [(image, file_name_problem(entry[image]))]
        found += [(key, "is empty") for key in texts if not entry[key].strip()]
        found += [(key, text_problem(entry[key])) for key in texts]
    problems = [(key, problem) for key, problem in found if problem]
    for key, problem in problems[:1]:
        faults.add(f"{where}.{key}", problem, entry if isinstance(entry, Mapping) else None)
    return not problems
