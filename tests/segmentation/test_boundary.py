"""Boundary IoU, against the published definition class by class in float64, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from regroup.segmentation.boundary import BoundaryCounter, contour_distance

IGNORED = 255


def inner(mask: np.ndarray, distance: int) -> np.ndarray:
    """What the published code takes from a binary mask: it less its erosion, step by step, edges included."""
    kept = binary_erosion(mask, np.ones((3, 3)), iterations=distance, border_value=0)
    return mask & ~kept


def reference(
    pairs: list[tuple[np.ndarray, np.ndarray]], classes: int, share: float
) -> tuple[list[int], list[int]]:
    intersection, union = [0] * classes, [0] * classes
    for predicted, true in pairs:
        distance = max(1, round(share * math.hypot(*true.shape)))
        scored = true != IGNORED
        for number in range(classes):
            one = inner((true == number) & scored, distance)
            other = inner((predicted == number) & scored, distance)
            intersection[number] += int((one & other).sum())
            union[number] += int((one | other).sum())
    return intersection, union


def counted(
    pairs: list[tuple[np.ndarray, np.ndarray]], classes: int, share: float, ignored: int = IGNORED
) -> BoundaryCounter:
    counter = BoundaryCounter(classes, share)
    for predicted, true in pairs:
        counter.add(predicted.astype(np.int16), true.astype(np.int32), ignored)
    return counter


def blobs(rng: np.random.Generator, shape: tuple[int, int], values: list[int]) -> np.ndarray:
    rows, columns = (np.arange(length) * 5 // length for length in shape)
    return rng.choice(values, (5, 5))[rows[:, None], columns]


@pytest.mark.parametrize("share", [0.001, 0.02, 0.07, 0.5])
def test_it_is_the_published_definition(share: float) -> None:
    rng = np.random.default_rng(3)
    shapes = ((40, 57), (31, 31), (7, 90), (1, 1), (1, 12))
    pairs = [(blobs(rng, shape, [0, 1, 2, 3]), blobs(rng, shape, [0, 1, 2, 3, IGNORED])) for shape in shapes]
    noise = rng.integers(0, 5, (2, 20, 20))
    pairs += [(noise[0], noise[1]), (pairs[0][1] % 5, pairs[0][1])]
    counter = counted(pairs, 6, share)
    assert (counter.intersection.tolist(), counter.union.tolist()) == reference(pairs, 6, share)
    assert counter.union[5] == 0, "a class that nobody shows has none"


def test_a_square_that_is_off_by_two_pixels() -> None:
    true, predicted = np.zeros((2, 100, 100), dtype=int)
    true[20:60, 20:60] = 1
    predicted[20:60, 22:62] = 1
    share = 3 / math.hypot(100, 100)
    counter = counted([(predicted, true)], 2, share)
    ring = 40**2 - 34**2
    # 38 columns of the upper and lower bars are shared, and one column of 34 rows of each upright
    shared = 2 * 3 * 38 + 2 * 1 * 34
    assert counter.intersection[1] == shared
    assert counter.union[1] == 2 * ring - shared
    assert counter.intersection[1] / counter.union[1] == 0.5, "where mask IoU is 38 / 42"


def test_what_is_right_is_100_and_a_distance_beyond_the_image_is_mask_iou() -> None:
    rng = np.random.default_rng(0)
    true, predicted = blobs(rng, (30, 30), [0, 1]), blobs(rng, (30, 30), [0, 1])
    right = counted([(true, true)], 2, 0.02)
    assert np.array_equal(right.intersection, right.union)
    wide = counted([(predicted, true)], 2, 0.5)  # 21 pixels from an edge that is at most 15 away
    for number in (0, 1):
        one, other = true == number, predicted == number
        assert wide.intersection[number] == (one & other).sum()
        assert wide.union[number] == (one | other).sum()


def test_nothing_scored_counts_nothing_and_16_bits_are_classes() -> None:
    nothing = np.full((9, 9), IGNORED)
    assert not counted([(np.zeros_like(nothing), nothing)], 3, 0.02).union.any()
    many = np.full((9, 9), 255)
    counter = counted([(many, many)], 847, 0.02, 65_535)
    assert counter.union[255] == 9**2 - 7**2


def test_the_distance_is_a_share_of_the_diagonal() -> None:
    assert contour_distance(480, 640, 0.02) == 16
    assert contour_distance(10, 10, 0.001) == 1
