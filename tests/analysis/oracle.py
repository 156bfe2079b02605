"""An independent computation of section 5.4 in float64, with loops, for tests."""

from __future__ import annotations

import numpy as np


def bilinear(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarge [rows, columns] with half-pixel centres, as every image library does."""

    def weights(size: int, cells: int) -> np.ndarray:
        matrix = np.zeros((size, cells))
        for i in range(size):
            x = max((i + 0.5) * cells / size - 0.5, 0)
            low = min(int(x), cells - 1)
            high = min(low + 1, cells - 1)
            matrix[i, low] += 1 - (x - low)
            matrix[i, high] += x - low
        return matrix

    return weights(height, grid.shape[0]) @ grid @ weights(width, grid.shape[1]).T


def shares(groups: np.ndarray, mask: np.ndarray, segments: int, classes: int) -> np.ndarray:
    """Soft labels, pixel by pixel."""
    table = np.zeros((segments, classes))
    for group, label in zip(groups.ravel(), mask.ravel(), strict=True):
        if label != 255:
            table[group, label] += 1
    for row in table:
        if row.sum():
            row /= row.sum()
    return table


def neighbours_vote(bank: np.ndarray, labels: np.ndarray, query: np.ndarray, k: int) -> int:
    """Eq. 50 and 51 for one feature."""
    order = sorted(range(len(bank)), key=lambda i: (float(((bank[i] - query) ** 2).sum()), i))
    mean = np.mean([labels[i] for i in order[:k]], axis=0)
    return int(np.argmax(np.round(mean, 12)))


def mean_iou(predicted: list[np.ndarray], masks: list[np.ndarray], classes: int) -> float:
    """Percent over the classes that are shown or predicted on scored pixels."""
    values = []
    for label in range(classes):
        both = either = 0
        for found, mask in zip(predicted, masks, strict=True):
            scored = mask != 255
            a, b = (found == label) & scored, (mask == label) & scored
            both, either = both + (a & b).sum(), either + (a | b).sum()
        if either:
            values.append(100 * both / either)
    return float(np.mean(values))
