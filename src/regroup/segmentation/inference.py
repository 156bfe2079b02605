"""Sliding-window inference, fast: windows of many images in a batch, and classes only where they can win.

Gives the very label maps of `OpenVocabularySegmentor`, to the last pixel, because nothing but the order of
independent work is changed:

- Every step from a window's class scores to the resized logits (eq. 36, averaging overlapping windows, the
  bilinear resize) treats each class by itself and all alike, so a class may be left out if it cannot be the
  argmax. Scores of classes outside a window's top-k are exactly zero (eq. 33): only the union of the top-k of
  an image's windows can have the largest logit, five to some twenty classes out of 81 or 150.
- A group mask is one-hot, so eq. 36 is a lookup of a segment's score, not a product of matrices.
- The background is one more class, and the only one that knows the threshold: the largest class logit of each
  pixel is found once for all thresholds.
- Where all logits are zero the plain argmax gives the first class; so does the strict comparison used here.
- A backbone without groups (CLIP) has a segment a patch. Eq. 32 and 33 judge the few segments of a window
  against the window; patches are judged by themselves, by the softmax over all classes at the model's scale.
  These maps are enlarged bilinearly, as is usual for dense readouts, instead of by the lookup; no matrix of
  patches by patches is made. A pixel is background where no class has more than the threshold.
- On one CPU thread the model gives a window the same numbers whatever is beside it in the batch (see
  `ProductPerWindow`). Several threads, or a GPU, round sums otherwise for another batch size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from regroup.segmentation.images import normalise
from regroup.segmentation.protocols import ClassPrompts
from regroup.segmentation.settings import InferenceParams
from regroup.segmentation.windows import (
    Box,
    WindowFeatures,
    background_segments,
    class_scores,
    encode_segments,
    enlarge_patches,
    window_boxes,
)

if TYPE_CHECKING:
    from regroup.model import Backbone

Item = TypeVar("Item")

PLANES = 8
"""Class planes that are resized at a time: enough to keep a GPU busy, few enough to stay in a CPU's cache."""


@dataclass(frozen=True)
class Decision:
    """What turns scores into labels: neither the model nor the windows depend on it.

    Attributes:
        threshold: of background, 0..1.
        top_k: classes a window may contain.
    """

    threshold: float
    top_k: int


@dataclass(frozen=True)
class EncodedImage:
    """All windows of one image.

    Attributes:
        height: rows of the scaled image.
        width: its columns.
        boxes: the windows' places in it.
        features: of the windows, in the same order.
        patch: side in pixels of the patches that are the segments; None where patches are grouped.
    """

    height: int
    width: int
    boxes: tuple[Box, ...]
    features: WindowFeatures
    patch: int | None = None

    def scores(self, prompts: ClassPrompts, top_k: int) -> Tensor:
        """Class scores of all segments, [windows, G, N] in 0..1; of several words the best counts."""
        segments = prompts.best_word(self.features.logits)
        if self.patch is not None:
            return segments.softmax(dim=-1)
        return class_scores(segments, prompts.best_word(self.features.image_logits), top_k)


@dataclass
class _Job(Generic[Item]):
    """An image whose windows are being encoded; each class list has its features of a window."""

    item: Item
    height: int
    width: int
    boxes: list[Box]
    parts: dict[int, tuple[WindowFeatures, ...]] = field(default_factory=dict)

    def results(self, patch: int | None) -> tuple[EncodedImage, ...]:
        """What is said of the image, by class list; the segment maps are the same tensor."""
        lists = list(zip(*(self.parts[i] for i in range(len(self.boxes))), strict=True))
        maps = torch.stack([window.segment_map for window in lists[0]])
        return tuple(
            EncodedImage(
                self.height,
                self.width,
                tuple(self.boxes),
                WindowFeatures(
                    maps,
                    torch.stack([window.logits for window in windows]),
                    torch.stack([window.image_logits for window in windows]),
                ),
                patch,
            )
            for windows in lists
        )


