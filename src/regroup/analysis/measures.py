"""Numbers of each image behind Figures 14 and 23, for claims about them: more images than a figure shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from regroup.analysis.affinity import PatchFeatures, patch_affinities
from regroup.analysis.grouping_figures import group_entropy
from regroup.analysis.material import Material
from regroup.analysis.segments import WholeImage, encode_dataset
from regroup.io import write_json

if TYPE_CHECKING:
    from regroup.model import Backbone

MEASURED = 100
"""Images, the first of the split."""


def write_measures(material: Material, folder: Path) -> None:
    """Write what claims about Figures 14 and 23 are judged by; nothing where no dataset is dissected."""
    folder.mkdir(parents=True, exist_ok=True)
    if material.figures.dissected is None:
        return
    part, model, data = material.figures, material.pretrained, material.dissected
    sides = {
        "pretrained": part.pretrained,
        "unpenalised": part.unpenalised,
        "penalised": part.group_entropy,
    }
    entropies = group_entropies(
        {side: material.whole(material.models[run], data) for side, run in sides.items()}
    )
    title = "mean entropy of patches over groups"
    write_measure(folder, "group_entropy", entropies, title=title, unit="nats", runs=sides)
    squares = encode_dataset(
        model, material.opened(data), side=model.image_size, batch=material.evaluate.batch
    )
    spreads = affinity_spreads(model, squares, material.dino)
    title = "standard deviation of the cosine similarities between patches"
    runs = {"dino": f"DINO ({material.dino.config.kind})", "model": part.pretrained}
    write_measure(folder, "affinity_spread", spreads, title=title, unit="cosine", runs=runs)


def affinity_spreads(
    model: Backbone, encoded: Iterable[WholeImage], dino: PatchFeatures
) -> Mapping[str, list[float]]:
    """Standard deviation of the cosine similarities between an image's patches (section 5.14.1).

    Features that tell patches apart have pairs that are alike and pairs that are opposed; those of features
    that do not lie around the middle of the scale.

    Args:
        model: its patches at the end of stage 1 are taken.
        encoded: images, by that model.
        dino: features of the same patches.
    """
    found: dict[str, list[float]] = {"dino": [], "model": []}
    for theirs, ours in islice(patch_affinities(model, encoded, dino), MEASURED):
        found["dino"].append(float(theirs.std()))
        found["model"].append(float(ours.std()))
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
