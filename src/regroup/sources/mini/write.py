"""Write drawn datasets in the real archives' own formats."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from regroup.io import write_text
from regroup.sources.mini.grammar import alt_text, caption
from regroup.sources.mini.names import Concept, Labels, load_names, world_id
from regroup.sources.mini.scenes import Scene, draw_scene
from regroup.sources.settings import SourceName, Style, WorldParams

CAPTIONS_PER_IMAGE = 5  # as COCO has
UNLABELLED = 255

Map = NDArray[np.uint8]


def draw_dataset(name: SourceName, folder: Path, world: WorldParams) -> None:
    """Draw all splits of a dataset into `folder`, laid out as its archive unpacks."""
    writers: dict[SourceName, Callable[[Path, WorldParams], None]] = {
        "coco": _write_coco,
        "web": _write_web,
        "voc12": _write_voc12,
        "context": _write_context,
        "ade": _write_ade,
    }
    writers[name](folder, world)


def scenes(
    name: str, split: str, count: int, things: tuple[Concept, ...], style: Style, world: WorldParams
) -> Iterator[tuple[int, Scene, np.random.Generator]]:
    """The scenes of a split, each from its own seed; every thing comes first about equally often.

    Yields:
        number of the scene from 0, the scene, and its generator for what else belongs to it (captions).
    """
    key = crc32(f"{name}/{split}".encode())
    turns = np.random.default_rng([world.seed, key])
    firsts = [i for _ in range(0, count, len(things)) for i in turns.permutation(len(things))]
    for number in tqdm(range(count), desc=f"draw {name} {split}", unit="image", disable=None, leave=False):
        rng = np.random.default_rng([world.seed, key, number])
        first = things[int(firsts[number])]
        yield number, draw_scene(style, things, first, world.short_side, rng), rng


def _save(path: Path, content: bytes) -> None:
    """Plain write: the whole folder appears at once, so a file in it need not (`make_source`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _save_json(path: Path, value: Any) -> None:
    """Json on one line, as COCO's is."""
    _save(path, json.dumps(value, ensure_ascii=False).encode())


def jpeg(image: Image.Image, quality: int) -> bytes:
    """The image as JPEG; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def png(labels: Map, palette: list[int] | None = None) -> bytes:
    """A label map as PNG: greyscale, or indexed with a palette as VOC's are."""
    image = Image.fromarray(labels)
    if palette is not None:
        image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@cache
def _table(dataset: Labels | None, otherwise: int) -> Map:
    """Look-up from world ids (and `NOTHING`) to a dataset's ids; classes that it lacks become `otherwise`."""
    table = np.full(256, otherwise, dtype=np.uint8)
    for concept in load_names().concepts:
        label = concept.label(dataset) if dataset else (world_id(concept.name), concept.name)
        if label is not None:
            table[world_id(concept.name)] = label[0]
    return table


def _shown(dataset: Labels) -> tuple[Concept, ...]:
    return tuple(concept for concept in load_names().things if concept.label(dataset) is not None)


def _write_split(folder: Path, split: str, found: list[tuple[int, Scene, list[str]]], quality: int) -> None:
    """COCO's captions json and images of one split."""
    _save_json(
        folder / f"annotations/captions_{split}2017.json",
        {
            "info": {"description": "drawn world, not COCO"},
            "licenses": [],
            "images": [_image_record(image_id, scene) for image_id, scene, _ in found],
            "annotations": [
                {"image_id": image_id, "id": 10 * image_id + turn, "caption": text}
                for image_id, _, texts in found
                for turn, text in enumerate(texts)
            ],
        },
    )
    for image_id, scene, _ in found:
        _save(folder / f"{split}2017/{image_id:012d}.jpg", jpeg(scene.image, quality))


def _image_record(image_id: int, scene: Scene) -> dict[str, Any]:
    width, height = scene.image.size
    return {"id": image_id, "file_name": f"{image_id:012d}.jpg", "width": width, "height": height}


def _write_coco(folder: Path, world: WorldParams) -> None:
    things = _shown("coco")
    pixel_map = _table("coco_stuff", UNLABELLED).copy()
    for concept in things:
        assert concept.coco is not None
        pixel_map[world_id(concept.name)] = concept.coco[0] - 1  # the pixel maps count categories from 0
    for split, count, offset in (("train", world.coco_train, 1), ("val", world.coco_val, 500001)):
        found = []
        for number, scene, rng in scenes("coco", split, count, things, world.coco_style, world):
            noise = world.coco_style.caption_noise
            texts = [caption(scene, things, noise, rng) for _ in range(CAPTIONS_PER_IMAGE)]
            found.append((offset + number, scene, texts))
        _write_split(folder, split, found, world.jpeg_quality)
        for image_id, scene, _ in found:
            path = folder / f"stuffthingmaps/{split}2017/{image_id:012d}.png"
            _save(path, png(pixel_map[scene.concepts]))
        _save_json(folder / f"annotations/instances_{split}2017.json", _instances(found))


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
        "images": [_image_record(image_id, scene) for image_id, scene, _ in found],
        "annotations": annotations,
        "categories": [
            {"supercategory": group, "id": id_, "name": name} for id_, (name, group) in categories
        ],
    }


