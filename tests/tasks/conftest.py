"""A small COCO archive, and a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regroup.model import GroupViT
from tests.telling import small_telling_model

CAPTIONS = {
    4: ["A red dog.", "Two  dogs"],
    7: ["a cat", "A red dog."],
    9: ["two dogs", "A blue house", "A tall house"],
    12: ["Nothing much"],
    15: [],
}
"""By image; `two dogs` and `a red dog.` are captions of two images each."""


@pytest.fixture(scope="session")
def model() -> GroupViT:
    return small_telling_model(image_size=32, groups=(16, 8))


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Images of several shapes with captions, in COCO's layout."""
    root = tmp_path / "coco"
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, annotations = [], []
    sizes = ((40, 60), (61, 33), (32, 32), (20, 90), (50, 50))
    for (image, captions), (height, width) in zip(CAPTIONS.items(), sizes, strict=True):
        name = f"{image:012}.png"
        coarse = np.random.default_rng(image).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height)).save(root / "val2017" / name)
        images.append({"id": image, "file_name": name, "width": width, "height": height})
        annotations += [
            {"id": 10 * image + k, "image_id": image, "caption": text} for k, text in enumerate(captions)
        ]
    content = {"images": images, "annotations": annotations}
    (root / "annotations/captions_val2017.json").write_text(json.dumps(content))
    return root


COLOURS = {"blue_box": (40, 60, 220), "cat": (220, 40, 40), "grass": (40, 200, 60), "sun": (240, 220, 60)}
"""By class folder; no two pictures of a class are the same."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures by class that their colour tells apart: six to train on, three to score."""
    root = tmp_path_factory.mktemp("classes")
    for number, (name, colour) in enumerate(COLOURS.items()):
        for split, count in (("train", 6), ("val", 3)):
            (root / split / name).mkdir(parents=True)
            for k in range(count):
                rng = np.random.default_rng([number, split == "val", k])
                pixels = np.array(colour) + rng.integers(-15, 16, (36, 48, 3))
                file = root / split / name / f"{k}.png"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
    return root
