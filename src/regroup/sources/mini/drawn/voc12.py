"""PASCAL VOC 2012: palette masks whose objects have an outline that is not scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from regroup.io import write_text
from regroup.sources.mini.files import UNLABELLED, Map, jpeg, png, save, scenes, shown, table
from regroup.sources.settings import WorldParams


def write(folder: Path, world: WorldParams) -> None:
    """Both splits."""
    root, things, palette = folder / "VOCdevkit/VOC2012", shown("voc"), voc_palette()
    for split, count, year in (("train", world.voc12_train, 2007), ("val", world.voc12_val, 2008)):
        stems = []
        for number, scene, _ in scenes("voc12", split, count, things, world.voc12_style, world):
            stems.append(f"{year}_{number:06d}")
            save(root / f"JPEGImages/{stems[-1]}.jpg", jpeg(scene.image, world.jpeg_quality))
            labels = _with_void(table("voc", 0)[scene.concepts], scene.objects)
            save(root / f"SegmentationClass/{stems[-1]}.png", png(labels, palette))
        write_text(root / f"ImageSets/Segmentation/{split}.txt", "".join(f"{stem}\n" for stem in stems))


def voc_palette() -> list[int]:
    """VOC's colour map, 256 x RGB: the bits of the id, spread over the channels from the highest bit down."""
    palette = []
    for id_ in range(256):
        for channel in range(3):
            bits = [(id_ >> (3 * place + channel)) & 1 for place in range(8)]
            palette.append(sum(bit << (7 - place) for place, bit in enumerate(bits)))
    return palette


def _with_void(labels: Map, objects: Map) -> Map:
    """VOC's maps leave the outline of every object open: label 255, here the object's outermost pixels."""
    padded = np.pad(objects, 1, mode="edge")
    height, width = objects.shape
    inner = [padded[y : y + height, x : x + width] for y, x in ((0, 1), (2, 1), (1, 0), (1, 2))]
    outline = np.logical_or.reduce([side != objects for side in inner]) & (labels > 0)
    return np.where(outline, np.uint8(UNLABELLED), labels)
