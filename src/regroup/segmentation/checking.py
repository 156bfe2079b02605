"""Every image and mask of a dataset, looked at once: what is there, and what would stop an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regroup.errors import RegroupError
from regroup.pictures import picture_size
from regroup.segmentation.layouts import LAYOUTS, Sample
from regroup.segmentation.layouts._pairs import PairOptions, spare_masks
from regroup.segmentation.protocols import Protocol
from regroup.segmentation.resolved import read_sample_mask

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class DatasetReport:
    """What a dataset holds.

    Attributes:
        classes: the protocol's, in the order of ids.
        images: how many were looked at.
        pixels: of each class, in masks without a fault.
        shown: images that show each class.
        unscored: pixels that are not scored.
        faults: one line each, in the order of the images.
    """

    classes: tuple[str, ...]
    images: int
    pixels: Counts
    shown: Counts
    unscored: int
    faults: tuple[str, ...]

    @property
    def unseen(self) -> tuple[str, ...]:
        """Classes without a pixel."""
        return tuple(name for name, count in zip(self.classes, self.pixels, strict=True) if not count)


def check_dataset(protocol: Protocol, root: Path, split: str, limit: int | None = None) -> DatasetReport:
    """Look at every image and mask of a split, or at the first `limit`.

    Of an image only the header is read. A fault of one does not hide those of the others.

    Raises:
        RegroupError: a folder or list is missing or bad, so that there is nothing to look at.
    """
    layout = LAYOUTS.load(protocol.masks.layout)
    found: list[Sample] = layout.find(protocol, root, split)
    if not found:
        raise RegroupError(f"{protocol.path(root, protocol.images, split)}: no image of split {split}")
    number = len(protocol.classes)
    pixels, shown, unscored = np.zeros(number, np.int64), np.zeros(number, np.int64), 0
    faults = list(_spare(protocol, root, split, found))
    for sample in found[:limit]:
        try:
            counts = np.bincount(_mask_of(sample, protocol).ravel(), minlength=protocol.ignored + 1)
        except RegroupError as error:
            faults.append(str(error))
            continue
        pixels += counts[:number]
        shown += counts[:number] > 0
        unscored += int(counts[protocol.ignored])
    if look := getattr(layout, "look", None):
        try:
            look(found[:limit], protocol)
        except RegroupError as error:
            faults.insert(0, str(error))
    images = len(found[:limit])
    return DatasetReport(protocol.classes, images, pixels, shown, unscored, tuple(dict.fromkeys(faults)))


def _mask_of(sample: Sample, protocol: Protocol) -> NDArray[np.uint8 | np.uint16]:
    for what, path in (("image", sample.image), ("mask", sample.mask)):
        if not path.is_file():
            raise RegroupError(f"{path}: no such {what}")
    width, height = picture_size(sample.image)
    return read_sample_mask(sample, protocol, (height, width))


def _spare(protocol: Protocol, root: Path, split: str, samples: list[Sample]) -> Iterator[str]:
    options = protocol.masks.options
    if not isinstance(options, PairOptions):
        return
    if spare := spare_masks(protocol, options, root, split, samples):
        yield (
            f"{spare[0]}: a mask without an image ({len(spare)} of them): is the image missing, or does it "
            "end otherwise?"
        )
