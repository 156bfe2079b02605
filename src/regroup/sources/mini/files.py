"""What the writers of drawn sources share: scenes from their seeds, pictures and maps as files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from regroup.sources.mini.names import Concept, Vocabulary, load_names, world_id
from regroup.sources.mini.scenes import Scene, draw_scene
from regroup.sources.settings import Style, WorldParams

UNLABELLED = 255

Map = NDArray[np.uint8]


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


def save(path: Path, content: bytes) -> None:
    """Plain write: the whole folder appears at once, so a file in it need not (`make_source`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def save_json(path: Path, value: Any) -> None:
    """Json on one line, as COCO's is."""
    save(path, json.dumps(value, ensure_ascii=False).encode())


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
def table(dataset: Vocabulary | None, otherwise: int) -> Map:
    """Look-up from world ids (and `NOTHING`) to a dataset's ids; classes that it lacks become `otherwise`."""
    table = np.full(256, otherwise, dtype=np.uint8)
    for concept in load_names().concepts:
        label = concept.label(dataset) if dataset else (world_id(concept.name), concept.name)
        if label is not None:
            table[world_id(concept.name)] = label[0]
    return table


def shown(dataset: Vocabulary) -> tuple[Concept, ...]:
    """The things that a dataset has a class for."""
    return tuple(concept for concept in load_names().things if concept.label(dataset) is not None)
