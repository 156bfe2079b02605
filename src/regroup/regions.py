"""Segmentations of COCO's annotations, polygons or run lengths: checked, then drawn.

pycocotools is written in C and believes what it is given: a polygon with a coordinate that is not finite, or
far outside, makes it run for hours or crash. So it is handed only polygons that have passed `find_faults`,
and run lengths are drawn here.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from regroup.errors import RegroupError

Region = NDArray[np.bool_]
Item = tuple[Any, int, int]
"""A segmentation as it stands in the file, and its picture's height and width."""

_CHUNK = 2_000_000
"""Numbers of polygons that are checked at once."""


def find_faults(items: Iterable[Item]) -> dict[int, str]:
    """Why segmentations cannot be drawn, by their place among `items`; {} if all can.

    A polygon is a list of x and y in turn, of three points at least, all finite and no farther from the
    picture than its own width or height; the outlines of a segmentation are no longer than its picture has
    pixels (and twice around it). Run lengths have the picture's size, and sum up to its pixels. Polygons are
    checked together, which is what makes it fast.
    """
    faults: dict[int, str] = {}
    batch = _Polygons()
    for place, (segmentation, height, width) in enumerate(items):
        if isinstance(segmentation, list):
            if (problem := batch.add(place, segmentation, height, width)) is not None:
                faults[place] = problem
            if len(batch.numbers) > _CHUNK:
                faults |= batch.faults()
                batch = _Polygons()
        else:
            try:
                _run_lengths(segmentation, height, width)
            except _RegionError as error:
                faults[place] = str(error)
    return faults | batch.faults()


def draw(segmentation: Any, height: int, width: int) -> Region:
    """The pixels [height, width] of a segmentation.

    Raises:
        RegroupError: it cannot be drawn; says why, but not whose it is.
    """
    if isinstance(segmentation, list):
        if problem := find_faults([(segmentation, height, width)]):
            raise RegroupError(problem[0])
        runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        return np.asarray(coco_mask.decode(runs), dtype=bool)
    counts = _run_lengths(segmentation, height, width)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


class _RegionError(RegroupError):
    pass


class _Polygons:
    """Polygons of many segmentations, end to end."""

    def __init__(self) -> None:
        self.numbers = array("d")
        self._lengths = array("q")
        self._places = array("q")
        self._sides = array("q")  # height and width of each polygon's picture

    def add(self, place: int, polygons: Sequence[Any], height: int, width: int) -> str | None:
        """Take in a segmentation, unless it is no list of lists of numbers: then say so."""
        start = len(self.numbers)
        lengths = []
        try:
            for polygon in polygons:
                self.numbers.fromlist(polygon)  # it takes numbers alone, and checks in the loop that copies
                lengths.append(len(polygon))
        except (TypeError, OverflowError):
            del self.numbers[start:]
            return "a polygon is a list of numbers (x1, y1, x2, y2, ...)"
        wrong = next((length for length in lengths if length < 6 or length % 2), None)
        if wrong is not None or not lengths:
            del self.numbers[start:]
            if wrong is None:
                return "it has no polygon"
            return f"a polygon of {wrong} numbers is not x and y of three points or more"
        self._lengths.extend(lengths)
        self._places.extend([place] * len(lengths))
        self._sides.extend((height, width) * len(lengths))
        return None

    def faults(self) -> dict[int, str]:
        """Reasons by place."""
        if not self._lengths:
            return {}
        points = np.frombuffer(self.numbers).reshape(-1, 2)
        lengths = np.frombuffer(self._lengths, dtype=np.int64) // 2
        places = np.frombuffer(self._places, dtype=np.int64)
        sides = np.frombuffer(self._sides, dtype=np.int64).reshape(-1, 2).astype(np.float64)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        reach = np.repeat(sides[:, ::-1], lengths, axis=0)
        # NaN is on no side of anything
        near = (points >= -reach) & (points <= 2 * reach)
        outside = ~np.logical_and.reduceat(near.all(axis=1), starts)
        reason = "a coordinate is not finite or far outside the picture"
        faults = dict.fromkeys(places[outside].tolist(), reason)
        following = np.arange(len(points)) + 1
        following[starts + lengths - 1] = starts
        with np.errstate(all="ignore"):  # of those that are outside, and so are faults already
            steps = np.abs(points[following] - points).max(axis=1)
            outlines = np.bincount(places - places[0], weights=np.add.reduceat(steps, starts))
        first = np.unique(places, return_index=True)[1]
        limit = sides[first].prod(axis=1) + 4 * sides[first].sum(axis=1)
        for place in places[first][~(outlines[places[first] - places[0]] <= limit)]:
            faults.setdefault(int(place), "its outline is longer than its picture has pixels")
        return faults


def _run_lengths(segmentation: Any, height: int, width: int) -> NDArray[np.int64]:
    """Lengths of the runs outside and inside in turn, down the columns; the picture's pixels in all."""
    if not isinstance(segmentation, Mapping):
        what = "is missing" if segmentation is None else f"is a {type(segmentation).__name__}"
        raise _RegionError(f"it {what}, not polygons or run lengths")
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        raise _RegionError(f"its size is {str(size)[:40]}, not {width} x {height} pixels")
    if isinstance(counts, list):
        runs = _whole_numbers(counts)
    elif isinstance(counts, str | bytes):
        runs = _decompress(counts)
    else:
        raise _RegionError("it has no run lengths (counts)")
    # each first: a sum of huge ones may wrap round
    whole = runs.min(initial=0) >= 0 and runs.max(initial=0) <= height * width
    if not whole or int(runs.sum()) != height * width:
        raise _RegionError(f"its run lengths do not sum up to {width} x {height} pixels")
    return runs


def _whole_numbers(counts: list[Any]) -> NDArray[np.int64]:
    try:
        numbers = np.array(counts or [0])
    except ValueError:  # lists in it
        numbers = np.empty((0, 0))
    if numbers.dtype.kind != "i" or numbers.ndim != 1:
        raise _RegionError("its run lengths are not whole numbers of pixels")
    return numbers.astype(np.int64)


def _decompress(text: str | bytes) -> NDArray[np.int64]:
    """Run lengths from COCO's text: 5 bits a character, low ones first; from the fourth on, differences.

    The rule is `rleFrString` of https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c.
    """
    content = text.encode("ascii", "replace") if isinstance(text, str) else text
    codes = np.frombuffer(content, dtype=np.uint8).astype(np.int64) - 48
    if not len(codes):
        return codes
    last = (codes & 0x20) == 0
    if codes.min() < 0 or codes.max() > 63 or not last[-1]:
        raise _RegionError("its run lengths are damaged")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:  # 35 bits: no picture is so large
        raise _RegionError("its run lengths are damaged")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 0x1F) << shifts, starts)
    values -= np.where(codes[ends] & 0x10, 1 << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
