"""ADE20K as the scene parsing benchmark has it."""

from __future__ import annotations

from pathlib import Path

from regroup.sources.mini.files import jpeg, png, save, scenes, shown, table
from regroup.sources.settings import WorldParams


def write(folder: Path, world: WorldParams) -> None:
    """Both splits."""
    root, things = folder / "ADEChallengeData2016", shown("ade")
    for split, count, long in (("train", world.ade_train, "training"), ("val", world.ade_val, "validation")):
        for number, scene, _ in scenes("ade", split, count, things, world.ade_style, world):
            stem = f"ADE_{split}_{number + 1:08d}"
            save(root / f"images/{long}/{stem}.jpg", jpeg(scene.image, world.jpeg_quality))
            save(root / f"annotations/{long}/{stem}.png", png(table("ade", 0)[scene.concepts]))
