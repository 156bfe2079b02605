"""COCO-Object from the pixel maps of COCO-Stuff: class ids 0 (background) and 1..80."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from regroup.errors import RegroupError
from regroup.pictures import Ids, read_mask
from regroup.segmentation.layouts import Sample
from regroup.segmentation.layouts._pairs import SAMPLE, PairOptions, pairs
from regroup.segmentation.layouts._values import refuse_binary, values
from regroup.segmentation.layouts.instances import CATEGORY_IDS

if TYPE_CHECKING:
    from regroup.segmentation.protocols import Protocol

LAST_THING = 90
"""Largest raw id of a thing in the COCO-Stuff pixel maps; raw ids are category ids less 1."""

EXPECTED = "ids 0 to 181, and 255 where nothing has a label"


class Options(PairOptions):
    """As for any images with a mask each."""


def find(protocol: Protocol, root: Path, split: str) -> list[Sample]:
    """Images and their maps; errors as `pairs`."""
    options = protocol.masks.options
    assert isinstance(options, Options)
    return pairs(protocol, options, root, split)


def look(samples: Sequence[Sample], protocol: Protocol) -> None:
    """Look into a few of the maps.

    Raises:
        RegroupError: all of them hold 0 and 255 alone.
    """
    # a single map may be of a person (0) and what has no label (255)
    refuse_binary(samples, protocol, EXPECTED, least=SAMPLE // 2)


def read(sample: Sample, protocol: Protocol, height: int, width: int) -> Ids:
    """The mask of one image; errors as `from_stuffthingmap`."""
    return from_stuffthingmap(read_mask(sample.mask), sample.mask)


def stuffthingmap_table() -> NDArray[np.int16]:
    """Lookup [256] from COCO-Stuff's raw ids to COCO-Object's; -1 for thing ids that COCO 2017 does not use.

    Things become 1..80 in order; stuff (91 and above) and unlabelled pixels (255) become background.
    """
    table = np.zeros(256, dtype=np.int16)
    table[: LAST_THING + 1] = -1
    for number, category in enumerate(CATEGORY_IDS, start=1):
        table[category - 1] = number
    return table


def from_stuffthingmap(raw: Ids, path: Path) -> NDArray[np.uint8]:
    """Mask [H, W] of a COCO-Stuff pixel map [H, W].

    Raises:
        RegroupError: the map has a thing id that is none of COCO's 80 categories, or an id above 255.
    """
    if raw.max(initial=0) > 255:
        raise RegroupError(f"{path}: ids up to {raw.max()}; a pixel map of COCO-Stuff has 0 to 255")
    mapped = stuffthingmap_table()[raw]
    if mapped.min(initial=0) < 0:
        unused = values(raw[mapped < 0])
        raise RegroupError(f"{path}: ids {unused} are none of COCO's 80 categories (id = category id - 1)")
    return mapped.astype(np.uint8)
