"""Cosine similarities between the patches of an image, DINO beside GroupViT (section 5.14.1, Figure 23)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from regroup.analysis.grouping_figures import Shown
from regroup.analysis.segments import WholeImage, encode_squares, square
from regroup.analysis.tiles import Scale, Tile, heat, tile_page
from regroup.drawing.figures import Caption, Drawn

if TYPE_CHECKING:
    from regroup.model import Backbone

PatchFeatures = Callable[[Tensor, tuple[int, int]], Tensor]
"""(pixels [B, 3, H, W], patch grid) to [B, patches, D]: what `regroup.model.dino` makes."""


def patch_affinity(features: Tensor) -> Tensor:
    """Cosine similarity of every pair of patches: [P, D] to [P, P] in -1..1."""
    normalised = F.normalize(features.float(), dim=-1)
    return normalised @ normalised.T


def patch_affinities(
    model: Backbone, encoded: Iterable[WholeImage], dino: PatchFeatures
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each image that `model` has encoded: the affinity of its patches by `dino`, and by the model."""
    for image in encoded:
        pixels = image.pixels[None]
        with torch.no_grad():
            theirs = patch_affinity(dino(pixels, model.patch_grid(pixels))[0])
        yield theirs, patch_affinity(image.patches)


def affinity_figure(
    model: Backbone,
    dino: PatchFeatures,
    shown: Sequence[Shown],
    profile: str,
    drawn: bool,
    names: tuple[str, str],
) -> Drawn:
    """Patch affinity of both models for some images, at the image size of the model (Figure 23).

    Args:
        model: its patches at the end of stage 1 are taken.
        dino: features of the same patches.
        shown: images.
        profile: the profile's name.
        drawn: whether its data is drawn.
        names: of `dino` and of `model`, for headings.
    """
    side = model.image_size
    encoded = encode_squares(model, ((one.mask, square(one.image, side)) for one in shown))
    pairs = [
        (theirs.cpu().numpy(), ours.cpu().numpy()) for theirs, ours in patch_affinities(model, encoded, dino)
    ]
    scale = Scale("cosine similarity", "RdBu_r", 1.0, -1.0)
    per_row = 2
    rows = []
    for start in range(0, len(shown), per_row):
        tiles: list[Tile | None] = []
        for one, pair in zip(shown[start : start + per_row], pairs[start : start + per_row], strict=True):
            tiles += [Tile(_square_picture(one)), *(Tile(heat(part, scale)) for part in pair)]
        rows.append(("", tiles))
    spread = [float(np.mean([part.std() for part in parts])) for parts in zip(*pairs, strict=True)]
    per_side = side // model.patch_size
    title = f"Affinity between patches, {names[0]} and {names[1]}"
    text = (
        f"Each square has the cosine similarity of all pairs of {per_side} x {per_side} patches of the image "
        "beside it, in reading order. Red pairs are alike, blue ones opposed, white ones neither. Mean "
        f"standard deviation: {names[0]} {spread[0]:.2f}, {names[1]} {spread[1]:.2f}."
    )
    headings = ["image", *(name.replace(" ", "\n", 1) for name in names)] * min(per_row, len(shown))
    figure = tile_page(
        rows, headings, title=title, profile=profile, drawn=drawn, notes=[text], scales=[scale], aspect=1.0
    )
    data: dict[str, NDArray[np.generic]] = {}
    for number, (theirs_, ours) in enumerate(pairs):
        data[f"{number:02}/{names[0]}"] = theirs_.astype(np.float16)
        data[f"{number:02}/{names[1]}"] = ours.astype(np.float16)
    return Drawn("affinity", figure, data, Caption(title, text, (23,), profile))


def _square_picture(one: Shown) -> NDArray[np.uint8]:
    import cv2

    side = max(one.image.shape[:2])
    return np.asarray(cv2.resize(one.image, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
