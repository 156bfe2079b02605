from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regroup.model import GroupViT, GroupViTConfig
from tests.telling import small_telling_model, telling_model

SIZES = ((60, 90), (91, 61), (75, 75), (33, 120), (40, 40))
"""(height, width): landscape, portrait, square, wide, smaller than a window."""


@pytest.fixture(scope="session")
def model() -> GroupViT:
    """A small GroupViT whose random segments differ enough to give every threshold something to do."""
    return small_telling_model(image_size=64, groups=(16, 8))


@pytest.fixture(scope="session")
def full_size() -> GroupViT:
    """The real architecture with random weights, likewise."""
    return telling_model(GroupViTConfig(), logit_scale=4.0)


def random_image(height: int, width: int, seed: int) -> np.ndarray:
    """Blobs of colour [H, W, 3], so that neighbouring pixels are alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def random_mask(height: int, width: int, ids: np.ndarray, seed: int) -> np.ndarray:
    """Blobs of ids [H, W]."""
    coarse = np.random.default_rng(seed).choice(ids, (4, 5)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    """An image of every size."""
    return [random_image(*size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A VOC archive with an image of every size; masks hold any id, 255 included."""
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    ids = np.array([*range(21), 255])
    stems = []
    for number, (height, width) in enumerate(SIZES):
        stems.append(f"2007_{number:06d}")
        image = Image.fromarray(random_image(height, width, number))
        image.save(base / "JPEGImages" / f"{stems[-1]}.jpg", quality=95)
        mask = Image.fromarray(random_mask(height, width, ids, number)).convert("P")
        mask.save(base / "SegmentationClass" / f"{stems[-1]}.png")
    (base / "ImageSets/Segmentation/val.txt").write_text("\n".join(stems) + "\n")
    return tmp_path
