"""What a checkpoint's grouping and its alignment with text are worth, each on its own (section 5.4).

Visual grouping: segments of the validation split get the label of their nearest neighbours among segments of
the training split, in place of the model's own. Alignment: the model labels the regions of the ground truth.
What the thesis leaves open, and what is done here, is listed in docs/dissection.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from regroup.analysis.alignment import align
from regroup.analysis.neighbours import Bank, BankBuilder, Floats, nearest, soft_labels, vote
from regroup.analysis.segments import Ids, WholeImage, encode_dataset, open_dataset, side_of
from regroup.analysis.settings import DissectParams
from regroup.segmentation.evaluation import decide, describe, inference_mode
from regroup.segmentation.inference import encode_images
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.protocols import IGNORED, Protocol
from regroup.segmentation.resolved import ResolvedDataset, read_samples
from regroup.segmentation.scores import DatasetScores, PixelCounter
from regroup.segmentation.settings import DatasetParams, InferenceParams

if TYPE_CHECKING:
    from regroup.model import Backbone

WITHOUT = "_wb"
"""Ends the name of an analysis that leaves the background out, as Table 1 has it."""
GIVEN = "_given"
"""Ends the name of an alignment that is told where the background is, as the study's published code is."""

CHUNK = 64
"""Images whose neighbours are searched at once."""


def dissect(
    model: Backbone,
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
        the same with `_wb`: without it, its pixels neither scored nor known to the bank; and
        `alignment_given`: the background's region is labelled as such, whatever the model calls it.

    Raises:
        RegroupError: a file is missing or broken, a mask does not fit, or the bank is smaller than K.
    """
    scored = open_dataset(dataset, raw_root)
    with inference_mode(model):
        train = _encoded(model, scored.on("train"), inference, batch, progress)
        banks = build_banks(train, scored.protocol, params.features_per_class)
        val = _encoded(model, scored, inference, batch, progress)
        scores = _grouping(val, banks, scored, inference, params)
        scores |= _alignment(model, scored, inference, batch, progress)
    return scores


def build_banks(train: Iterable[WholeImage], protocol: Protocol, per_class: int) -> dict[bool, Bank]:
    """Banks of a training split: with background (False), and where there is one without it (True).

    Raises:
        RegroupError: no segment covers a scored pixel.
    """
    both = (False, True) if protocol.background else (False,)
    builders = {without: BankBuilder(per_class) for without in both}
    for image in train:
        features, groups = _features(image), image.segment_map()
        for without, builder in builders.items():
            mask = _mask(image.mask, without)
            builder.add(features, soft_labels(groups, mask, len(features), len(protocol.classes)))
    return {without: builder.build() for without, builder in builders.items()}


def _features(image: WholeImage) -> Floats:
    features: Floats = image.tokens.double().cpu().numpy()
    return features


def _encoded(
    model: Backbone, dataset: ResolvedDataset, inference: InferenceParams, batch: int, progress: bool
) -> Iterator[WholeImage]:
    found = encode_dataset(model, dataset, side=side_of(model, inference.window), batch=batch)
    title, images = f"segments, {dataset.split}", len(dataset.samples)
    yield from tqdm(found, title, images, disable=not progress, unit="image")


def _grouping(
    val: Iterator[WholeImage],
    banks: Mapping[bool, Bank],
    dataset: ResolvedDataset,
    inference: InferenceParams,
    params: DissectParams,
) -> dict[str, DatasetScores]:
    classes = dataset.protocol.classes
    counters = {(without, k): PixelCounter(classes) for without in banks for k in params.neighbours}
    images = 0
    while some := list(islice(val, CHUNK)):
        images += len(some)
        queries = np.concatenate([_features(image) for image in some])
        maps = [image.segment_map() for image in some]
        for without, bank in banks.items():
            truth = [_mask(image.mask, without) for image in some]
            # one search for the largest K serves all
            found = nearest(bank, queries, max(params.neighbours))
            for k, labels in vote(bank, found, params.neighbours).items():
                for ids, groups, mask in zip(labels.reshape(len(some), -1), maps, truth, strict=True):
                    _count(counters[without, k], ids[groups], mask)
    scores = {}
    for (without, k), counter in counters.items():
        what = {"analysis": "visual grouping", "neighbours": k, "bank": len(banks[without].features)}
        what["side"] = inference.window
        name = f"k{k}{WITHOUT if without else ''}"
        scores[name] = _scores(counter, dataset, images, without, what)
    return scores


def _alignment(
    model: Backbone, dataset: ResolvedDataset, inference: InferenceParams, batch: int, progress: bool
) -> dict[str, DatasetScores]:
    decision, images = decide(dataset, inference), len(dataset.samples)
    background, without = dataset.protocol.background, dataset.prompts.without_background()
    names = ("", WITHOUT, GIVEN) if background else ("",)
    counters = {name: PixelCounter(dataset.protocol.classes) for name in names}
    classes = embed_prompts(model, dataset.prompts.texts)
    samples = tqdm(read_samples(dataset, inference), "alignment", images, disable=not progress, unit="image")
    for mask, encoded in encode_images(model, classes, samples, inference, batch=batch):
        truth = mask.numpy().astype(np.uint8)
        found = align(encoded, dataset.prompts, decision, truth)
        _count(counters[""], found, truth)
        if background:
            _count(counters[GIVEN], np.where(truth == 0, 0, found), truth)
            shown = _mask(truth, without=True)
            _count(counters[WITHOUT], align(encoded, without, decision, shown), shown)
    what = {**describe(dataset, inference, decision), "analysis": "visual-text alignment"}
    return {
        f"alignment{name}": _scores(
            counter,
            dataset,
            images,
            name == WITHOUT,
            {**what, "background_region": "given"} if name == GIVEN else what,
        )
        for name, counter in counters.items()
    }


def _mask(mask: Ids, without: bool) -> Ids:
    """The mask, or without the background: its pixels are then like those that are not scored."""
    return np.where(mask == 0, np.uint8(IGNORED), mask) if without else mask


def _count(counter: PixelCounter, predicted: Any, mask: Ids) -> None:
    counter.add(torch.from_numpy(predicted.astype(np.int16)), torch.from_numpy(mask.astype(np.int32)))


def _scores(
    counter: PixelCounter,
    dataset: ResolvedDataset,
    images: int,
    without: bool,
    what: Mapping[str, Any],
) -> DatasetScores:
    protocol = dataset.protocol
    start = {"name": protocol.name, "title": protocol.title, "split": dataset.split}
    return DatasetScores(
        classes=protocol.classes,
        predictable=tuple(not (without and i == 0) for i in range(len(protocol.classes))),
        confusion=counter.confusion,
        images=images,
        iou_metric=counter.iou_metric(),
        protocol={**start, **what, "background": protocol.background and not without},
    )