def _write_web(folder: Path, world: WorldParams) -> None:
    """The noisy corpus for pretraining: one caption an image, and maps in the world's own ids."""
    names, style = load_names(), world.web_style
    found = []
    for number, scene, rng in scenes("web", "train", world.web, names.things, style, world):
        found.append((1 + number, scene, [alt_text(scene, names.things, style.caption_noise, rng)]))
        _save(folder / f"stuffthingmaps/train2017/{1 + number:012d}.png", png(scene.concepts))
    _write_split(folder, "train", found, world.jpeg_quality)
    classes = [
        {
            "id": world_id(concept.name),
            "name": concept.name,
            "stuff": concept in names.stuff,
            "names": sorted(
                {label[1] for key in ("coco", "voc", "context", "ade") if (label := concept.label(key))}
            ),
            "nouns": [singular for singular, _ in concept.nouns],
        }
        for concept in names.concepts
    ]
    _save_json(folder / "annotations/classes.json", classes)


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


def _write_voc12(folder: Path, world: WorldParams) -> None:
    root, things, palette = folder / "VOCdevkit/VOC2012", _shown("voc"), voc_palette()
    for split, count, year in (("train", world.voc12_train, 2007), ("val", world.voc12_val, 2008)):
        stems = []
        for number, scene, _ in scenes("voc12", split, count, things, world.voc12_style, world):
            stems.append(f"{year}_{number:06d}")
            _save(root / f"JPEGImages/{stems[-1]}.jpg", jpeg(scene.image, world.jpeg_quality))
            labels = _with_void(_table("voc", 0)[scene.concepts], scene.objects)
            _save(root / f"SegmentationClass/{stems[-1]}.png", png(labels, palette))
        write_text(root / f"ImageSets/Segmentation/{split}.txt", "".join(f"{stem}\n" for stem in stems))


def _write_context(folder: Path, world: WorldParams) -> None:
    root, things = folder / "VOCdevkit/VOC2010", _shown("context")
    for split, count, year in (("train", world.context_train, 2009), ("val", world.context_val, 2010)):
        stems = []
        for number, scene, _ in scenes("context", split, count, things, world.context_style, world):
            stems.append(f"{year}_{number:06d}")
            _save(root / f"JPEGImages/{stems[-1]}.jpg", jpeg(scene.image, world.jpeg_quality))
            labels = _table("context", 0)[scene.concepts]
            _save(root / f"SegmentationClassContext/{stems[-1]}.png", png(labels))
        write_text(
            root / f"ImageSets/SegmentationContext/{split}.txt", "".join(f"{stem}\n" for stem in stems)
        )


def _write_ade(folder: Path, world: WorldParams) -> None:
    root, things = folder / "ADEChallengeData2016", _shown("ade")
    for split, count, long in (("train", world.ade_train, "training"), ("val", world.ade_val, "validation")):
        for number, scene, _ in scenes("ade", split, count, things, world.ade_style, world):
            stem = f"ADE_{split}_{number + 1:08d}"
            _save(root / f"images/{long}/{stem}.jpg", jpeg(scene.image, world.jpeg_quality))
            _save(root / f"annotations/{long}/{stem}.png", png(_table("ade", 0)[scene.concepts]))
