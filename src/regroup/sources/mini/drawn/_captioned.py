"""What COCO and the web corpus have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regroup.sources.mini.files import jpeg, save, save_json
from regroup.sources.mini.scenes import Scene


def write_split(folder: Path, split: str, found: list[tuple[int, Scene, list[str]]], quality: int) -> None:
    """COCO's captions json and images of one split."""
    save_json(
        folder / f"annotations/captions_{split}2017.json",
        {
            "info": {"description": "drawn world, not COCO"},
            "licenses": [],
            "images": [image_record(image_id, scene) for image_id, scene, _ in found],
            "annotations": [
                {"image_id": image_id, "id": 10 * image_id + turn, "caption": text}
                for image_id, _, texts in found
                for turn, text in enumerate(texts)
            ],
        },
    )
    for image_id, scene, _ in found:
        save(folder / f"{split}2017/{image_id:012d}.jpg", jpeg(scene.image, quality))


def image_record(image_id: int, scene: Scene) -> dict[str, Any]:
    """An entry of COCO's `images`."""
    width, height = scene.image.size
    return {"id": image_id, "file_name": f"{image_id:012d}.jpg", "width": width, "height": height}
