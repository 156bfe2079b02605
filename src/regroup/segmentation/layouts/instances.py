"""COCO-Object from an `instances_*.json`: class ids 0 (background) and 1..80."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regroup.errors import RegroupError
from regroup.pictures import MAX_PIXELS, Ids
from regroup.records import Faults, ImageRecord, image_records, is_id, read_document, wrong
from regroup.regions import Item, draw, find_faults
from regroup.segmentation.layouts import Sample
from regroup.segmentation.protocols import IGNORED
from regroup.settings import Settings

if TYPE_CHECKING:
    from regroup.segmentation.protocols import Protocol

_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
CATEGORY_IDS = tuple(i for i in range(1, 91) if i not in _GAPS)
"""The 80 category ids of COCO 2017; category number k (from 1) of COCO-Object is the k-th of them."""


class Options(Settings):
    """None: the annotation file says everything."""


def find(protocol: Protocol, root: Path, split: str) -> list[Sample]:
    """Every image of the annotation file, by file name; errors as `InstanceFile`."""
    images, path = (protocol.path(root, pattern, split) for pattern in (protocol.images, protocol.labels))
    file = InstanceFile(path, protocol.classes)
    return [
        Sample(images / image.file_name, path, Described(image, file.annotations[image.id], file.classes))
        for image in file.images
    ]


def read(sample: Sample, protocol: Protocol, height: int, width: int) -> Ids:
    """The mask of one image.

    Raises:
        RegroupError: the file says another size of it, or as `from_instances`.
    """
    said: Described = sample.record
    image = said.image
    if (image.height, image.width) != (height, width):
        raise RegroupError(
            f"{sample.mask}: {image.file_name} is said to be {image.width} x {image.height}, but "
            f"{sample.image} is {width} x {height}"
        )
    return from_instances(said.annotations, said.classes, height, width)


@dataclass(frozen=True)
class Described:
    """What the annotation file says of one image; `classes`: class id by category id."""

    image: ImageRecord
    annotations: Sequence[Mapping[str, Any]]
    classes: Mapping[int, int]


def from_instances(
    annotations: Sequence[Mapping[str, Any]], classes: Mapping[int, int], height: int, width: int
) -> NDArray[np.uint8]:
    """Mask [H, W] of one image's instance annotations.

    Crowd regions are ignored (255) where no single object lies; where objects overlap, the one of fewer
    pixels is on top (the one of the larger annotation id among equals).

    Args:
        annotations: COCO annotations of the image, segmentations as polygons or run lengths.
        classes: class id by category id.
        height: pixels.
        width: pixels.

    Raises:
        RegroupError: an annotation whose segmentation cannot be drawn at this size.
    """
    mask = np.zeros((height, width), dtype=np.uint8)
    objects = []
    for annotation in annotations:
        try:
            region = draw(annotation.get("segmentation"), height, width)
        except RegroupError as error:
            raise RegroupError(
                f"annotation {annotation['id']}: segmentation cannot be drawn ({error})"
            ) from None
        if annotation.get("iscrowd", 0):
            mask[region] = IGNORED
        else:
            objects.append(
                (int(region.sum()), -int(annotation["id"]), classes[annotation["category_id"]], region)
            )
    for *_, class_id, region in sorted(objects, key=lambda entry: entry[:2], reverse=True):
        mask[region] = class_id
    return mask


class InstanceFile:
    """An `instances_*.json`: images in the order of their file names, and the annotations of each."""

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        """Read the file, check all of it, and match its categories, by name, with `classes`.

        Raises:
            RegroupError: not a COCO annotation file, a category that is none of the classes, or records that
                lack something, refer to what is not there, or cannot be drawn; names the file and the first
                of them, and counts the others.
        """
        document = read_document(path, "COCO instances file", "images", "annotations", "categories")
        faults = Faults(path)
        names = _category_names(document["categories"], faults)
        images = image_records(document["images"], faults, most_pixels=MAX_PIXELS)
        faults.check()
        number = {name: i for i, name in enumerate(classes)}
        unknown = sorted(name for name in names.values() if name not in number)
        if unknown:
            raise RegroupError(f"{path}: categories {unknown} are not among the protocol's classes")
        self.classes = {category: number[name] for category, name in names.items()}
        self.images = sorted(images.values(), key=lambda image: image.file_name)
        self.annotations: dict[int, list[Mapping[str, Any]]] = {image_id: [] for image_id in images}
        _check_annotations(document["annotations"], images, names, faults)
        faults.check()
        for annotation in document["annotations"]:
            self.annotations[annotation["image_id"]].append(annotation)


def _category_names(entries: Sequence[Any], faults: Faults) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, entry in enumerate(entries):
        where = f"categories[{number}]"
        problems = {key: wrong(entry, key, kind) for key, kind in (("id", int), ("name", str))}
        for key, problem in problems.items():
            if problem is not None:
                faults.add(f"{where}.{key}", problem, entry)
        if not any(problems.values()):
            if entry["id"] in names:
                faults.add(f"{where}.id", f"category id {entry['id']} comes twice")
            names[entry["id"]] = entry["name"]
    return names


def _check_annotations(
    entries: Sequence[Any],
    images: Mapping[int, ImageRecord],
    categories: Collection[int],
    faults: Faults,
) -> None:
    seen: set[int] = set()
    places: list[int] = []

    def drawable() -> Iterator[Item]:
        for number, entry in enumerate(entries):
            if (problem := _annotation_problem(entry, images, categories, seen)) is not None:
                faults.add(f"annotations[{number}].{problem[0]}", problem[1], entry)
                continue
            seen.add(entry["id"])
            places.append(number)
            image = images[entry["image_id"]]
            yield entry["segmentation"], image.height, image.width

    undrawable = find_faults(drawable())
    for place in sorted(undrawable):
        number = places[place]
        where = f"annotations[{number}].segmentation"
        faults.add(where, f"cannot be drawn: {undrawable[place]}", entries[number])


def _annotation_problem(
    entry: Any, images: Mapping[int, ImageRecord], categories: Collection[int], seen: Collection[int]
) -> tuple[str, str] | None:
    """The key that is wrong and why, or None; the first three lines are all that most records meet."""
    try:
        number, image, category = entry["id"], entry["image_id"], entry["category_id"]
        known = is_id(number) and is_id(image) and is_id(category) and "segmentation" in entry
        if known and number not in seen and image in images and category in categories:
            crowd = entry.get("iscrowd", 0)
            return None if crowd in (0, 1) else ("iscrowd", f"is {str(crowd)[:40]!r}, not 0 or 1")
    except (TypeError, KeyError):
        pass
    for key in ("id", "image_id", "category_id"):
        if (problem := wrong(entry, key, int)) is not None:
            return key, problem
    if entry.get("segmentation") is None:
        return "segmentation", "is missing"
    if entry["id"] in seen:
        return "id", f"annotation id {entry['id']} comes twice"
    if entry["image_id"] not in images:
        return "image_id", f"image {entry['image_id']} is not among the images"
    return "category_id", f"category {entry['category_id']} is not among the categories"
