"""The images that a model segments worst, behind a mean over all pixels."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from regroup.analysis.panels import PanelSample, panel_data, qualitative_panel
from regroup.analysis.qualitative import predict
from regroup.drawing.figures import Caption, Drawn
from regroup.io import write_text
from regroup.segmentation.evaluation import decide, evaluate_together, inference_mode
from regroup.segmentation.image_scores import ImageScore, worst
from regroup.segmentation.resolved import ResolvedDataset, of_the_same_images, resolve_datasets
from regroup.segmentation.settings import DatasetParams, EvaluateParams

if TYPE_CHECKING:
    from regroup.model import Backbone

_STEM = 20
"""Characters of an image's name that fit beside its row."""


@dataclass(frozen=True, eq=False)
class BadImage:
    """One of the worst images.

    Attributes:
        score: of the image.
        picture: RGB [H, W, 3].
        truth: [H, W], positions in the protocol's classes.
        predicted: [H, W], likewise.
    """

    score: ImageScore
    picture: NDArray[np.uint8]
    truth: NDArray[np.integer]
    predicted: NDArray[np.integer]

    def mistake(self, dataset: ResolvedDataset) -> tuple[str, str, float]:
        """The class and what most of its pixels that are wrong are taken for, and their share of the scored.

        Two empty names and 0 where nothing is wrong.
        """
        classes, ignored = dataset.protocol.classes, dataset.protocol.ignored
        wrong = (self.truth != ignored) & (self.truth != self.predicted)
        pairs = self.truth[wrong].astype(np.int64) * len(classes) + self.predicted[wrong]
        if not pairs.size:
            return "", "", 0.0
        found, counts = np.unique(pairs, return_counts=True)
        true, taken = divmod(int(found[counts.argmax()]), len(classes))
        return classes[true], classes[taken], int(counts.max()) / self.score.pixels


@dataclass(frozen=True, eq=False)
class Worst:
    """The worst images of a dataset, the worst first, and how many were scored."""

    dataset: ResolvedDataset
    images: tuple[BadImage, ...]
    scored: int


def find_worst(
    model: Backbone,
    datasets: Mapping[str, DatasetParams],
    params: EvaluateParams,
    roots: Mapping[str, Path],
    *,
    number: int,
    batch: int = 8,
    progress: bool = False,
    text_cache: Path | None = None,
) -> dict[str, Worst]:
    """Score every image of some datasets and look again at the `number` worst of each.

    Args:
        model: on any device.
        datasets: by name.
        params: how they are scored.
        roots: of the sources' raw data.
        number: of images, by mIoU over the classes that an image's mask shows.
        batch: windows in a pass of the model.
        progress: whether to show progress bars.
        text_cache: folder of class embeddings, as `embed_prompts` keeps it.

    Raises:
        RegroupError: a file is missing or broken, or a dataset has no pixel that is scored.
    """
    resolved = resolve_datasets(datasets, roots)
    found: dict[str, Worst] = {}
    for group in of_the_same_images(resolved.values()):
        scores = evaluate_together(
            model,
            group,
            params,
            [[decide(dataset, params)] for dataset in group],
            per_image=True,
            batch=batch,
            progress=progress,
            text_cache=text_cache,
        )
        for dataset, [one] in zip(group, scores, strict=True):
            rows = one.per_image or ()
            with inference_mode(model):
                images = tuple(_again(model, dataset, params, i, rows[i]) for i in worst(rows, number))
            found[dataset.name] = Worst(dataset, images, len(rows))
    return {name: found[name] for name in resolved}


def _again(
    model: Backbone, dataset: ResolvedDataset, params: EvaluateParams, number: int, score: ImageScore
) -> BadImage:
    truth, picture = dataset.read(number)
    return BadImage(score, picture, truth, predict(model, picture, dataset, params))


def worst_figure(found: Worst, *, checkpoint: str, profile: str, drawn: bool) -> Drawn:
    """A row for each image: picture, truth, prediction, and its score beside them."""
    dataset = found.dataset
    samples = [
        PanelSample(
            image=one.picture,
            truth=one.truth,
            predictions={checkpoint: one.predicted},
            class_names=dataset.protocol.classes,
            ignore_index=dataset.protocol.ignored,
            label=f"{Path(one.score.image).stem[-_STEM:]}: mIoU {one.score.miou:.1f}",
        )
        for one in found.images
    ]
    title = f"The {len(samples)} worst of {found.scored:,} images of {dataset.name}"
    note = (
        f"Protocol {dataset.protocol.name}, split {dataset.split}. mIoU of an image, in percent: the mean "
        "over the classes that its mask shows."
    )
    figure = qualitative_panel(samples, title=title, profile=profile, drawn=drawn, footnote=note)
    return Drawn(f"worst-{dataset.name}", figure, panel_data(samples), Caption(title, note, (), profile))


def write_worst(
    found: Mapping[str, Worst], folder: Path, *, checkpoint: str, profile: str, drawn: bool
) -> list[Path]:
    """Write `worst.csv`, and `worst-<dataset>` as PNG, SVG and data for each dataset; return the paths."""
    table = folder / "worst.csv"
    write_text(table, worst_table(found))
    paths = [table]
    for one in found.values():
        if one.images:
            paths += worst_figure(one, checkpoint=checkpoint, profile=profile, drawn=drawn).save(folder)
    return paths


def worst_table(found: Mapping[str, Worst]) -> str:
    """A row an image: its scores, and the mistake that most of its pixels are of."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("dataset", "rank", "image", "miou", "accuracy", "pixels", "classes", "true", "taken_for", "share")
    )
    for name, one in found.items():
        for rank, image in enumerate(one.images, start=1):
            score, (true, taken, share) = image.score, image.mistake(one.dataset)
            writer.writerow(
                (
                    *(name, rank, score.image, f"{score.miou:.2f}", f"{score.accuracy:.2f}"),
                    *(score.pixels, score.classes, true, taken, f"{share:.4f}"),
                )
            )
    return text.getvalue()
