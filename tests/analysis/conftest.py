from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regroup.model import GroupViT
from tests.telling import small_telling_model


@pytest.fixture(scope="session")
def model() -> GroupViT:
    """A small GroupViT whose segments differ from image to image."""
    return small_telling_model(image_size=32, groups=(12, 6))


def blobs(height: int, width: int, seed: int) -> np.ndarray:
    """An image of few colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A VOC archive with a training split of 12 images and a validation split of 7."""
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 7)):
        stems = [f"{split}_{number:03d}" for number in range(count)]
        for number, stem in enumerate(stems):
            height, width = 30 + 7 * (number % 3), 44 - 5 * (number % 4)
            image = Image.fromarray(blobs(height, width, 100 * (split == "val") + number))
            image.save(base / "JPEGImages" / f"{stem}.jpg", quality=95)
            coarse = rng.choice([0, 0, 3, 8, 15, 255], (3, 4)).astype(np.uint8)
            mask = Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)
            mask.convert("P").save(base / "SegmentationClass" / f"{stem}.png")
        (base / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(stems) + "\n")
    return tmp_path
