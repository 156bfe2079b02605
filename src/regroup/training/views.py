"""Views of images, and what the frozen part of the image tower makes of each, computed once.

A run draws a new view of an image whenever the image comes up, so nothing about it can be kept. Where a
profile limits an image to a few views (`finetune.views`), they recur, and so does the output of everything
before the first trained block: it is kept. Exact, and the same bytes for a resumed run: on a CPU a view is
encoded by itself, so its numbers do not depend on which views came beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from regroup.captions.randomness import UInt64
from regroup.model.encoding import FirstStage
from regroup.model.interface import Backbone
from regroup.pictures import Pixels
from regroup.training.augmentation import Augmentation, normalise


class PlainViews:
    """Images as inference shows them: the short side scaled to a size, bilinearly, and the middle cut out."""

    def __init__(self, size: int) -> None:
        """Make square views of `size` pixels."""
        self._size = size

    def __call__(self, images: Sequence[Pixels], *, keys: UInt64) -> Tensor:
        """Views float32 [B, 3, size, size], normalised; nothing is drawn from the keys."""
        return normalise(torch.from_numpy(np.stack([self._view(image) for image in images])))

    def _view(self, image: Pixels) -> Pixels:
        size, (height, width) = self._size, image.shape[:2]
        factor = size / min(height, width)
        scaled = cv2.resize(
            image,
            (max(size, round(width * factor)), max(size, round(height * factor))),
            interpolation=cv2.INTER_LINEAR,
        )
        top, left = (scaled.shape[0] - size) // 2, (scaled.shape[1] - size) // 2
        return np.asarray(scaled[top : top + size, left : left + size], dtype=np.uint8)


class KeptFirstStages:
    """Images to first stages: an augmentation followed by the frozen part of a model, with a memory."""

    def __init__(self, augment: Augmentation, model: Backbone, *, room: int) -> None:
        """Start with an empty memory.

        Args:
            augment: makes a view of an image, decided by its key.
            model: on its device; its first stage is fixed (`Backbone.first_stage_is_fixed`).
            room: bytes that may be kept; views beyond are computed each time.
        """
        self._augment, self._model, self._room = augment, model, room
        self._kept: dict[int, FirstStage] = {}

    def __call__(self, images: Sequence[Pixels], *, keys: UInt64) -> FirstStage:
        """First stages of a batch; arguments as for `Augmentation`."""
        known = [self._kept.get(int(key)) for key in keys]
        missing = [place for place, first in enumerate(known) if first is None]
        if missing:
            pixels = self._augment([images[place] for place in missing], keys=keys[np.array(missing)])
            for place, first in zip(missing, self._encode(pixels), strict=True):
                known[place] = self._remember(int(keys[place]), first)
        parts = [first for first in known if first is not None]
        return FirstStage(
            torch.cat([first.tokens for first in parts]), torch.cat([first.groups for first in parts])
        )

    @torch.no_grad()
    def _encode(self, pixels: Tensor) -> Iterator[FirstStage]:
        device = self._model.device
        for some in torch.split(pixels.to(device), 1 if device.type == "cpu" else 64):
            for tokens, groups in zip(*self._model.run_first_stage(some), strict=True):
                yield FirstStage(tokens[None].clone(), groups[None].clone())

    def _remember(self, key: int, first: FirstStage) -> FirstStage:
        size = sum(part.numel() * part.element_size() for part in first)
        if key not in self._kept and size <= self._room:
            self._room -= size
            self._kept[key] = first
        return first
