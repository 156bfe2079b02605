"""PASCAL Context: grey masks of 59 classes and background."""

from __future__ import annotations

from pathlib import Path

from regroup.io import write_text
from regroup.sources.mini.files import jpeg, png, save, scenes, shown, table
from regroup.sources.settings import WorldParams


def write(folder: Path, world: WorldParams) -> None:
    """Both splits."""
    root, things = folder / "VOCdevkit/VOC2010", shown("context")
    for split, count, year in (("train", world.context_train, 2009), ("val", world.context_val, 2010)):
        stems = []
        for number, scene, _ in scenes("context", split, count, things, world.context_style, world):
            stems.append(f"{year}_{number:06d}")
            save(root / f"JPEGImages/{stems[-1]}.jpg", jpeg(scene.image, world.jpeg_quality))
            labels = table("context", 0)[scene.concepts]
            save(root / f"SegmentationClassContext/{stems[-1]}.png", png(labels))
        write_text(
            root / f"ImageSets/SegmentationContext/{split}.txt", "".join(f"{stem}\n" for stem in stems)
        )
