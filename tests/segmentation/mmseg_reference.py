"""Scores for reference: by mmseg's dataset, sliding window, postprocessing and metric, image by image."""

from __future__ import annotations

from pathlib import Path

from regroup.model import GroupViT
from regroup.segmentation.datasets import ProtocolDataset, evaluation_pipeline
from regroup.segmentation.mm import IoUMetric, quiet
from regroup.segmentation.resolved import resolve_dataset
from regroup.segmentation.segmentor import OpenVocabularySegmentor
from regroup.segmentation.settings import DatasetParams, InferenceParams


def mmseg_scores(
    model: GroupViT, dataset: DatasetParams, params: InferenceParams, root: Path
) -> tuple[dict[str, float], IoUMetric]:
    """Mmseg's test loop in small: its dataset, sliding window, postprocessing and metric, image by image."""
    images = ProtocolDataset(
        dataset.protocol, root, limit=dataset.limit, pipeline=evaluation_pipeline(params)
    )
    segmentor = OpenVocabularySegmentor(
        model,
        dataset.protocol,
        resolve_dataset(dataset, root).prompts,
        dataset.threshold,
        window=params.window,
        stride=params.stride,
        top_k=params.top_k,
    )
    with quiet():
        metric = IoUMetric(iou_metrics=["mIoU"], ignore_index=images.ignore_index)
        metric.dataset_meta = images.metainfo
        for sample in images:
            batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
            metric.process(batch, [result.to_dict() for result in segmentor.test_step(batch)])
        areas = list(metric.results)  # evaluating empties the list
        scores = metric.evaluate(len(images))
    metric.results = areas
    return {key: round(float(scores[key]), 2) for key in ("mIoU", "mAcc", "aAcc")}, metric
