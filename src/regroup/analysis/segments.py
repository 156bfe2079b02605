"""Whole images through the image tower: one set of segments an image, for the dissection (section 5.4).

The thesis has eight features an image, and attention maps of P x P patches: an image is squeezed to a square
and encoded as one window, where inference (section 4.4) would slide several over it. Maps are enlarged to the
image's own height and width, which undoes the squeeze.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from regroup.errors import RegroupError
from regroup.segmentation.images import normalise
from regroup.segmentation.protocols import IGNORED
from regroup.segmentation.resolved import ResolvedDataset, read_samples, resolve_dataset
from regroup.segmentation.settings import DatasetParams
from regroup.segmentation.windows import largest_segment

if TYPE_CHECKING:
    from regroup.model import Backbone

Ids = NDArray[np.uint8]

Resize = Literal["bilinear", "bicubic"]
"""How maps of patches are enlarged: bicubically where groups are shown (section 4.5), bilinearly where they
are labelled and scored (section 5.4.1)."""


@dataclass(frozen=True, eq=False)
class WholeImage:
    """One image as one window; G segments, of a backbone without groups as many as patches.

    Attributes:
        mask: [H, W] class ids of the protocol, 255 where nothing is scored.
        tokens: [G, width] segment tokens of the last stage, after the final norm and before projection.
        projected: [G, C] the same in the joint space (eq. 29), not normalised.
        average: [C] the image in the joint space (eq. 21), not normalised.
        soft: per grouping block, [G_l, M_l] soft assignment over groups (eq. 17).
        patches: [P * P, width] image tokens at the end of stage 1.
        pixels: [3, side, side] what was encoded, normalised.
    """

    mask: NDArray[np.uint8]
    tokens: Tensor
    projected: Tensor
    average: Tensor
    soft: tuple[Tensor, ...]
    patches: Tensor
    pixels: Tensor

    @property
    def attention(self) -> Tensor:
        """[G, P * P] product of the soft assignments (eq. 34); the identity where there are no groups."""
        if not self.soft:
            return torch.eye(len(self.tokens), device=self.tokens.device)
        product = self.soft[0]
        for assignment in self.soft[1:]:
            product = assignment @ product
        return product

    def segment_map(self, resize: Resize = "bilinear") -> Ids:
        """The segment of each pixel, [H, W] (eq. 49): attention enlarged, then its argmax."""
        height, width = self.mask.shape
        return largest_segment(enlarge(self.attention, height, width, resize=resize)[None])[0].cpu().numpy()


def enlarge(maps: Tensor, height: int, width: int, *, resize: Resize = "bilinear") -> Tensor:
    """Maps of P x P patches, [K, P * P], at the image's own size, [K, height, width].

    Bicubic values may lie a little beyond those of the patches; what the maps of a pixel sum to stays.
    """
    side = round(maps.shape[-1] ** 0.5)
    grid = maps.float().reshape(1, -1, side, side)
    return F.interpolate(grid, (height, width), mode=resize, align_corners=False)[0]


def square(image: NDArray[np.uint8], side: int) -> Tensor:
    """Squeeze RGB [H, W, 3] to a square, bilinearly, and normalise it: [3, side, side]."""
    squeezed = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    return normalise(torch.from_numpy(np.ascontiguousarray(squeezed.transpose(2, 0, 1))))


def open_dataset(
    params: DatasetParams, raw_root: Path, name: str | None = None, *, split: str | None = None
) -> ResolvedDataset:
    """A dataset for figures and dissection, on its own split or another.

    Raises:
        RegroupError: it has more classes than masks of 8 bits hold, or as `resolve_dataset`.
    """
    dataset = resolve_dataset(params, raw_root, name)
    if dataset.protocol.ignored != IGNORED:
        raise RegroupError(
            f"{dataset.name}: {len(dataset.protocol.classes)} classes; figures and dissection show up to "
            f"{IGNORED}"
        )
    return dataset.on(split or dataset.split)


def side_of(model: Backbone, window: int) -> int:
    """The window's side, rounded down to whole patches."""
    patch = model.patch_size
    return max(window // patch, 1) * patch


def encode_dataset(
    model: Backbone, images: ResolvedDataset, *, side: int, batch: int = 8
) -> Iterator[WholeImage]:
    """Encode every image of a dataset, in its order.

    Args:
        model: in eval mode, on any device.
        images: of `open_dataset`, read at their own size.
        side: pixels of the square; a multiple of the patch size.
        batch: images in a pass of the model.

    Raises:
        RegroupError: an image or mask is broken, or they do not fit each other.
    """
    samples = (
        (mask.numpy().astype(np.uint8), square(image.numpy().transpose(1, 2, 0), side))
        for mask, image in read_samples(images)
    )
    return encode_squares(model, samples, batch=batch)


@torch.inference_mode()
def encode_squares(
    model: Backbone, samples: Iterable[tuple[Ids, Tensor]], *, batch: int = 8
) -> Iterator[WholeImage]:
    """Encode squares [3, side, side]; the mask beside each is handed through."""
    device, rest = model.device, iter(samples)
    while some := list(islice(rest, batch)):
        pixels = torch.stack([square for _, square in some]).to(device)
        found = model.encode_image(pixels, return_attention=True)
        assert found.patches is not None
        for i, (mask, _) in enumerate(some):
            yield WholeImage(
                mask,
                found.segments[i],
                found.segment_features[i],
                found.feature[i],
                tuple(assignment[i] for assignment in found.soft),
                found.patches[i],
                pixels[i],
            )
