"""What a checkpoint's grouping and its alignment with text are worth, each on its own (section 5.4).

Visual grouping: segments of the validation split get the label of their nearest neighbours among segments of
the training split, in place of the model's own. Alignment: the model labels the regions of the ground truth.
What the thesis leaves open, and what is done here, is listed in docs/dissection.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from regroup.analysis.alignment import align
from regroup.analysis.neighbours import Bank, Floats, Integers, build_bank, nearest, soft_labels, vote
from regroup.analysis.segments import Ids, encode_dataset, open_dataset, side_of
from regroup.analysis.settings import DissectParams
from regroup.segmentation.datasets import ProtocolDataset, evaluation_pipeline
from regroup.segmentation.evaluation import decide, describe, inference_mode, labels_of, read_samples
from regroup.segmentation.inference import encode_images
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.protocols import IGNORED, Labels, Protocol, load_protocol
from regroup.segmentation.scores import DatasetScores, PixelCounter
from regroup.segmentation.settings import DatasetParams, InferenceParams

if TYPE_CHECKING:
    from regroup.model import GroupViT

WITHOUT = "_wb"
"""Ends the name of an analysis that leaves the background out, as Table 1 has it."""


@dataclass(frozen=True, eq=False)
class LabelledSegments:
    """One image of a split.

    Attributes:
        features: float64 [G, width], segment tokens.
        groups: [H, W], the segment of each pixel.
        mask: [H, W], class ids, or 255.
    """

    features: Floats
    groups: Ids
    mask: Ids


def dissect(
    model: GroupViT,
    dataset: DatasetParams,
    inference: InferenceParams,
    params: DissectParams,
    raw_root: Path,
    *,
    batch: int = 8,
    progress: bool = False,
) -> dict[str, DatasetScores]:
    """Score grouping and alignment of a model on one dataset.

    Args:
        model: on any device.
        dataset: what to score; features for the bank come from its training split.
        inference: the square's side is `window`; alignment uses the windows of inference.
        params: K, and how many features are kept.
        raw_root: folder with the layout of the dataset's own archive.
        batch: windows in a pass of the model.
        progress: whether to show progress bars.

    Returns:
        Scores by name: `k5` ... (visual grouping for each K), `alignment`, and for a protocol with background
        the same with `_wb`: without it, its pixels neither scored nor known to the bank.

    Raises:
        RegroupError: a file is missing or broken, a mask does not fit, or the bank is smaller than K.
    """
    protocol = load_protocol(dataset.protocol)
    with inference_mode(model):
        splits = {
            split: list(_segments(model, dataset, inference, raw_root, split, batch, progress))
            for split in ("train", dataset.split)
        }
        scores = _grouping(splits["train"], splits[dataset.split], protocol, dataset, inference, params)
        scores |= _alignment(model, protocol, dataset, inference, raw_root, batch, progress)
    return scores


def _segments(
    model: GroupViT,
    dataset: DatasetParams,
    inference: InferenceParams,
    raw_root: Path,
    split: str,
    batch: int,
    progress: bool,
) -> Iterator[LabelledSegments]:
    images = open_dataset(dataset, raw_root, split=split)
    found = encode_dataset(model, images, side=side_of(model, inference.window), batch=batch)
    for image in tqdm(found, f"segments, {split}", len(images), disable=not progress, unit="image"):
        yield LabelledSegments(image.tokens.double().cpu().numpy(), image.groups(), image.mask)


def _grouping(
    train: Sequence[LabelledSegments],
    val: Sequence[LabelledSegments],
    protocol: Protocol,
    dataset: DatasetParams,
    inference: InferenceParams,
    params: DissectParams,
) -> dict[str, DatasetScores]:
    scores = {}
    for without in (False, True) if protocol.background else (False,):
        bank = _bank(train, len(protocol.classes), params.features_per_class, without)
        for k, labels in _votes(bank, val, params.neighbours).items():
            counter = PixelCounter(protocol.classes)
            for image, ids in zip(val, labels.reshape(len(val), -1), strict=True):
                _count(counter, ids[image.groups], _mask(image.mask, without))
            what = {
                "analysis": "visual grouping",
                "neighbours": k,
                "bank": len(bank.features),
                "side": inference.window,
            }
            name = f"k{k}{WITHOUT if without else ''}"
            scores[name] = _scores(counter, protocol, dataset, len(val), without, what)
    return scores


def _bank(train: Sequence[LabelledSegments], classes: int, per_class: int, without: bool) -> Bank:
    return build_bank(
        (
            (
                image.features,
                soft_labels(image.groups, _mask(image.mask, without), len(image.features), classes),
            )
            for image in train
        ),
        per_class=per_class,
    )


def _votes(bank: Bank, val: Sequence[LabelledSegments], neighbours: Sequence[int]) -> dict[int, Integers]:
    """Labels of all segments of a split, image after image, for each K: one search for the largest."""
    queries = np.concatenate([image.features for image in val])
    return vote(bank, nearest(bank, queries, max(neighbours)), neighbours)


def _alignment(
    model: GroupViT,
    protocol: Protocol,
    dataset: DatasetParams,
    inference: InferenceParams,
    raw_root: Path,
    batch: int,
    progress: bool,
) -> dict[str, DatasetScores]:
    images = ProtocolDataset(
        protocol, raw_root, dataset.split, dataset.limit, pipeline=evaluation_pipeline(inference)
    )
    labels, decision = labels_of(dataset), decide(dataset, inference)
    roads = {False: labels}
    if protocol.background:
        roads[True] = Labels(labels.prompts, labels.ids[1:], background=False)
    counters = {without: PixelCounter(protocol.classes) for without in roads}
    classes = embed_prompts(model, labels.prompts)
    samples = tqdm(read_samples(images), "alignment", len(images), disable=not progress, unit="image")
    for mask, encoded in encode_images(model, classes, samples, inference, batch=batch):
        truth = mask.numpy().astype(np.uint8)
        for without, channels in roads.items():
            shown = _mask(truth, without)
            _count(counters[without], align(encoded, channels, decision, shown), shown)
    return {
        f"alignment{WITHOUT if without else ''}": _scores(
            counter,
            protocol,
            dataset,
            len(images),
            without,
            {**describe(protocol, dataset, inference, decision), "analysis": "visual-text alignment"},
        )
        for without, counter in counters.items()
    }


def _mask(mask: Ids, without: bool) -> Ids:
    """The mask, or without the background: its pixels are then like those that are not scored."""
    return np.where(mask == 0, np.uint8(IGNORED), mask) if without else mask


def _count(counter: PixelCounter, predicted: Any, mask: Ids) -> None:
    counter.add(torch.from_numpy(predicted.astype(np.int16)), torch.from_numpy(mask.astype(np.int32)))


def _scores(
    counter: PixelCounter,
    protocol: Protocol,
    dataset: DatasetParams,
    images: int,
    without: bool,
    what: Mapping[str, Any],
) -> DatasetScores:
    start = {"name": protocol.name, "title": protocol.title, "split": dataset.split}
    return DatasetScores(
        classes=protocol.classes,
        predictable=tuple(not (without and i == 0) for i in range(len(protocol.classes))),
        confusion=counter.confusion,
        images=images,
        iou_metric=counter.iou_metric(),
        protocol={**start, **what, "background": protocol.background and not without},
    )
