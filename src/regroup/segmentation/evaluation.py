"""Scoring a checkpoint on the datasets of a profile (section 5.2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from regroup.device import choose_device
from regroup.errors import RegroupError
from regroup.segmentation.datasets import ProtocolDataset, evaluation_pipeline
from regroup.segmentation.inference import Decision, encode_images, label_maps
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.protocols import Labels, Protocol, load_protocol
from regroup.segmentation.reuse import reused_stage_one
from regroup.segmentation.scores import DatasetScores, PixelCounter, Scores, true_rows
from regroup.segmentation.settings import DatasetParams, EvaluateParams, InferenceParams
from regroup.sources.mini.names import drawn_names

if TYPE_CHECKING:
    from regroup.model import Backbone

READERS = 2
"""Threads that read and scale images while the model works."""


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
    model.to(choose_device(params.device))
    with inference_mode(model), reused_stage_one(model, token_cache):
        scores = {
            name: evaluate(
                model,
                dataset,
                params,
                raw_roots[dataset.source],
                batch=params.batch,
                progress=progress,
                title=name,
                text_cache=text_cache,
            )
            for name, dataset in params.datasets.items()
        }
    return Scores(scores)


def evaluate(
    model: Backbone,
    dataset: DatasetParams,
    params: InferenceParams,
    raw_root: Path,
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
        raw_root: folder with the layout of the dataset's own archive.
        batch: windows in a pass of the model.
        progress: whether to show a progress bar.
        title: of the progress bar; None: the protocol's name.
        text_cache: folder of class embeddings, as `embed_prompts` keeps it; None keeps none.

    Raises:
        RegroupError: a file is missing or broken, a mask does not fit its image or the class list.
    """
    decision = decide(dataset, params)
    [scores] = evaluate_decisions(
        model,
        dataset,
        params,
        [decision],
        raw_root,
        batch=batch,
        progress=progress,
        title=title,
        text_cache=text_cache,
    )
    return scores


def decide(dataset: DatasetParams, params: InferenceParams) -> Decision:
    """The dataset's own threshold and top-k."""
    threshold = load_protocol(dataset.protocol).threshold if dataset.threshold is None else dataset.threshold
    return Decision(threshold, params.top_k)


def evaluate_decisions(
    model: Backbone,
    dataset: DatasetParams,
    params: InferenceParams,
    decisions: Sequence[Decision],
    raw_root: Path,
    *,
    batch: int = 8,
    progress: bool = False,
    title: str | None = None,
    text_cache: Path | None = None,
) -> list[DatasetScores]:
    """Score a model on one dataset once for each decision, encoding every image once.

    Arguments and errors are those of `evaluate`; thresholds and top-k come from `decisions`.
    """
    protocol = load_protocol(dataset.protocol)
    labels = labels_of(dataset)
    images = ProtocolDataset(
        protocol, raw_root, dataset.split, dataset.limit, pipeline=evaluation_pipeline(params)
    )
    counters = [PixelCounter(protocol.classes) for _ in decisions]
    with inference_mode(model):
        classes = embed_prompts(model, labels.prompts, text_cache)
        samples = tqdm(
            read_samples(images), title or protocol.name, len(images), disable=not progress, unit="image"
        )
        for mask, encoded in encode_images(model, classes, samples, params, batch=batch):
            mask = mask.to(encoded.features.segment_map.device)
            maps = label_maps(encoded, labels, decisions, (mask.shape[0], mask.shape[1]))
            rows = true_rows(mask, len(protocol.classes))
            for counter, predicted in zip(counters, maps, strict=True):
                counter.add_rows(predicted, rows)
    if not counters[0].confusion.any():
        where = protocol.path(raw_root, protocol.labels, dataset.split)
        raise RegroupError(
            f"{where}: no pixel has a label of protocol {protocol.name}: nothing can be scored"
        )
    return [
        DatasetScores(
            classes=protocol.classes,
            predictable=tuple(i in labels.ids for i in range(len(protocol.classes))),
            confusion=counter.confusion,
            images=len(images),
            iou_metric=counter.iou_metric(),
            protocol=describe(protocol, dataset, params, decision),
        )
        for counter, decision in zip(counters, decisions, strict=True)
    ]


def labels_of(dataset: DatasetParams) -> Labels:
    """What may be predicted on a dataset."""
    protocol = load_protocol(dataset.protocol)
    if dataset.names == "all":
        return protocol.labelled()
    return protocol.restricted(drawn_names(dataset.source))


def read_samples(images: ProtocolDataset, ahead: int = 16) -> Iterator[tuple[Tensor, Tensor]]:
    """Masks [H, W] and scaled RGB images [3, h, w] of a dataset, in its order, read ahead by threads."""

    def read(index: int) -> tuple[Tensor, Tensor]:
        sample: dict[str, Any] = images[index]
        return sample["data_samples"].gt_sem_seg.data[0].int(), sample["inputs"].flip(0)

    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[Future[tuple[Tensor, Tensor]]] = deque()
        try:
            for index in range(len(images)):
                waiting.append(pool.submit(read, index))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


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


def describe(
    protocol: Protocol, dataset: DatasetParams, params: InferenceParams, decision: Decision
) -> dict[str, Any]:
    """The protocol and the settings of an evaluation, JSON-able, as they stand in metrics files."""
    return {
        "name": protocol.name,
        "title": protocol.title,
        "class_names": protocol.source,
        "classes": len(protocol.classes),
        "names": dataset.names,
        "template": protocol.template,
        "background": protocol.background,
        "threshold": decision.threshold if protocol.background else None,
        "top_k": decision.top_k,
        "split": dataset.split,
        **{key: getattr(params, key) for key in ("short_side", "long_side", "window", "stride")},
    }
