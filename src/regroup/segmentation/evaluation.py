"""Scoring a checkpoint on the datasets of a profile (section 5.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from regroup.device import choose_device
from regroup.errors import RegroupError
from regroup.segmentation.boundary import BoundaryCounter
from regroup.segmentation.image_scores import ImageScore, image_score
from regroup.segmentation.inference import Decision, EncodedImage, encode_images_once, label_maps
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.resolved import (
    ResolvedDataset,
    of_the_same_images,
    read_together,
    resolve_datasets,
)
from regroup.segmentation.reuse import reused_stage_one
from regroup.segmentation.scores import DatasetScores, PixelCounter, Scores, true_rows
from regroup.segmentation.settings import EvaluateParams, InferenceParams

if TYPE_CHECKING:
    from regroup.model import Backbone

Watch = Callable[[ResolvedDataset, Tensor, EncodedImage], None]


def evaluate_all(
    model: Backbone,
    params: EvaluateParams,
    raw_roots: Mapping[str, Path],
    *,
    progress: bool = False,
    text_cache: Path | None = None,
    token_cache: Path | None = None,
) -> Scores:
    """Score a model on every dataset of `params`, on the device that `params` names; the model moves there.

    Args:
        model: on any device.
        params: datasets, and how they are scored.
        raw_roots: the root of each source's raw data.
        progress: whether to show a progress bar for each dataset.
        text_cache: folder of class embeddings, as `embed_prompts` keeps it.
        token_cache: folder of stage-one tokens, as `reused_stage_one` keeps it.

    Raises:
        RegroupError: as `evaluate`; or there is no such device.
    """
    datasets = resolve_datasets(params.datasets, raw_roots)
    model.to(choose_device(params.device))
    scores: dict[str, DatasetScores] = {}
    with inference_mode(model), reused_stage_one(model, token_cache):
        for group in of_the_same_images(datasets.values()):
            found = evaluate_together(
                model,
                group,
                params,
                [[decide(dataset, params)] for dataset in group],
                boundary=params.boundary,
                per_image=params.per_image,
                batch=params.batch,
                progress=progress,
                text_cache=text_cache,
            )
            scores.update({one.name: only for one, [only] in zip(group, found, strict=True)})
    return Scores({name: scores[name] for name in datasets})


def evaluate(
    model: Backbone,
    dataset: ResolvedDataset,
    params: InferenceParams,
    *,
    batch: int = 8,
    progress: bool = False,
    title: str | None = None,
    text_cache: Path | None = None,
) -> DatasetScores:
    """Score a model on one dataset.

    Args:
        model: on any device.
        dataset: what to score.
        params: how.
        batch: windows in a pass of the model.
        progress: whether to show a progress bar.
        title: of the progress bar; None: the dataset's name.
        text_cache: folder of class embeddings, as `embed_prompts` keeps it; None keeps none.

    Raises:
        RegroupError: a file is missing or broken, a mask does not fit its image or the class list.
    """
    [scores] = evaluate_decisions(
        model,
        dataset,
        params,
        [decide(dataset, params)],
        batch=batch,
        progress=progress,
        title=title,
        text_cache=text_cache,
    )
    return scores


def decide(dataset: ResolvedDataset, params: InferenceParams) -> Decision:
    """The dataset's own threshold and top-k."""
    return Decision(dataset.threshold, params.top_k)


def evaluate_decisions(
    model: Backbone,
    dataset: ResolvedDataset,
    params: InferenceParams,
    decisions: Sequence[Decision],
    *,
    batch: int = 8,
    progress: bool = False,
    title: str | None = None,
    text_cache: Path | None = None,
    watch: Watch | None = None,
) -> list[DatasetScores]:
    """Score a model on one dataset once for each decision, encoding every image once.

    Arguments and errors are those of `evaluate`; thresholds and top-k come from `decisions`. `watch` is
    that of `evaluate_together`.
    """
    [scores] = evaluate_together(
        model,
        [dataset],
        params,
        [decisions],
        batch=batch,
        progress=progress,
        title=title,
        text_cache=text_cache,
        watch=watch,
    )
    return scores


