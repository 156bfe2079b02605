"""The noisy corpus of the drawn world, for pretraining alone."""

from __future__ import annotations

from pathlib import Path

from regroup.sources.mini.drawn._captioned import write_split
from regroup.sources.mini.files import png, save, save_json, scenes
from regroup.sources.mini.grammar import alt_text
from regroup.sources.mini.names import load_names, world_id
from regroup.sources.settings import WorldParams


def write(folder: Path, world: WorldParams) -> None:
    """The noisy corpus for pretraining: one caption an image, and maps in the world's own ids."""
    names, style = load_names(), world.web_style
    found = []
    for number, scene, rng in scenes("web", "train", world.web, names.things, style, world):
        found.append((1 + number, scene, [alt_text(scene, names.things, style.caption_noise, rng)]))
        save(folder / f"stuffthingmaps/train2017/{1 + number:012d}.png", png(scene.concepts))
    write_split(folder, "train", found, world.jpeg_quality)
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
    save_json(folder / "annotations/classes.json", classes)