class _Queue(Generic[Item]):
    """Windows waiting for the encoder, apart by shape, since a batch has one shape."""

    def __init__(self, model: Backbone, classes: Sequence[Tensor], batch: int) -> None:
        self._model, self._classes, self._batch = model, classes, batch
        self._waiting: dict[tuple[int, ...], list[tuple[_Job[Item], int, Tensor]]] = {}

    def add(self, job: _Job[Item], index: int, pixels: Tensor) -> None:
        waiting = self._waiting.setdefault(tuple(pixels.shape), [])
        waiting.append((job, index, pixels))
        if len(waiting) == self._batch:
            self._encode(self._waiting.pop(tuple(pixels.shape)))

    def flush(self) -> None:
        for waiting in self._waiting.values():
            self._encode(waiting)
        self._waiting = {}

    def _encode(self, waiting: list[tuple[_Job[Item], int, Tensor]]) -> None:
        segments = encode_segments(self._model, torch.stack([pixels for *_, pixels in waiting]))
        lists = [segments.compared(self._model, classes) for classes in self._classes]
        for number, (job, index, _) in enumerate(waiting):
            job.parts[index] = tuple(WindowFeatures(*(part[number] for part in one)) for one in lists)


@torch.inference_mode()
def encode_images(
    model: Backbone,
    classes: Tensor,
    images: Iterable[tuple[Item, Tensor]],
    params: InferenceParams,
    *,
    batch: int,
) -> Iterator[tuple[Item, EncodedImage]]:
    """Encode the windows of scaled images, `batch` windows at a time, in the order of `images`.

    Args:
        model: in eval mode.
        classes: [N, C] class embeddings.
        images: anything that identifies an image, and its RGB grey levels [3, H, W], already scaled.
        params: window and stride.
        batch: windows in a pass of the model.
    """
    for item, [encoded] in encode_images_once(model, [classes], images, params, batch=batch):
        yield item, encoded


@torch.inference_mode()
def encode_images_once(
    model: Backbone,
    classes: Sequence[Tensor],
    images: Iterable[tuple[Item, Tensor]],
    params: InferenceParams,
    *,
    batch: int,
) -> Iterator[tuple[Item, tuple[EncodedImage, ...]]]:
    """Encode images once for several lists of classes, [N, C] each; the rest as `encode_images`.

    Each list is compared by a product of its own, of the shape that it has alone: what is said of it is the
    same to the last bit, whatever is asked beside it.
    """
    device, patch = model.device, None if model.grouped else model.patch_size
    queue: _Queue[Item] = _Queue(model, classes, batch)
    jobs: deque[_Job[Item]] = deque()
    for item, image in images:
        height, width = image.shape[-2:]
        job = _Job(item, height, width, window_boxes(height, width, params.window, params.stride))
        jobs.append(job)
        pixels = normalise(image.to(device))
        for index, box in enumerate(job.boxes):
            queue.add(job, index, pixels[:, box.top : box.bottom, box.left : box.right])
        if len(jobs) > 2 * batch:  # an odd shape must not hold up all that follow
            queue.flush()
        while jobs and len(jobs[0].parts) == len(jobs[0].boxes):
            done = jobs.popleft()
            yield done.item, done.results(patch)
    queue.flush()
    for job in jobs:
        yield job.item, job.results(patch)


@torch.inference_mode()
def label_maps(
    image: EncodedImage, labels: ClassPrompts, decisions: Sequence[Decision], size: tuple[int, int]
) -> Iterator[Tensor]:
    """Label an image once for each decision: int16 [H, W] with ids of `labels`.

    Args:
        image: all windows of the image.
        labels: as its class embeddings were made from.
        decisions: thresholds and top-k; thresholds with the same top-k share nearly all work.
        size: (H, W) of the label maps, the image's own size.
    """
    coverage = _coverage(image)
    best: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    backgrounds: dict[tuple[int, bytes], Tensor] = {}
    for decision in decisions:
        if decision.top_k not in best:
            scores = image.scores(labels, decision.top_k)
            best[decision.top_k] = (scores, *_best_class(image, scores, coverage, labels, size))
        scores, value, ids = best[decision.top_k]
        if not labels.background:
            yield ids
            continue
        if image.patch is not None:
            yield ids.masked_fill(value <= decision.threshold, 0)
            continue
        segments = background_segments(scores, decision.threshold)
        key = (decision.top_k, segments.cpu().numpy().tobytes())
        if key not in backgrounds:
            plane = _resized(image, segments.to(scores.dtype)[..., None], coverage, size)[0]
            backgrounds[key] = ids.masked_fill(plane >= value, 0)
        yield backgrounds[key]


