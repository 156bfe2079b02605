"""Numbers of each image behind Figures 14 and 23, for claims about them: more images than a figure shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from regroup.analysis.affinity import PatchFeatures, patch_affinity
from regroup.analysis.grouping_figures import group_entropy
from regroup.analysis.segments import WholeImage
from regroup.io import write_json

if TYPE_CHECKING:
    from regroup.model import Backbone

MEASURED = 100
"""Images, the first of the split."""


def affinity_spreads(
    encoded: Iterable[WholeImage], dino: PatchFeatures, grid: tuple[int, int]
) -> Mapping[str, list[float]]:
    """Standard deviation of the cosine similarities between an image's patches (section 5.14.1).

    Features that tell patches apart have pairs that are alike and pairs that are opposed; those of features
    that do not lie around the middle of the scale.

    Args:
        encoded: images, by a model whose patches at the end of stage 1 are taken.
        dino: features of the same patches.
        grid: of the patches.
    """
    found: dict[str, list[float]] = {"dino": [], "model": []}
    for image in islice(encoded, MEASURED):
        with torch.inference_mode():
            theirs = patch_affinity(dino(image.pixels[None], grid)[0])
        found["dino"].append(float(theirs.std()))
        found["model"].append(float(patch_affinity(image.patches).std()))
    return found


def group_entropies(encoded: Mapping[str, Iterable[WholeImage]]) -> Mapping[str, list[float]]:
    """Mean entropy over groups of an image's patches, in nats (eq. 38), by model."""
    return {
        name: [float(group_entropy(image).mean()) for image in islice(images, MEASURED)]
        for name, images in encoded.items()
    }


def write_measure(
    folder: Path,
    name: str,
    values: Mapping[str, list[float]],
    *,
    title: str,
    unit: str,
    runs: Mapping[str, str],
) -> Path:
    """Write `name`.json into a folder; the same values give the same bytes.

    Args:
        folder: `reports/<profile>/measures`.
        name: of the measure.
        values: side of the comparison -> a number of each image, in one order.
        title: what the numbers are.
        unit: what they are in.
        runs: which run each side is.
    """
    path = folder / f"{name}.json"
    numbered = {side: {f"{k:03}": value for k, value in enumerate(some)} for side, some in values.items()}
    write_json(path, {"title": title, "unit": unit, "runs": dict(runs), "values": numbered})
    return path


def write_entropies(
    folder: Path, encoded: Mapping[str, Iterable[WholeImage]], *, runs: Mapping[str, str]
) -> Path:
    """Write `group_entropies` of each side's images as `group_entropy.json`."""
    values, title = group_entropies(encoded), "mean entropy of patches over groups"
    return write_measure(folder, "group_entropy", values, title=title, unit="nats", runs=runs)


def write_affinities(
    folder: Path,
    encoded: Iterable[WholeImage],
    dino: PatchFeatures,
    grid: tuple[int, int],
    *,
    runs: Mapping[str, str],
) -> Path:
    """Write `affinity_spreads` as `affinity_spread.json`."""
    values = affinity_spreads(encoded, dino, grid)
    title = "standard deviation of the cosine similarities between patches"
    return write_measure(folder, "affinity_spread", values, title=title, unit="cosine", runs=runs)


def patch_grid(model: Backbone) -> tuple[int, int]:
    """Rows and columns of patches at the model's own image size."""
    side = model.image_size // model.patch_size
    return side, side
