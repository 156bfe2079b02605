"""Values of masks: which there are, and what is said of those that cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from regroup.errors import RegroupError
from regroup.pictures import Ids, read_mask
from regroup.segmentation.layouts import Sample
from regroup.segmentation.layouts._pairs import some_of

if TYPE_CHECKING:
    from regroup.segmentation.protocols import Protocol

_LINE = 15
"""Pixels; what is thinner can be an outline, or that of a small object from both sides."""


def values(mask: Ids) -> list[int]:
    """The values of a mask, ascending."""
    return [int(i) for i in np.flatnonzero(np.bincount(mask.ravel()))]


def few(ids: Sequence[object]) -> str:
    """The first of many, and how many more there are."""
    return str(list(ids)) if len(ids) <= 8 else f"{[*ids[:8]]} and {len(ids) - 8} more"


def binary_words(name: str, expected: str) -> str:
    """What to say of masks that hold nothing but 0 and 255."""
    return (
        f"it holds 0 and 255 alone, like a mask of black and white; protocol {name} expects "
        f"{expected}: write the class ids into the masks, or leave out what is not to be scored"
    )


def refuse_binary(samples: Sequence[Sample], protocol: Protocol, expected: str, *, least: int = 1) -> None:
    """Look into a few masks for values that are no class ids.

    Args:
        samples: all there are.
        protocol: of the dataset.
        expected: the values that its masks may have, in words.
        least: of how many masks something can be said.

    Raises:
        RegroupError: all of them hold 0 and 255 alone.
    """
    some: list[Path] = []
    seen: set[int] = set()
    for path in some_of(samples):
        with suppress(RegroupError):  # it may not be among those that are scored
            seen.update(values(read_mask(path)))
            some.append(path)
    if len(some) >= least and seen == {0, 255}:
        words = binary_words(protocol.name, expected)
        raise RegroupError(f"{some[0]} (and {len(some) - 1} others looked at): {words}")


def is_filled(region: NDArray[np.bool_]) -> bool:
    """Whether a region is more than lines: VOC's objects have an outline of 255, some 5 pixels wide."""
    eroded = cv2.erode(region.astype(np.uint8), np.ones((_LINE, _LINE), dtype=np.uint8))
    return bool(np.asarray(eroded).any())
