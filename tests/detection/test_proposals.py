"""Proposals, doubles and recall against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from regroup.detection.proposals import box_iou, class_scores, covered, detect, propose, surest


def blobs(seed: int, segments: int = 4) -> np.ndarray:
    """A segment map [23, 31] of patches that touch."""
    coarse = np.random.default_rng(seed).integers(0, segments, (6, 8))
    return np.kron(coarse, np.ones((4, 4), dtype=np.int64))[:23, :31]


def plain_components(segment_map: np.ndarray) -> list[tuple[int, set[tuple[int, int]]]]:
    """Connected parts of equal value, by flood fill."""
    left = {(int(y), int(x)) for y, x in np.ndindex(*segment_map.shape)}
    parts = []
    while left:
        start = min(left)
        value, part, edge = segment_map[start], set(), [start]
        while edge:
            y, x = edge.pop()
            if (y, x) in left and segment_map[y, x] == value:
                left.discard((y, x))
                part.add((y, x))
                edge += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        parts.append((int(value), part))
    return sorted(parts, key=lambda one: (one[0], min(one[1])))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("class_map", [False, True])
def test_proposals_are_boxes_of_connected_parts(seed: int, class_map: bool) -> None:
    """Boxes, in pixels of an image twice as high and three times as wide, and the mean logits inside."""
    segment_map = blobs(seed)
    logits = np.random.default_rng(seed).normal(size=(4, 3))
    values = np.array([int(np.argmax(row)) for row in logits])[segment_map] if class_map else segment_map
    found = propose(segment_map, logits, (46, 93), class_map=class_map, components=True, min_area=0.02)
    expected = []
    for _, part in sorted(plain_components(values), key=lambda one: -len(one[1])):
        if len(part) < 0.02 * segment_map.size:
            continue
        rows, columns = zip(*part, strict=True)
        box = [3 * min(columns), 2 * min(rows), 3 * max(columns) + 3, 2 * max(rows) + 2]
        mean = [sum(logits[segment_map[pixel], n] for pixel in part) / len(part) for n in range(3)]
        expected.append((box, mean))
    assert len(expected) > 3
    assert found.boxes.tolist() == [box for box, _ in expected]
    np.testing.assert_allclose(found.logits, [mean for _, mean in expected])


def test_parts_together_are_one_proposal_of_a_segment() -> None:
    segment_map = blobs(0)
    found = propose(segment_map, np.eye(4), (23, 31), class_map=False, components=False, min_area=0)
    assert len(found.boxes) == 4
    for logits, box in zip(found.logits, found.boxes, strict=True):
        value = int(logits.argmax())
        [(rows, columns)] = ndimage.find_objects((segment_map == value).astype(int))
        assert box.tolist() == [columns.start, rows.start, columns.stop, rows.stop]
    sizes = [int((segment_map == row.argmax()).sum()) for row in found.logits]
    assert sizes == sorted(sizes, reverse=True)
    assert sorted(found.logits.argmax(axis=1)) == [0, 1, 2, 3]


def test_a_pixel_is_a_box_of_one_pixel_or_none() -> None:
    segment_map = np.zeros((10, 10), dtype=np.int64)
    segment_map[4, 7] = 3
    logits = np.zeros((5, 2))
    found = propose(segment_map, logits, (10, 10), class_map=False, components=True, min_area=0.01)
    assert found.boxes.tolist() == [[0, 0, 10, 10], [7, 4, 8, 5]]
    none = propose(segment_map, logits, (10, 10), class_map=False, components=True, min_area=1)
    assert none.boxes.shape == (0, 4)
    assert none.logits.shape == (0, 2)
    assert not len(surest(none.logits, 5))
    assert not len(detect(none.boxes, none.logits, nms=0.5, most=5).boxes)


def random_boxes(seed: int, count: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    corner, side = draw.integers(0, 20, (count, 2)), draw.integers(0, 12, (count, 2))
    return np.concatenate([corner, corner + side], axis=1).astype(np.float64)


def test_iou_is_pycocotools_own() -> None:
    one, other = random_boxes(0, 9), random_boxes(1, 7) + 0.25
    one = one[(one[:, 2:] > one[:, :2]).all(axis=1)]  # it divides by nothing where boxes are empty
    theirs = coco_mask.iou(
        np.hstack([one[:, :2], one[:, 2:] - one[:, :2]]),
        np.hstack([other[:, :2], other[:, 2:] - other[:, :2]]),
        [0] * len(other),
    )
    np.testing.assert_allclose(box_iou(one, other), theirs, atol=1e-12)
    empty = np.array([[3.0, 3, 3, 3]])
    assert box_iou(empty, empty).tolist() == [[0]]


@pytest.mark.parametrize("seed", range(4))
def test_doubles_of_a_class_go_and_the_surest_stay(seed: int) -> None:
    """Class by class, box by box."""
    boxes = random_boxes(seed, 12)
    boxes[5] = boxes[2]
    scores = np.random.default_rng(seed).random((12, 3)).round(1)  # with ties
    found = detect(boxes, scores, nms=0.3, most=15)
    kept = []
    for name in range(3):
        mine: list[int] = []
        for box in sorted(range(12), key=lambda k: (-scores[k, name], k)):
            if all(float(box_iou(boxes[[box]], boxes[[other]])[0, 0]) <= 0.3 for other in mine):
                mine.append(box)
        kept += [(-scores[box, name], box, name) for box in mine]
    expected = sorted(kept)[:15]
    assert found.scores.tolist() == [-score for score, *_ in expected]
    assert found.classes.tolist() == [name for *_, name in expected]
    assert np.array_equal(found.boxes, boxes[[box for _, box, _ in expected]])
    assert len(detect(boxes, scores, nms=None, most=1000).scores) == 36


@pytest.mark.parametrize("seed", range(4))
def test_recall_is_that_of_a_loop(seed: int) -> None:
    truth, proposals = random_boxes(seed, 20), random_boxes(seed + 50, 40)
    hit = []
    for left, top, right, bottom in truth:
        best = 0.0
        for a, b, c, d in proposals:
            shared = max(0.0, min(right, c) - max(left, a)) * max(0.0, min(bottom, d) - max(top, b))
            union = (right - left) * (bottom - top) + (c - a) * (d - b) - shared
            best = max(best, shared / union if union else 0.0)
        hit.append(best >= 0.5)
    assert 0 < sum(hit) < 20
    assert covered(truth, proposals).tolist() == hit
    assert covered(truth, proposals[:0]).tolist() == [False] * 20
    assert covered(truth[:0], proposals).tolist() == []


def test_scores_are_the_softmax_or_the_cosine() -> None:
    logits = np.array([[1000.0, 999], [3, -3]])
    soft = class_scores(logits, "softmax", 10)
    np.testing.assert_allclose(soft[0], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))])
    np.testing.assert_allclose(soft.sum(axis=1), 1)
    assert class_scores(logits, "cosine", 1000)[0].tolist() == [1, 0.999]
