"""Pictures by class, in ImageNet's layout: one object a picture, a folder for each thing that is drawn."""

from __future__ import annotations

from pathlib import Path

from regroup.sources.mini.files import jpeg, save, scenes
from regroup.sources.mini.names import load_names
from regroup.sources.settings import WorldParams


def write(folder: Path, world: WorldParams) -> None:
    """Both splits; a class's pictures do not depend on which others there are."""
    for split, count in (("train", world.classes_train), ("val", world.classes_val)):
        for thing in load_names().things:
            stream = f"classes/{thing.name}"
            for number, scene, _ in scenes(stream, split, count, (thing,), world.classes_style, world):
                path = folder / split / thing.name.replace(" ", "_") / f"{number:05d}.jpg"
                save(path, jpeg(scene.image, world.jpeg_quality))
