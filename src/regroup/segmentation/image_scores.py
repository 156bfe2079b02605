"""Scores of single images: which ones a model gets wrong, behind the mean over all pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

PER_IMAGE = "images.parquet"
"""The scores of images beside a metrics file."""


@dataclass(frozen=True)
class ImageScore:
    """One image.

    Attributes:
        image: its path below the raw data's root.
        miou: mean IoU in percent over the classes that its mask shows; NaN where nothing is scored. What is
            predicted beyond them lowers the IoU of those that it stands in for.
        accuracy: percent of its scored pixels that are right; NaN likewise.
        pixels: that are scored.
        classes: that its mask shows.
    """

    image: str
    miou: float
    accuracy: float
    pixels: int
    classes: int


def image_score(image: Path, root: Path, confusion: NDArray[np.int64]) -> ImageScore:
    """The scores of an image below `root` by its own counts, [true, predicted]."""
    intersection, true = confusion.diagonal(), confusion.sum(1)
    union = confusion.sum(0) + true - intersection
    shown, pixels = true > 0, int(true.sum())
    return ImageScore(
        image=image.relative_to(root).as_posix(),
        miou=float((100.0 * intersection[shown] / union[shown]).mean()) if pixels else math.nan,
        accuracy=100.0 * int(intersection.sum()) / pixels if pixels else math.nan,
        pixels=pixels,
        classes=int(shown.sum()),
    )


def worst(scores: Sequence[ImageScore], number: int) -> list[int]:
    """Positions of the `number` lowest mIoU, the lowest first.

    Equals stand by pixel accuracy, then in their order. An image on which nothing is scored is never there.
    """
    known = [i for i, one in enumerate(scores) if one.pixels]
    return sorted(known, key=lambda i: (scores[i].miou, scores[i].accuracy, i))[:number]


def to_table(scores: Mapping[str, Sequence[ImageScore]]) -> pa.Table:
    """One row an image, dataset after dataset; scores that do not exist are null."""
    rows = [(dataset, one) for dataset, some in scores.items() for one in some]
    miou, accuracy = (np.array([getattr(one, key) for _, one in rows]) for key in ("miou", "accuracy"))
    return pa.table(
        {
            "dataset": pa.array([dataset for dataset, _ in rows], pa.string()),
            "image": pa.array([one.image for _, one in rows], pa.string()),
            "miou": pa.array(miou, pa.float64(), mask=np.isnan(miou)),
            "accuracy": pa.array(accuracy, pa.float64(), mask=np.isnan(accuracy)),
            "pixels": pa.array([one.pixels for _, one in rows], pa.int64()),
            "classes": pa.array([one.classes for _, one in rows], pa.int32()),
        }
    )
