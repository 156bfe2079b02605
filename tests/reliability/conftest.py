"""A small VOC archive with both splits, and a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regroup.model import GroupViT
from tests.segmentation.conftest import random_image, random_mask
from tests.telling import small_telling_model

SIZES = {"train": ((48, 60), (50, 40), (44, 44)), "val": ((45, 70), (61, 43), (40, 40), (33, 50))}


@pytest.fixture(scope="session")
def model() -> GroupViT:
    return small_telling_model(image_size=64, groups=(16, 8))


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Images whose masks hold background, four classes and what is not scored."""
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    number = 0
    for split, sizes in SIZES.items():
        stems = []
        for height, width in sizes:
            number += 1
            stems.append(f"2007_{number:06d}")
            Image.fromarray(random_image(height, width, number)).save(base / f"JPEGImages/{stems[-1]}.jpg")
            mask = random_mask(height, width, np.array([0, 1, 8, 12, 15, 255]), number)
            Image.fromarray(mask).convert("P").save(base / f"SegmentationClass/{stems[-1]}.png")
        (base / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(stems) + "\n")
    return tmp_path


def overwrite_masks(root: Path, value: int) -> None:
    """Make every pixel of every mask this value."""
    for file in (root / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        with Image.open(file) as image:
            size = image.size
        Image.fromarray(np.full(size[::-1], value, dtype=np.uint8)).convert("P").save(file)
