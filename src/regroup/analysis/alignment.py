"""Visual-text alignment alone: the model labels regions that the ground truth drew (section 5.4.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regroup.segmentation.inference import Decision, EncodedImage, class_planes
from regroup.segmentation.protocols import IGNORED, ClassPrompts


def align(
    image: EncodedImage, labels: ClassPrompts, decision: Decision, mask: NDArray[np.uint8]
) -> NDArray[np.int16]:
    """Label every region of a ground-truth mask as a whole (eq. 52 and 53): class ids [H, W].

    A region is all pixels of one class (255, what is not scored, is one more). Its label is the channel
    whose mean over the region is largest, of L_affinity (eq. 36) at the image's own size, from sliding
    windows, with the background of eq. 37 as a channel of its own where there is one: exactly what inference
    takes the argmax of, pixel by pixel. Of equals the first wins.
    """
    ids, planes = class_planes(image, labels, decision, (mask.shape[0], mask.shape[1]))
    regions = mask.ravel()
    sums = [
        np.bincount(regions, weights=plane.ravel(), minlength=IGNORED + 1) for plane in planes.cpu().numpy()
    ]
    best = np.stack(sums).argmax(axis=0)
    table: NDArray[np.int16] = np.array(ids, dtype=np.int16)[best]
    return table[mask]
