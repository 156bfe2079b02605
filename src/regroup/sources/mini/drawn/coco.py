"""COCO 2017: captions, instances and COCO-Stuff's pixel maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from regroup.sources.mini.drawn._captioned import image_record, write_split
from regroup.sources.mini.files import UNLABELLED, png, save, save_json, scenes, shown, table
from regroup.sources.mini.grammar import caption
from regroup.sources.mini.names import load_names, world_id
from regroup.sources.mini.scenes import Scene
from regroup.sources.settings import WorldParams

CAPTIONS_PER_IMAGE = 5  # as COCO has
FIRST_VAL = 500001
"""Id of the first image of the validation split."""


def write(folder: Path, world: WorldParams) -> None:
    """Both splits."""
    things = shown("coco")
    pixel_map = table("coco_stuff", UNLABELLED).copy()
    for concept in things:
        assert concept.coco is not None
        pixel_map[world_id(concept.name)] = concept.coco[0] - 1  # the pixel maps count categories from 0
    for split, count, offset in (("train", world.coco_train, 1), ("val", world.coco_val, FIRST_VAL)):
        found = []
        for number, scene, rng in scenes("coco", split, count, things, world.coco_style, world):
            noise = world.coco_style.caption_noise
            texts = [caption(scene, things, noise, rng) for _ in range(CAPTIONS_PER_IMAGE)]
            found.append((offset + number, scene, texts))
        write_split(folder, split, found, world.jpeg_quality)
        for image_id, scene, _ in found:
            path = folder / f"stuffthingmaps/{split}2017/{image_id:012d}.png"
            save(path, png(pixel_map[scene.concepts]))
        save_json(folder / f"annotations/instances_{split}2017.json", _instances(found))


def _instances(found: list[tuple[int, Scene, list[str]]]) -> dict[str, Any]:
    annotations = []
    for image_id, scene, _ in found:
        for thing in scene.things:
            if thing.concept.coco is None:
                continue
            mask = np.asfortranarray(scene.objects == thing.number, dtype=np.uint8)
            encoded = coco_mask.encode(mask)
            annotations.append(
                {
                    "segmentation": {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")},
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "image_id": image_id,
                    "bbox": [float(value) for value in coco_mask.toBbox(encoded)],
                    "category_id": thing.concept.coco[0],
                    "id": 20 * image_id + thing.number,
                }
            )
    categories = load_names().coco_categories.items()
    return {
        "info": {"description": "drawn world, not COCO"},
        "licenses": [],
        "images": [image_record(image_id, scene) for image_id, scene, _ in found],
        "annotations": annotations,
        "categories": [
            {"supercategory": group, "id": id_, "name": name} for id_, (name, group) in categories
        ],
    }
