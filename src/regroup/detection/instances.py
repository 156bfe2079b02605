"""The objects of a COCO instances file: boxes by image, for the classes that are asked for."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from regroup.errors import RegroupError
from regroup.records import Faults, ImageRecord, image_records, read_document, wrong

_FAR = 1e6
"""Pixels from the origin beyond which no coordinate of a box can lie."""


@dataclass(frozen=True)
class Truth:
    """The objects of one image.

    Attributes:
        image: its record.
        boxes: left, top, right, bottom in pixels of the image.
        classes: numbers of the classes.
        crowd: whether a box holds many objects of its class, which nothing is asked of.
    """

    image: ImageRecord
    boxes: Float[NDArray[np.float64], "m 4"]
    classes: Int[NDArray[np.int64], " m"]
    crowd: Bool[NDArray[np.bool_], " m"]


def read_instances(path: Path, classes: Sequence[str]) -> list[Truth]:
    """Images by file name, each with its objects of `classes`; other objects are left out.

    An image without any stays in the list, with no box.

    Raises:
        RegroupError: not a COCO instances file, a record that is wrong, or a class that the file lacks.
    """
    document = read_document(path, "COCO instances file", "images", "annotations", "categories")
    faults = Faults(path)
    images = image_records(document["images"], faults)
    numbers = _numbers(document["categories"], classes, path, faults)
    found: dict[int, list[tuple[list[float], int, bool]]] = {image: [] for image in images}
    for place, entry in enumerate(document["annotations"]):
        if (problem := _problem(entry, images, numbers)) is not None:
            faults.add(f"annotations[{place}].{problem[0]}", problem[1], entry)
        elif (number := numbers[entry["category_id"]]) is not None:
            left, top, width, height = map(float, entry["bbox"])
            box = [left, top, left + width, top + height]
            found[entry["image_id"]].append((box, number, bool(entry.get("iscrowd", 0))))
    faults.check()
    return [
        _truth(image, found[image.id]) for image in sorted(images.values(), key=lambda one: one.file_name)
    ]


def _truth(image: ImageRecord, objects: Sequence[tuple[list[float], int, bool]]) -> Truth:
    return Truth(
        image,
        np.array([box for box, *_ in objects], dtype=np.float64).reshape(-1, 4),
        np.array([number for _, number, _ in objects], dtype=np.int64),
        np.array([crowd for *_, crowd in objects], dtype=bool),
    )


def _numbers(entries: list[Any], classes: Sequence[str], path: Path, faults: Faults) -> dict[int, int | None]:
    """Place among `classes` by category id; None for a category that is none of them."""
    place = {name: number for number, name in enumerate(classes)}
    names: dict[int, str] = {}
    for number, entry in enumerate(entries):
        problems = [(key, wrong(entry, key, kind)) for key, kind in (("id", int), ("name", str))]
        for key, problem in problems:
            if problem is not None:
                faults.add(f"categories[{number}].{key}", problem, entry)
        if not any(problem for _, problem in problems):
            if entry["id"] in names:
                faults.add(f"categories[{number}].id", f"category id {entry['id']} comes twice")
            names[entry["id"]] = entry["name"]
    faults.check()
    if lacking := [name for name in classes if name not in names.values()]:
        close = difflib.get_close_matches(lacking[0], names.values(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise RegroupError(
            f"{path}: no category is called {', '.join(map(repr, lacking[:5]))}, as `base` or `novel` has "
            f"it{hint}"
        )
    return {category: place.get(name) for category, name in names.items()}


def _problem(
    entry: Any, images: Mapping[int, ImageRecord], categories: Mapping[int, Any]
) -> tuple[str, str] | None:
    """The key that is wrong, and why; None if all is well."""
    for key, known, what in (("image_id", images, "image"), ("category_id", categories, "category")):
        if (problem := wrong(entry, key, int)) is not None:
            return key, problem
        if entry[key] not in known:
            return key, f"{what} {entry[key]} is not in the file"
    if entry.get("iscrowd", 0) not in (0, 1):
        return "iscrowd", f"is {str(entry['iscrowd'])[:40]!r}, not 0 or 1"
    box = entry.get("bbox")
    numbers = isinstance(box, list) and len(box) == 4 and all(type(part) in (int, float) for part in box)
    if not numbers:
        return "bbox", "a box is four numbers: left, top, width, height"
    if not all(math.isfinite(part) and abs(part) <= _FAR for part in box) or min(box[2:]) < 0:
        return "bbox", f"{box} is no box of pixels"
    return None