@torch.inference_mode()
def class_planes(
    image: EncodedImage, labels: ClassPrompts, decision: Decision, size: tuple[int, int]
) -> tuple[list[int], Tensor]:
    """Logits of every class that is not zero everywhere: K ids, ascending, and float32 [K, H, W].

    These are the channels whose argmax `label_maps` gives; the background's comes first where there is one.
    """
    scores = image.scores(labels, decision.top_k)
    prompted = labels.prompted
    candidates = scores.amax(dim=(0, 1)).nonzero().flatten()
    # scores may all underflow to zero; the first class then stands for all
    candidates = candidates if len(candidates) else candidates.new_zeros(1)
    ids = [prompted[number] for number in candidates.tolist()]
    channels = scores[..., candidates]
    if labels.background and image.patch is not None:
        planes = _resized(image, channels, _coverage(image), size)
        return [labels.ids[0], *ids], torch.cat([torch.full_like(planes[:1], decision.threshold), planes])
    if labels.background:
        background = background_segments(scores, decision.threshold).to(scores.dtype)
        ids, channels = [labels.ids[0], *ids], torch.cat([background[..., None], channels], dim=-1)
    return ids, _resized(image, channels, _coverage(image), size)


@torch.inference_mode()
def class_confidence(
    image: EncodedImage, labels: ClassPrompts, top_k: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The class of each pixel, background apart: int16 [H, W], and how sure it is: float32 [H, W] in 0..1.

    Logits are not negative, so a class's share of the sum over all classes (each averaged over windows and
    resized, as for the map) is a probability, and the map's class has the largest. Without groups logits sum
    to 1 already, and the share is the softmax; with them it is that of twice the scaled cosines over a
    window's top-k classes (eq. 33 is a product of two softmaxes). Where all logits are 0, classes are alike.
    """
    scores, coverage = image.scores(labels, top_k), _coverage(image)
    best, ids = _best_class(image, scores, coverage, labels, size)
    [total] = _resized(image, scores.sum(dim=-1, keepdim=True), coverage, size)
    share = torch.where(total > 0, (best / total).clamp(max=1), 1 / scores.shape[-1])
    return ids, share


def _best_class(
    image: EncodedImage, scores: Tensor, coverage: Tensor, labels: ClassPrompts, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Largest class logit of each pixel, float32 [H, W], and its class id, int16 [H, W]."""
    prompted = labels.prompted
    best = scores.new_zeros(size)
    ids = torch.full(size, prompted[0], dtype=torch.int16, device=scores.device)
    candidates = scores.amax(dim=(0, 1)).nonzero().flatten()
    for some in torch.split(candidates, PLANES):
        if not len(some):  # all scores underflow to zero, and the first class stands for all
            break
        planes = _resized(image, scores[..., some], coverage, size)
        for number, plane in zip(some.tolist(), planes, strict=True):
            ids.masked_fill_(plane > best, prompted[number])
            torch.maximum(best, plane, out=best)
    return best, ids


def _resized(image: EncodedImage, scores: Tensor, coverage: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [K, H, W] of the K classes of `scores` [windows, G, K], averaged over windows and resized."""
    total = scores.new_zeros(scores.shape[-1], image.height, image.width)
    # a lookup: of all the ways to write it, this is several times faster than the slowest on a CPU
    for box, segment_map, table in zip(image.boxes, image.features.segment_map.int(), scores, strict=True):
        if image.patch is None:
            planes = table.T.contiguous().index_select(1, segment_map.flatten()).view(-1, *segment_map.shape)
        else:
            [planes] = enlarge_patches(table[None], len(segment_map), segment_map.shape[1], image.patch)
        total[:, box.top : box.bottom, box.left : box.right] += planes
    total /= coverage
    return F.interpolate(total[None], size, mode="bilinear", align_corners=False)[0]


def _coverage(image: EncodedImage) -> Tensor:
    """How many windows see each pixel of the scaled image: float32 [h, w]."""
    count = torch.zeros(image.height, image.width, device=image.features.segment_map.device)
    for box in image.boxes:
        count[box.top : box.bottom, box.left : box.right] += 1
    return count
