"""Segments labelled by their nearest neighbours among segments of known class (section 5.4.1, eq. 50, 51)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from regroup.errors import RegroupError
from regroup.segmentation.protocols import IGNORED

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def soft_labels(groups: NDArray[np.uint8], mask: NDArray[np.uint8], segments: int, classes: int) -> Floats:
    """The share of each class in each segment's area: [segments, classes], rows summing to one.

    Pixels that are not scored count nowhere; the row of a segment without a scored pixel is zero.

    Args:
        groups: [H, W], the segment of each pixel.
        mask: [H, W], class ids below `classes`, or 255.
        segments: how many there are.
        classes: how many there are.
    """
    scored = mask != IGNORED
    cells = groups[scored].astype(np.int64) * classes + mask[scored]
    pixels = np.bincount(cells, minlength=segments * classes).reshape(segments, classes)
    total = pixels.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(pixels, total, out=np.zeros(pixels.shape), where=total > 0)
    return shares


@dataclass(frozen=True, eq=False)
class Bank:
    """Segments of known class.

    Attributes:
        features: float64 [F, width].
        labels: float64 [F, classes], rows summing to one.
    """

    features: Floats
    labels: Floats


class BankBuilder:
    """Collects segments, at most so many of each class: the first ones met."""

    def __init__(self, per_class: int) -> None:
        """Start empty; `per_class` segments of a class are kept."""
        self._per_class = per_class
        self._features: list[Floats] = []
        self._labels: list[Floats] = []
        self._count: Counter[int] = Counter()

    def add(self, features: Floats, labels: Floats) -> None:
        """Add the segments of an image: features [G, width] and soft labels [G, classes].

        A segment's class is that of its largest share (the first of equals). One without a scored pixel is
        left out.
        """
        for feature, shares in zip(features, labels, strict=True):
            label = int(shares.argmax())
            if shares.any() and self._count[label] < self._per_class:
                self._count[label] += 1
                self._features.append(feature)
                self._labels.append(shares)

    def build(self) -> Bank:
        """The bank.

        Raises:
            RegroupError: no segment has a class.
        """
        if not self._features:
            raise RegroupError("dissection: no segment of the training split covers a scored pixel")
        return Bank(np.stack(self._features).astype(np.float64), np.stack(self._labels))


def nearest(bank: Bank, queries: Floats, count: int) -> Integers:
    """Positions in the bank of each query's nearest features, nearest first: [Q, count].

    Euclidean distance; of equally near ones the earlier in the bank comes first. scikit-learn's search is
    exact up to rounding, so it is asked for twice as many, which are measured again by plain subtraction.

    Raises:
        RegroupError: the bank has fewer features than `count`.
    """
    size = len(bank.features)
    if size < count:
        raise RegroupError(
            f"dissection: {count} nearest neighbours of {size} features; use a smaller K, or more training "
            "images"
        )
    search = NearestNeighbors(
        n_neighbors=min(2 * count, size), algorithm="brute", metric="euclidean", n_jobs=1
    )
    found = search.fit(bank.features).kneighbors(queries, return_distance=False)
    found.sort(axis=1)
    result = np.empty((len(queries), count), dtype=np.int64)
    for row, (query, candidates) in enumerate(zip(queries, found, strict=True)):
        distance = ((bank.features[candidates] - query) ** 2).sum(axis=1)
        result[row] = candidates[np.argsort(distance, kind="stable")[:count]]
    return result


def vote(bank: Bank, neighbours: Integers, counts: Sequence[int]) -> dict[int, Integers]:
    """Class ids [Q] by the mean soft label of the K nearest, for each K of `counts` (eq. 50 and 51).

    Of equal classes the first wins.
    """
    running = bank.labels[neighbours].cumsum(axis=1)
    # rounded, or the order of a sum would decide between classes of equal shares
    return {k: (running[:, k - 1] / k).round(12).argmax(axis=1) for k in counts}
