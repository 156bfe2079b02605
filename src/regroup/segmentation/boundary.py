"""Boundary IoU: IoU of the pixels near the contours of a class alone.

From Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR 2021. Of what is
predicted and of what is true, only the pixels count that lie near the class's own contour there. Mask IoU
hardly sees the contours of large regions; here an error of a few pixels weighs the same in all of them.

The distance is a share of the image's diagonal, rounded, and at least one pixel, in king's moves, as in the
published code: it erodes each mask that often by a square of 3 x 3 pixels. The image's edge is a contour too,
and so is the edge of what is not scored, for truth and prediction alike. Intersections and unions are summed
over images before they are divided, as for mIoU.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

Counts = NDArray[np.int64]

OUTSIDE = -1
"""Label of pixels that are not scored, and of all beyond the image's edge."""


def contour_distance(height: int, width: int, share: float) -> int:
    """How far from a contour pixels count, in pixels, for a share of the image's diagonal."""
    return max(1, round(share * math.hypot(height, width)))


def near_contours(labels: Int[NDArray[np.int16], "h w"], distance: int) -> Bool[NDArray[np.bool_], "h w"]:
    """Pixels that the mask of their own label loses when it is eroded `distance` times, in one pass for all.

    A pixel is kept by its mask's erosion if the square of 2 x distance + 1 pixels around it has no label but
    its own: where the least and the largest label in it are equal.
    """
    square = np.ones((2 * distance + 1, 2 * distance + 1), dtype=np.uint8)
    edge = {"borderType": cv2.BORDER_CONSTANT, "borderValue": (OUTSIDE,)}
    least = np.asarray(cv2.erode(labels, square, **edge))  # type: ignore[call-overload]
    largest = np.asarray(cv2.dilate(labels, square, **edge))  # type: ignore[call-overload]
    return np.asarray(least != largest)


class BoundaryCounter:
    """Counts the pixels near contours, by class.

    Attributes:
        intersection: pixels of the class in both truth and prediction, near its contour in both.
        union: those of either.
    """

    def __init__(self, classes: int, share: float) -> None:
        """Start at zero; `share` of the diagonal is near."""
        self.share = share
        self.intersection: Counts = np.zeros(classes, dtype=np.int64)
        self.union: Counts = np.zeros(classes, dtype=np.int64)

    def add(
        self,
        predicted: Int[NDArray[np.int16], "h w"],
        mask: Int[NDArray[np.int32], "h w"],
        ignored: int,
    ) -> None:
        """Count one image: predicted class ids against its mask, where `ignored` is not scored."""
        scored = mask != ignored
        true = np.where(scored, mask, OUTSIDE).astype(np.int16)
        found = np.where(scored, predicted, OUTSIDE).astype(np.int16)
        distance = contour_distance(mask.shape[0], mask.shape[1], self.share)
        true_near = scored & near_contours(true, distance)
        found_near = scored & near_contours(found, distance)
        both = self._counts(true[true_near & found_near & (true == found)])
        self.intersection += both
        self.union += self._counts(true[true_near]) + self._counts(found[found_near]) - both

    def _counts(self, labels: NDArray[np.int16]) -> Counts:
        return np.bincount(labels, minlength=len(self.union)).astype(np.int64)
