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
from regroup.segmentation.inference import Decision, EncodedImage, encode_images, label_maps
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.resolved import ResolvedDataset, read_samples, resolve_datasets
from regroup.segmentation.reuse import reused_stage_one
from regroup.segmentation.scores import DatasetScores, PixelCounter, Scores, true_rows
from regroup.segmentation.settings import EvaluateParams, InferenceParams

if TYPE_CHECKING:
    from regroup.model import Backbone


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
    with inference_mode(model), reused_stage_one(model, token_cache):
        scores = {
            name: evaluate(
                model,
                dataset,
                params,
                batch=params.batch,
                progress=progress,
                text_cache=text_cache,
            )
            for name, dataset in datasets.items()
        }
    return Scores(scores)


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
    watch: Callable[[Tensor, EncodedImage], None] | None = None,
) -> list[DatasetScores]:
    """Score a model on one dataset once for each decision, encoding every image once.

    Arguments and errors are those of `evaluate`; thresholds and top-k come from `decisions`. `watch` is
    shown every mask [H, W] with its encoded image, for what else is to be counted.
    """
    protocol, prompts, images = dataset.protocol, dataset.prompts, len(dataset.samples)
    counters = [PixelCounter(protocol.classes) for _ in decisions]
    with inference_mode(model):
        classes = embed_prompts(model, prompts.texts, text_cache)
        samples = tqdm(
            read_samples(dataset, params), title or dataset.name, images, disable=not progress, unit="image"
        )
        for mask, encoded in encode_images(model, classes, samples, params, batch=batch):
            mask = mask.to(encoded.features.segment_map.device)
            maps = label_maps(encoded, prompts, decisions, (mask.shape[0], mask.shape[1]))
            if watch is not None:
                watch(mask, encoded)
            rows = true_rows(mask, len(protocol.classes), protocol.ignored)
            for counter, predicted in zip(counters, maps, strict=True):
                counter.add_rows(predicted, rows)
    if not counters[0].confusion.any():
        where = protocol.path(dataset.root, protocol.labels, dataset.split)
        raise RegroupError(
            f"{where}: no pixel has a label of protocol {protocol.name}: nothing can be scored"
        )
    return [
        DatasetScores(
            classes=protocol.classes,
            predictable=tuple(i in prompts.ids for i in range(len(protocol.classes))),
            confusion=counter.confusion,
            images=images,
            iou_metric=counter.iou_metric(),
            protocol=describe(dataset, params, decision),
        )
        for counter, decision in zip(counters, decisions, strict=True)
    ]


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
