"""PASCAL Context's masks of 59 classes and background, from `trainval_merged.json`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from regroup.errors import RegroupError
from regroup.io import write_text
from regroup.pictures import MAX_PIXELS
from regroup.records import Faults, ImageRecord, image_records, read_document, wrong
from regroup.regions import draw as draw_region
from regroup.settings import Settings, parse, read_yaml

Mask = npt.NDArray[np.uint8]

_NAMES = Path(__file__).parent / "pascal_context.yaml"
_KEYS = ("images", "annos_segmentation", "categories")
MASKS, LISTS = "SegmentationClassContext", "ImageSets/SegmentationContext"


class ContextClass(Settings):
    """A class: its id in the annotation file, and the names it goes by (the evaluations' first)."""

    id: int
    names: tuple[str, ...]


class _File(Settings):
    classes: tuple[ContextClass, ...]


def context_classes() -> tuple[ContextClass, ...]:
    """The 59 classes in the order of their ids; class k of a mask is the k-th, from 1."""
    return parse(_File, read_yaml(_NAMES), _NAMES).classes


def make(file: Path, folder: Path, *, progress: bool = False) -> str:
    """Make the masks and lists of the source `context`, see `make_context_masks`."""
    counts = make_context_masks(file, folder / "VOCdevkit/VOC2010", progress=progress)
    return "PASCAL Context masks: " + ", ".join(f"{count:,} {split}" for split, count in counts.items())


def make_context_masks(annotations: Path, voc2010: Path, *, progress: bool = False) -> dict[str, int]:
    """Write `SegmentationClassContext/*.png` and `ImageSets/SegmentationContext/{train,val}.txt`.

    Args:
        annotations: `trainval_merged.json` (4,996 training and 5,104 validation images).
        voc2010: the folder VOCdevkit/VOC2010.
        progress: show a progress bar.

    Returns:
        How many images each split has.

    Raises:
        RegroupError: not that file, another name than expected for one of the ids, an id that is none of the
            60, or a region that cannot be drawn. Nothing is in place then.
    """
    document = read_document(annotations, "trainval_merged.json of PASCAL Context", *_KEYS)
    check_names(annotations, document["categories"])
    images, regions = _records(annotations, document)
    temporary = voc2010 / f".{MASKS}.making"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    stems: dict[str, list[str]] = {"train": [], "val": []}
    try:
        for image, phase in tqdm(images, desc="Context masks", unit="image", disable=not progress):
            if phase in stems:
                stem = PurePosixPath(image.file_name).stem
                mask = draw(annotations, image, regions[image.id])
                Image.fromarray(mask).save(temporary / f"{stem}.png")
                stems[phase].append(stem)
        shutil.rmtree(voc2010 / MASKS, ignore_errors=True)
        temporary.replace(voc2010 / MASKS)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for split, found in stems.items():
        write_text(voc2010 / LISTS / f"{split}.txt", "".join(f"{stem}\n" for stem in sorted(found)))
    return {split: len(found) for split, found in stems.items()}


def _records(
    path: Path, document: Mapping[str, list[Any]]
) -> tuple[list[tuple[ImageRecord, str]], dict[int, list[Mapping[str, Any]]]]:
    """Each image with its phase, and the regions of each by its id."""
    faults = Faults(path)
    images = image_records(document["images"], faults, key="image_id", most_pixels=MAX_PIXELS)
    phases: list[str] = []
    for number, entry in enumerate(document["images"]):
        if (problem := wrong(entry, "phase", str)) is not None:
            faults.add(f"images[{number}].phase", problem)
        else:
            phases.append(entry["phase"])
    regions: dict[int, list[Mapping[str, Any]]] = {image: [] for image in images}
    for number, region in enumerate(document["annos_segmentation"]):
        for key in ("image_id", "category_id"):
            if (problem := wrong(region, key, int)) is not None:
                faults.add(f"annos_segmentation[{number}].{key}", problem, region)
                break
        else:
            if region["image_id"] in regions:
                regions[region["image_id"]].append(region)
            else:
                where = f"annos_segmentation[{number}].image_id"
                faults.add(where, f"image {region['image_id']} is not among the images", region)
    faults.check()
    return list(zip(images.values(), phases, strict=True)), regions


def check_names(path: Path, categories: list[Mapping[str, Any]]) -> None:
    """Check that the ids we know mean the classes we think, by their names.

    Raises:
        RegroupError: names the first id whose category is missing or called otherwise.
    """
    faults = Faults(path)
    for number, category in enumerate(categories):
        for key, kind in (("category_id", int), ("name", str)):
            if (problem := wrong(category, key, kind)) is not None:
                faults.add(f"categories[{number}].{key}", problem)
    faults.check()
    given = {category["category_id"]: category["name"] for category in categories}
    for known in context_classes():
        name = given.get(known.id)
        if name is None or _plain(name) not in {_plain(one) for one in known.names}:
            found = "is missing" if name is None else f"is {name!r}"
            raise RegroupError(f"{path}: categories: id {known.id} {found}, expected {known.names[0]!r}")


def draw(path: Path, image: ImageRecord, regions: list[Mapping[str, Any]]) -> Mask:
    """The mask [height, width] of an image: 0 background, 1 to 59; later regions lie on top.

    Raises:
        RegroupError: an id that is none of the 60, or a region of another size or damaged.
    """
    ids = np.zeros((image.height, image.width), dtype=np.int64)
    for region in regions:
        try:
            ids[draw_region(region.get("segmentation"), image.height, image.width)] = region["category_id"]
        except RegroupError as error:
            raise RegroupError(f"{path}: annotation {region.get('id')}: cannot be drawn ({error})") from None
    known = np.array([0, *(one.id for one in context_classes())])
    if strangers := sorted(set(np.unique(ids).tolist()) - set(known.tolist())):
        raise RegroupError(f"{path}: {image.file_name}: ids {strangers} are none of the 60 of PASCAL Context")
    return np.digitize(ids, known, right=True).astype(np.uint8)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
