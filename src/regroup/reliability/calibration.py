"""Whether a class map is as often right as it is sure: expected calibration error.

Confidence of a pixel is `class_confidence`: the share that the predicted class has of all classes' logits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Bin(NamedTuple):
    """Pixels of a confidence above `low` up to `high`; the first bin has 0 too. Means of none are None."""

    low: float
    high: float
    pixels: int
    confidence: float | None
    accuracy: float | None


class Reliability:
    """Counts pixels by confidence, in bins of equal width (Guo et al., ICML 2017, arXiv 1706.04599)."""

    def __init__(self, bins: int) -> None:
        """Start at zero."""
        self.bins = bins
        self._pixels: NDArray[np.int64] = np.zeros(bins, dtype=np.int64)
        self._right: NDArray[np.int64] = np.zeros(bins, dtype=np.int64)
        self._confidence: NDArray[np.float64] = np.zeros(bins)

    def add(self, confidence: Tensor, right: Tensor) -> None:
        """Count pixels: confidences in 0..1, and whether each is right, of any equal shape."""
        sure = confidence.flatten().cpu().numpy().astype(np.float64)
        bins = np.clip(np.ceil(sure * self.bins).astype(np.int64) - 1, 0, None)
        self._pixels += np.bincount(bins, minlength=self.bins)
        self._right += np.bincount(bins[right.flatten().cpu().numpy()], minlength=self.bins)
        self._confidence += np.bincount(bins, weights=sure, minlength=self.bins)

    @property
    def pixels(self) -> int:
        """How many were counted."""
        return int(self._pixels.sum())

    @property
    def ece(self) -> float:
        """Percent: the mean over pixels of |accuracy - confidence| of their bin; at least one was counted."""
        return 100 * float(np.abs(self._right - self._confidence).sum() / self.pixels)

    @property
    def confidence(self) -> float:
        """Percent: the mean confidence."""
        return min(100.0, 100 * float(self._confidence.sum() / self.pixels))

    @property
    def accuracy(self) -> float:
        """Percent of pixels that are right."""
        return 100 * float(self._right.sum() / self.pixels)

    def table(self) -> list[Bin]:
        """The bins, lowest first."""
        counts = zip(self._pixels.tolist(), self._confidence.tolist(), self._right.tolist(), strict=True)
        return [
            Bin(
                number / self.bins,
                (number + 1) / self.bins,
                pixels,
                sure / pixels if pixels else None,
                right / pixels if pixels else None,
            )
            for number, (pixels, sure, right) in enumerate(counts)
        ]
