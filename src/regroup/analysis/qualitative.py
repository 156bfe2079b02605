"""What several checkpoints see in the same images: samples for qualitative panels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from regroup.analysis.alignment import align
from regroup.analysis.neighbours import Bank, nearest, vote
from regroup.analysis.panels import Mask, PanelSample, Picture
from regroup.analysis.segments import WholeImage, encode_squares, open_dataset, side_of, square
from regroup.model import Backbone
from regroup.segmentation.evaluation import decide, inference_mode
from regroup.segmentation.images import scale_image
from regroup.segmentation.inference import EncodedImage, encode_images, label_maps
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.resolved import ResolvedDataset
from regroup.segmentation.settings import EvaluateParams


def numbered_images(dataset: ResolvedDataset) -> Iterator[tuple[Picture, Picture]]:
    """RGB image [H, W, 3] and mask [H, W] of each sample of `open_dataset`, in its order."""
    for number in range(len(dataset.samples)):
        mask, image = dataset.read(number)
        yield image, mask.astype(np.uint8)


def telling_images(dataset: ResolvedDataset, count: int) -> list[tuple[Picture, Picture]]:
    """The first images that show at least two classes, with their masks; fewer if the dataset has fewer."""
    found: list[tuple[Picture, Picture]] = []
    for image, mask in numbered_images(dataset):
        if len(found) == count:
            break
        if len(set(np.unique(mask).tolist()) - {dataset.protocol.ignored}) >= 2:
            found.append((image, mask))
    return found


def qualitative_samples(
    models: Mapping[str, Backbone],
    params: EvaluateParams,
    dataset_name: str,
    raw_root: Path,
    *,
    images: int,
) -> list[PanelSample]:
    """Predict the first images of a dataset that show at least two classes.

    Args:
        models: column heading -> model.
        params: inference settings and datasets.
        dataset_name: a key of `params.datasets`.
        raw_root: folder with the layout of the dataset's own archive.
        images: rows wanted; fewer come back when the dataset has fewer.

    Raises:
        RegroupError: no such dataset, or one of its files is missing or broken.
    """
    dataset = open_dataset(params.chosen([dataset_name], "figures.datasets")[dataset_name], raw_root)
    return [
        panel_sample(dataset, image, mask, _predictions(models, image, dataset, params), dataset_name)
        for image, mask in telling_images(dataset, images)
    ]


def low_iou_samples(
    models: Mapping[str, Backbone],
    params: EvaluateParams,
    dataset_name: str,
    raw_root: Path,
    classes: Sequence[str],
) -> list[PanelSample]:
    """One image for each class: the first in which it takes 3% or more, or else the one it takes most of."""
    dataset = open_dataset(params.chosen([dataset_name], "figures.compared")[dataset_name], raw_root)
    wanted = {dataset.protocol.classes.index(name): name for name in classes}
    best: dict[int, tuple[float, Picture, Picture]] = {}
    for image, mask in numbered_images(dataset):
        for label in wanted:
            share = min(float((mask == label).mean()), 0.03)
            if share > best.get(label, (0.0,))[0]:
                best[label] = (share, image, mask)
    return [
        panel_sample(dataset, image, mask, _predictions(models, image, dataset, params), name)
        for label, name in wanted.items()
        if label in best
        for _, image, mask in [best[label]]
    ]


def dissection_samples(
    model: Backbone,
    params: EvaluateParams,
    dataset_name: str,
    raw_root: Path,
    bank: Bank,
    neighbours: int,
    *,
    images: int,
) -> list[PanelSample]:
    """Grouping alone, alignment alone, and both together, on the first telling images (Figure 12)."""
    dataset = open_dataset(params.chosen([dataset_name], "figures.dissected")[dataset_name], raw_root)
    prompts, decision = dataset.prompts, decide(dataset, params)
    samples = []
    side = side_of(model, params.window)
    for image, mask in telling_images(dataset, images):
        with inference_mode(model):
            [whole] = encode_squares(model, [(mask, square(image, side))])
            encoded = encode(model, image, dataset, params)
        [original] = label_maps(encoded, prompts, [decision], mask.shape)
        predictions = {
            "alignment alone": align(encoded, prompts, decision, mask),
            "grouping alone": by_neighbours(whole, bank, neighbours),
            "both": original.cpu().numpy(),
        }
        samples.append(panel_sample(dataset, image, mask, predictions, dataset_name))
    return samples


def by_neighbours(image: WholeImage, bank: Bank, neighbours: int) -> Mask:
    """Class ids [H, W]: each segment's by its nearest neighbours (section 5.4.1)."""
    queries = image.tokens.double().cpu().numpy()
    labels = vote(bank, nearest(bank, queries, neighbours), [neighbours])[neighbours]
    found: Mask = labels[image.segment_map()]
    return found


def panel_sample(
    dataset: ResolvedDataset, image: Picture, mask: Picture, predictions: Mapping[str, Mask], label: str
) -> PanelSample:
    """A row of a panel, with the dataset's class names."""
    return PanelSample(
        image=image,
        truth=mask,
        predictions=predictions,
        class_names=dataset.protocol.classes,
        ignore_index=dataset.protocol.ignored,
        label=label,
    )


def _predictions(
    models: Mapping[str, Backbone], image: Picture, dataset: ResolvedDataset, params: EvaluateParams
) -> dict[str, Mask]:
    return {name: predict(model, image, dataset, params) for name, model in models.items()}


def encode(
    model: Backbone, image: NDArray[np.uint8], dataset: ResolvedDataset, params: EvaluateParams
) -> EncodedImage:
    """All windows of one RGB image [H, W, 3], as they are encoded when `dataset` is scored."""
    with inference_mode(model):
        classes = embed_prompts(model, dataset.prompts.texts)
        scaled = torch.from_numpy(np.ascontiguousarray(scale_image(image, params).transpose(2, 0, 1)))
        [(_, encoded)] = encode_images(model, classes, [(None, scaled)], params, batch=8)
    return encoded


def predict(
    model: Backbone, image: NDArray[np.uint8], dataset: ResolvedDataset, params: EvaluateParams
) -> Mask:
    """Label one RGB image [H, W, 3] as it is labelled when `dataset` is scored: class ids [H, W]."""
    encoded = encode(model, image, dataset, params)
    [predicted] = label_maps(encoded, dataset.prompts, [decide(dataset, params)], image.shape[:2])
    result: Mask = predicted.cpu().numpy()
    return result
