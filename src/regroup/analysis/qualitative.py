"""The qualitative figure of a profile: what several checkpoints see in the same images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from regroup.analysis.panels import Mask, PanelSample
from regroup.errors import RegroupError
from regroup.model import GroupViT
from regroup.segmentation.datasets import ProtocolDataset
from regroup.segmentation.evaluation import decide, inference_mode, labels_of
from regroup.segmentation.images import read_image, scale_image
from regroup.segmentation.inference import encode_images, label_maps
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.settings import DatasetParams, EvaluateParams


def qualitative_samples(
    models: Mapping[str, GroupViT],
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
    if dataset_name not in params.datasets:
        known = ", ".join(params.datasets)
        raise RegroupError(f"figures.datasets: no dataset `{dataset_name}` under evaluate.datasets ({known})")
    dataset = params.datasets[dataset_name]
    listing = ProtocolDataset(dataset.protocol, raw_root, dataset.split, dataset.limit)
    ignored = int(listing.ignore_index)
    samples: list[PanelSample] = []
    for index in range(len(listing)):
        if len(samples) == images:
            break
        truth: Mask = listing[index]["data_samples"].gt_sem_seg.data[0].numpy()
        if len(set(np.unique(truth).tolist()) - {ignored}) < 2:
            continue
        path = Path(listing.get_data_info(index)["img_path"])
        image = read_image(path)
        samples.append(
            PanelSample(
                image=image,
                truth=truth,
                predictions={name: predict(model, image, dataset, params) for name, model in models.items()},
                class_names=listing.metainfo["classes"],
                ignore_index=ignored,
                label=dataset_name,
            )
        )
    return samples


def predict(
    model: GroupViT, image: NDArray[np.uint8], dataset: DatasetParams, params: EvaluateParams
) -> Mask:
    """Label one RGB image [H, W, 3] as it is labelled when `dataset` is scored: class ids [H, W]."""
    labels = labels_of(dataset)
    with inference_mode(model):
        classes = embed_prompts(model, labels.prompts)
        scaled = torch.from_numpy(np.ascontiguousarray(scale_image(image, params).transpose(2, 0, 1)))
        [(_, encoded)] = encode_images(model, classes, [(None, scaled)], params, batch=8)
        [predicted] = label_maps(encoded, labels, [decide(dataset, params)], image.shape[:2])
    result: Mask = predicted.cpu().numpy()
    return result
