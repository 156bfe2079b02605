from __future__ import annotations

import numpy as np
import pytest

from .oracle import Array, softmax


class World:
    """A random batch: B images, K label places with padding and repeats, G groups, L patches."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.B, self.K, self.C, self.G, self.L = 5, 3, 7, 4, 6
        self.image: Array = rng.normal(size=(self.B, self.C))
        self.caption: Array = rng.normal(size=(self.B, self.C))
        self.labels: Array = rng.normal(size=(self.B, self.K, self.C))
        self.segments: Array = rng.normal(size=(self.B, self.G, self.C))
        self.attention: Array = softmax(2 * rng.normal(size=(self.B, self.G, self.L)), 1)
        self.dino: Array = rng.normal(size=(self.B, self.L, 9))
        self.tau = 0.4
        # images 0 and 1 share cat, image 1 says dog twice, image 3 has one label, image 4 none
        self.strings: list[list[str | None]] = [
            ["cat", "mat", "dog"],
            ["dog", "cat", "dog"],
            ["tree", "cat", "sky"],
            ["sky", None, None],
            [None, None, None],
        ]
        words = sorted({string for row in self.strings for string in row if string})
        self.ids = np.array([[words.index(s) if s else -1 for s in row] for row in self.strings])
        self.present = self.ids >= 0

    def used(self, padding: str) -> np.ndarray:
        """Places that are targets."""
        return self.present if padding in ("mask", "denominator") else np.ones_like(self.present)

    def counted(self, padding: str) -> np.ndarray:
        """Places that count where there are no targets."""
        return self.present if padding == "mask" else np.ones_like(self.present)

    def compared(self, padding: str) -> np.ndarray | None:
        """Places that images are compared with, where those are not the targets."""
        return np.ones_like(self.present) if padding == "denominator" else None

    def padded(self, padding: str) -> Array:
        """Labels as the losses must see them: zeros at padding where that is asked for."""
        labels = self.labels.copy()
        if padding in ("null", "denominator"):
            labels[~self.present] = 0
        return labels


@pytest.fixture
def world() -> World:
    return World()
