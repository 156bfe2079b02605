"""Average precision of a ranking, and what a random one scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def average_precision(scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Sum over thresholds of the rise of recall times the precision there, as scikit-learn has it.

    Equal scores are one threshold: the order among them does not count.

    Returns:
        Within 0 and 1; 0 where nothing is positive.
    """
    if not positive.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    found = np.cumsum(positive[order])[ends]
    gained = np.diff(found, prepend=0) / found[-1]
    return float(np.sum(gained * found / (ends + 1)))


def chance(positives: int, items: int) -> float:
    """Mean average precision over all orders of `items` of which `positives` are positive.

    It is above the share of positives, and much so where these are few: the first place alone is worth 1.
    With H the sum of 1/k up to `items`: (H + (positives - 1) / (items - 1) * (items - H)) / items.
    """
    if positives == items:
        return 1.0
    harmonic = float(np.sum(1 / np.arange(1, items + 1)))
    return (harmonic + (positives - 1) / (items - 1) * (items - harmonic)) / items
