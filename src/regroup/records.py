"""What COCO's JSON files may hold, checked once before anything computes with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from regroup.errors import RegroupError
from regroup.io import read_json

MAX_ID = 2**63 - 1
"""Ids are kept as 64-bit integers."""

MAX_SIDE = 2**31 - 1
"""Widths and heights as 32-bit ones."""

_NAMED = 5  # faults told in a message; the rest are counted
_ODD = frozenset("/\\\0")
_LONGEST_NAME = 255  # bytes, on nearly every file system


class Faults:
    """What is wrong with the records of a file: all are counted, the first few told, in one error."""

    def __init__(self, path: Path) -> None:
        """Collect the faults of `path`."""
        self._path = path
        self._first: list[str] = []
        self._count = 0

    def add(self, where: str, reason: str, record: Any = None) -> None:
        """Note a fault at `where` (`annotations[3].id`); the record's own id is told if it has one."""
        self._count += 1
        if len(self._first) < _NAMED:
            own = record.get("id") if isinstance(record, Mapping) else None
            told = f" (id {own})" if own is not None and f"id {own}" not in reason else ""
            self._first.append(f"{where}: {reason}{told}")

    def check(self) -> None:
        """Go on if there are none.

        Raises:
            RegroupError: names the file and the first faults, and counts the rest.
        """
        if not self._count:
            return
        more = f"; and {self._count - len(self._first)} more" if self._count > len(self._first) else ""
        raise RegroupError(f"{self._path}: {'; '.join(self._first)}{more}")


class ImageRecord(NamedTuple):
    """An image of a COCO file; sizes in pixels."""

    id: int
    file_name: str
    width: int
    height: int


def read_document(path: Path, what: str, *lists: str) -> dict[str, list[Any]]:
    """The named lists of a COCO file.

    Args:
        path: a JSON file.
        what: what it should be, for the message.
        lists: keys that have to be there.

    Raises:
        RegroupError: not JSON, not an object, or without one of the lists.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise RegroupError(f"{path}: holds a {type(document).__name__}, not a {what}")
    missing = [key for key in lists if key not in document]
    if missing:
        raise RegroupError(f"{path}: not a {what}: no {', '.join(missing)}")
    for key in lists:
        if not isinstance(document[key], list):
            raise RegroupError(f"{path}: {key}: a {what} has a list here")
    return {key: document[key] for key in lists}


def image_records(
    entries: list[Any], faults: Faults, *, key: str = "id", most_pixels: int | None = None
) -> dict[int, ImageRecord]:
    """The images of a COCO file by id, in the order of the file.

    Args:
        entries: its `images`.
        faults: gets an id that is missing, ill-typed or there twice, a name that is none or leaves the image
            folder, and a size that is none.
        key: what the id is called.
        most_pixels: an image may have, where masks are drawn at its size.
    """
    found: dict[int, ImageRecord] = {}
    for number, entry in enumerate(entries):
        try:
            record = ImageRecord(entry[key], entry["file_name"], entry["width"], entry["height"])
        except (TypeError, KeyError):
            record = None
        if record is None or not _plain(record) or _above(record, most_pixels):
            _explain(number, entry, key, faults)
        elif record.id in found:
            faults.add(f"images[{number}].{key}", f"image id {record.id} comes twice")
        else:
            found[record.id] = record
    return found


def is_id(value: object) -> bool:
    """Whether a value can be an id: a whole number that is not negative, of 63 bits at most."""
    return type(value) is int and 0 <= value <= MAX_ID


def wrong(entry: Any, key: str, kind: type, low: int = 0, high: int = MAX_ID) -> str | None:
    """Why `entry[key]` is no value of this kind (a number also: within its range), or None."""
    if not isinstance(entry, Mapping):
        return f"is in a {type(entry).__name__}, not in an object"
    if entry.get(key) is None:
        return "is missing"
    value = entry[key]
    if type(value) is not kind:
        return f"is a {type(value).__name__}, not {kind.__name__}"
    if isinstance(value, int) and not low <= value <= high:
        return f"is {_short(value)}, not within {low} to {high}"
    return None


def file_name_problem(name: str) -> str | None:
    """Why a file name cannot be that of a file in the image folder, or None."""
    plain = name.isascii() and not _ODD.intersection(name)
    if plain and 0 < len(name) <= _LONGEST_NAME and name not in (".", ".."):
        return None
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in name or "\0" in name:
        return f"{name[:80]!r} leaves the image folder"
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        return f"{name[:80]!r} is not Unicode"
    return f"{name[:80]!r}... is too long" if longest > _LONGEST_NAME or len(name) > 3000 else None


def _plain(record: ImageRecord) -> bool:
    """Whether all is well, asked of 100,000 images and so in few steps."""
    name, width, height = record.file_name, record.width, record.height
    return (
        is_id(record.id)
        and type(width) is int
        and type(height) is int
        and 0 < width <= MAX_SIDE
        and 0 < height <= MAX_SIDE
        and type(name) is str
        and file_name_problem(name) is None
    )


def _above(record: ImageRecord, most_pixels: int | None) -> bool:
    return most_pixels is not None and record.width * record.height > most_pixels


def _explain(number: int, entry: Any, key: str, faults: Faults) -> None:
    where = f"images[{number}]"
    kinds = ((key, int, 0, MAX_ID), ("file_name", str, 0, 0), ("width", int, 1, MAX_SIDE))
    for name, kind, low, high in (*kinds, ("height", int, 1, MAX_SIDE)):
        if (problem := wrong(entry, name, kind, low, high)) is not None:
            return faults.add(f"{where}.{name}", problem, entry)
    if (problem := file_name_problem(entry["file_name"])) is not None:
        return faults.add(f"{where}.file_name", problem, entry)
    size = f"{entry['width']} x {entry['height']}"
    return faults.add(where, f"{size} pixels are more than a picture may have", entry)


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**30 else "a number of more than 30 digits"