def evaluate_together(
    model: Backbone,
    datasets: Sequence[ResolvedDataset],
    params: InferenceParams,
    decisions: Sequence[Sequence[Decision]],
    *,
    boundary: float | None = None,
    per_image: bool = False,
    batch: int = 8,
    progress: bool = False,
    title: str | None = None,
    text_cache: Path | None = None,
    watch: Watch | None = None,
) -> list[list[DatasetScores]]:
    """Score a model on datasets of the same images (`of_the_same_images`), encoding every image once.

    The scores are those of each dataset alone, to the last bit.

    Args:
        model: on any device.
        datasets: what to score.
        params: how.
        decisions: some for each dataset.
        boundary: also count what lies within this share of the diagonal of a contour; None: do not.
        per_image: also keep the score of each image.
        batch: windows in a pass of the model.
        progress: whether to show a progress bar.
        title: of the progress bar; None: the datasets' names.
        text_cache: folder of class embeddings, as `embed_prompts` keeps it; None keeps none.
        watch: is shown every dataset with each of its masks [H, W] and encoded images, for what else is to
            be counted.

    Returns:
        For each dataset, the scores by decision.

    Raises:
        RegroupError: as `evaluate`.
    """
    tallies = [
        [Tally(dataset, boundary=boundary, per_image=per_image) for _ in some]
        for dataset, some in zip(datasets, decisions, strict=True)
    ]
    with inference_mode(model):
        classes = [embed_prompts(model, dataset.prompts.texts, text_cache) for dataset in datasets]
        title, total = title or ", ".join(one.name for one in datasets), len(datasets[0].samples)
        samples = tqdm(read_together(datasets, params), title, total, disable=not progress, unit="image")
        for masks, said in encode_images_once(model, classes, samples, params, batch=batch):
            for dataset, some, mine, mask, encoded in zip(
                datasets, decisions, tallies, masks, said, strict=True
            ):
                mask = mask.to(encoded.features.segment_map.device)
                maps = label_maps(encoded, dataset.prompts, some, (mask.shape[0], mask.shape[1]))
                if watch is not None:
                    watch(dataset, mask, encoded)
                rows = true_rows(mask, len(dataset.protocol.classes), dataset.protocol.ignored)
                for tally, predicted in zip(mine, maps, strict=True):
                    tally.add(predicted, mask, rows)
    return [
        [tally.scores(describe(dataset, params, one)) for tally, one in zip(mine, some, strict=True)]
        for dataset, some, mine in zip(datasets, decisions, tallies, strict=True)
    ]


class Tally:
    """What is counted of one dataset under one decision."""

    def __init__(self, dataset: ResolvedDataset, *, boundary: float | None, per_image: bool) -> None:
        """Start at zero."""
        self.dataset, classes = dataset, dataset.protocol.classes
        self.pixels = PixelCounter(classes)
        self.boundary = None if boundary is None else BoundaryCounter(len(classes), boundary)
        self.images: list[ImageScore] | None = [] if per_image else None
        self._seen = 0

    def add(self, predicted: Tensor, mask: Tensor, rows: Tensor) -> None:
        """Count the next image: class ids [H, W], its mask [H, W], and that as `true_rows` has it."""
        counts = self.pixels.add_rows(predicted, rows)
        if self.images is not None:
            image = self.dataset.samples[self._seen].image
            self.images.append(image_score(image, self.dataset.root, counts))
        if self.boundary is not None:
            found, true = predicted.cpu().numpy(), mask.cpu().numpy()
            self.boundary.add(found, true, self.dataset.protocol.ignored)
        self._seen += 1

    def scores(self, protocol: Mapping[str, Any]) -> DatasetScores:
        """The scores of what was counted; `protocol` as in `DatasetScores`.

        Raises:
            RegroupError: no pixel had a label.
        """
        dataset, known = self.dataset, self.dataset.protocol
        if not self.pixels.confusion.any():
            where = known.path(dataset.root, known.labels, dataset.split)
            raise RegroupError(
                f"{where}: no pixel has a label of protocol {known.name}: nothing can be scored"
            )
        return DatasetScores(
            classes=known.classes,
            predictable=tuple(i in dataset.prompts.ids for i in range(len(known.classes))),
            confusion=self.pixels.confusion,
            images=len(dataset.samples),
            iou_metric=self.pixels.iou_metric(),
            protocol=protocol,
            boundary=self.boundary,
            per_image=self.images,
        )


@contextmanager
def inference_mode(model: Backbone) -> Iterator[None]:
    """Eval mode without gradients inside the block; the model's own mode afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def describe(dataset: ResolvedDataset, params: InferenceParams, decision: Decision) -> dict[str, Any]:
    """The protocol and the settings of an evaluation, JSON-able, as they stand in metrics files."""
    protocol = dataset.protocol
    words = {"words": {name: list(some) for name, some in protocol.words.items()}} if protocol.words else {}
    return {
        "name": protocol.name,
        "title": protocol.title,
        "class_names": protocol.source,
        **words,
        "classes": len(protocol.classes),
        "names": dataset.names,
        "template": protocol.template,
        "background": protocol.background,
        "threshold": decision.threshold if protocol.background else None,
        "top_k": decision.top_k,
        "split": dataset.split,
        **{key: getattr(params, key) for key in ("short_side", "long_side", "window", "stride")},
    }
