"""Proposals: boxes of a model's own segments, and what each says of the classes.

Nothing learns where objects end: a box is that of a segment (eq. 35), or of a connected part of one. A model
without groups has a segment a patch; there the patches of one best class are taken together (`class_map`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import ndimage

Boxes = Float[NDArray[np.float64], "p 4"]
"""Left, top, right, bottom; a pixel's right and lower edge are one beyond its left and upper one."""


class Proposals(NamedTuple):
    """Boxes of one image and the logits of all classes for each.

    Attributes:
        boxes: in pixels of the image.
        logits: scaled cosines (eq. 30), the mean over the pixels of the proposal.
    """

    boxes: Boxes
    logits: Float[NDArray[np.float64], "p n"]


class Detections(NamedTuple):
    """What is found in one image, the surest first."""

    boxes: Boxes
    classes: Int[NDArray[np.int64], " p"]
    scores: Float[NDArray[np.float64], " p"]


def propose(
    segment_map: Int[NDArray[np.integer], "h w"],
    logits: Float[NDArray[np.float64], "g n"],
    size: tuple[int, int],
    *,
    class_map: bool,
    components: bool,
    min_area: float,
) -> Proposals:
    """Proposals of one image, the largest first: parts of one segment have equal scores, and ties keep order.

    Args:
        segment_map: the segment of each pixel of the scaled image.
        logits: of segments and classes.
        size: (H, W) of the image itself, in whose pixels boxes are given.
        class_map: take segments of the same best class together.
        components: a proposal for each connected part (neighbours share an edge), not one for all parts.
        min_area: least share of the image's pixels in a proposal.
    """
    height, width = segment_map.shape
    grouped = logits.argmax(axis=1)[segment_map] if class_map else segment_map
    boxes, means, pixels = [], [], []
    for value, around in enumerate(ndimage.find_objects(grouped + 1)):
        if around is None:
            continue
        mask, segments = grouped[around] == value, segment_map[around]
        parts = ndimage.label(mask)[0] if components else mask.astype(np.int32)
        areas = np.bincount(parts.ravel())
        for number, (rows, columns) in enumerate(ndimage.find_objects(parts), start=1):
            if areas[number] < min_area * height * width:
                continue
            left, top = around[1].start, around[0].start
            boxes.append((left + columns.start, top + rows.start, left + columns.stop, top + rows.stop))
            pixels.append(areas[number])
            inside = segments[rows, columns][parts[rows, columns] == number]
            means.append(np.bincount(inside, minlength=len(logits)) @ logits / areas[number])
    scale = (size[1] / width, size[0] / height) * 2
    order = np.argsort(-np.array(pixels, dtype=np.int64), kind="stable")
    return Proposals(
        np.array(boxes, dtype=np.float64).reshape(-1, 4)[order] * scale,
        np.array(means, dtype=np.float64).reshape(-1, logits.shape[1])[order],
    )


def class_scores(
    logits: Float[NDArray[np.float64], "p n"], kind: str, scale: float
) -> Float[NDArray[np.float64], "p n"]:
    """Scores of proposals: the softmax over all classes, or the cosine itself, from logits of this scale."""
    if kind == "cosine":
        return logits / scale
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float64)


def surest(scores: Float[NDArray[np.float64], "p n"], most: int) -> Int[NDArray[np.int64], " q"]:
    """The `most` proposals of the highest best score, that first; the earlier of equals."""
    order: NDArray[np.int64] = np.argsort(-scores.max(axis=1, initial=-np.inf), kind="stable")[:most]
    return order


def detect(
    boxes: Boxes, scores: Float[NDArray[np.float64], "p n"], *, nms: float | None, most: int
) -> Detections:
    """Every proposal as every class, less the doubles of a class, and of these the `most` surest.

    Args:
        boxes: of proposals.
        scores: of proposals and classes.
        nms: a box of a class goes if a surer one of it has a larger IoU than this; None: none goes.
        most: detections of the image, over all classes.
    """
    kept = np.ones(scores.shape, dtype=bool) if nms is None else _without_doubles(boxes, scores, nms)
    proposals, classes = kept.nonzero()
    order = np.argsort(-scores[proposals, classes], kind="stable")[:most]
    proposals, classes = proposals[order], classes[order]
    return Detections(boxes[proposals], classes.astype(np.int64), scores[proposals, classes])


def _without_doubles(
    boxes: Boxes, scores: Float[NDArray[np.float64], "p n"], nms: float
) -> NDArray[np.bool_]:
    """Greedy non-maximum suppression of all classes at once: which of [proposals, classes] stay."""
    close = box_iou(boxes, boxes) > nms
    order = np.argsort(-scores, axis=0, kind="stable")
    rank = np.argsort(order, axis=0)
    kept = np.ones(scores.shape, dtype=bool)
    each = np.arange(scores.shape[1])
    for place, at in enumerate(order):  # the proposal at this place, for each class
        kept &= ~(close[:, at] & (rank > place) & kept[at, each])
    return kept


def box_iou(one: Boxes, other: Float[NDArray[np.float64], "q 4"]) -> Float[NDArray[np.float64], "p q"]:
    """Intersection over union of every pair of boxes; 0 for two of no area."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1] - shared
    iou: NDArray[np.float64] = np.zeros(shared.shape)
    np.divide(shared, union, out=iou, where=union > 0)
    return iou


def covered(
    truth: Float[NDArray[np.float64], "m 4"], proposals: Boxes, iou: float = 0.5
) -> NDArray[np.bool_]:
    """For each object, whether a proposal of whatever class has at least this IoU with it."""
    found: NDArray[np.bool_] = box_iou(truth, proposals).max(axis=1, initial=0) >= iou
    return found
