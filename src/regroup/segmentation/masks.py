"""COCO-Object masks: class ids 0 (background) and 1..80, from pixel maps or from instance annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from regroup.errors import RegroupError
from regroup.io import read_json
from regroup.segmentation.protocols import IGNORED

_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
CATEGORY_IDS = tuple(i for i in range(1, 91) if i not in _GAPS)
"""The 80 category ids of COCO 2017; category number k (from 1) of COCO-Object is the k-th of them."""

LAST_THING = 90
"""Largest raw id of a thing in the COCO-Stuff pixel maps; raw ids are category ids less 1."""


def stuffthingmap_table() -> NDArray[np.int16]:
    """Lookup [256] from COCO-Stuff's raw ids to COCO-Object's; -1 for thing ids that COCO 2017 does not use.

    Things become 1..80 in order; stuff (91 and above) and unlabelled pixels (255) become background.
    """
    table = np.zeros(256, dtype=np.int16)
    table[: LAST_THING + 1] = -1
    for number, category in enumerate(CATEGORY_IDS, start=1):
        table[category - 1] = number
    return table


def from_stuffthingmap(raw: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """Mask [H, W] of a COCO-Stuff pixel map [H, W].

    Raises:
        RegroupError: the map has a thing id that is none of COCO's 80 categories.
    """
    mapped = stuffthingmap_table()[raw]
    if mapped.min(initial=0) < 0:
        unused = sorted(int(i) for i in np.unique(raw[mapped < 0]))
        raise RegroupError(f"{path}: ids {unused} are none of COCO's 80 categories (id = category id - 1)")
    return mapped.astype(np.uint8)


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
        region = _decode(annotation, height, width)
        if annotation.get("iscrowd", 0):
            mask[region] = IGNORED
        else:
            objects.append(
                (int(region.sum()), -int(annotation["id"]), classes[annotation["category_id"]], region)
            )
    for *_, class_id, region in sorted(objects, key=lambda entry: entry[:2], reverse=True):
        mask[region] = class_id
    return mask


def _decode(annotation: Mapping[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    try:
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, list):
            runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], list):
            runs = coco_mask.frPyObjects(segmentation, height, width)
        else:
            runs = segmentation
        region = np.asarray(coco_mask.decode(runs), dtype=bool)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RegroupError(f"annotation {annotation['id']}: segmentation cannot be drawn ({error})") from None
    if region.shape != (height, width):
        raise RegroupError(f"annotation {annotation['id']}: segmentation is not {width} x {height} pixels")
    return region


class InstanceFile:
    """An `instances_*.json`: images in the order of their file names, and the annotations of each."""

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        """Read the file and match its categories, by name, with `classes`.

        Raises:
            RegroupError: not a COCO annotation file, or a category that is none of the classes.
        """
        value = read_json(path)
        missing = [key for key in ("images", "annotations", "categories") if key not in value]
        if missing:
            raise RegroupError(f"{path}: not a COCO instances file: no {', '.join(missing)}")
        number = {name: i for i, name in enumerate(classes)}
        unknown = sorted(c["name"] for c in value["categories"] if c["name"] not in number)
        if unknown:
            raise RegroupError(f"{path}: categories {unknown} are not among the protocol's classes")
        self.classes = {c["id"]: number[c["name"]] for c in value["categories"]}
        self.images = sorted(value["images"], key=lambda image: str(image["file_name"]))
        self.annotations: dict[int, list[Mapping[str, Any]]] = {image["id"]: [] for image in self.images}
        for annotation in value["annotations"]:
            if annotation["image_id"] not in self.annotations:
                raise RegroupError(f"{path}: annotation {annotation['id']} is of an image that is not listed")
            if annotation["category_id"] not in self.classes:
                raise RegroupError(f"{path}: annotation {annotation['id']}: category_id is not listed")
            self.annotations[annotation["image_id"]].append(annotation)
